//! A small client for tests: one connection, requests as they are on the wire, answers whole.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    /// Sent with every request.
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        Self { stream: BufReader::new(stream), headers: vec![("Host", "localhost".to_owned())] }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    pub(crate) fn request(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> std::io::Result<Reply> {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in &self.headers {
            for part in [name, ": ", value, "\r\n"] {
                head.push_str(part);
            }
        }
        head.push_str("\r\n");
        self.send(&[head.as_bytes(), body].concat())?;
        self.reply()
    }

    /// Posts JSON below `/api/2.0/mlflow`; the answer must be good.
    pub(crate) fn post(&mut self, path: &str, body: &Value) -> Value {
        let reply = self.ask("POST", path, body);
        assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
        reply.json()
    }

    /// Any request with JSON below `/api/2.0/mlflow`.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &Value) -> Reply {
        self.request(method, &format!("/api/2.0/mlflow/{path}"), "application/json", body.to_string().as_bytes())
            .unwrap()
    }

    pub(crate) fn get(&mut self, path: &str) -> Reply {
        self.request("GET", path, "", b"").unwrap()
    }

    pub(crate) fn put(&mut self, path: &str, body: &[u8]) -> Reply {
        self.request("PUT", &format!("/api/2.0/mlflow-artifacts/artifacts/{path}"), "text/plain", body).unwrap()
    }

    /// Reads an answer.
    pub(crate) fn reply(&mut self) -> std::io::Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{line}"));
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
                None => break,
            }
        }
        let mut reply = Reply { status, headers, body: Vec::new() };
        if let Some(length) = reply.header("content-length").map(|length| length.parse().unwrap()) {
            reply.body = vec![0; length];
            self.stream.read_exact(&mut reply.body)?;
        } else if reply.header("transfer-encoding").is_some() {
            loop {
                line.clear();
                self.stream.read_line(&mut line)?;
                let n = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
                let start = reply.body.len();
                reply.body.resize(start + n, 0);
                self.stream.read_exact(&mut reply.body[start..])?;
                self.stream.read_line(&mut line)?;
                if n == 0 {
                    break;
                }
            }
        }
        Ok(reply)
    }
}
