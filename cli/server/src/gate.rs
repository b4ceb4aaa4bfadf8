//! Who is let in: by token, by the name the server was called, and by the page a browser was sent from.

use actix_web::http::header::{self, HeaderMap};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Answer, Code, Refusal};

/// What requests are held against.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    /// The token that must come with every request.
    pub(crate) token: Option<String>,
    /// Names under which the server may be called; none allows every name.
    pub(crate) hosts: Option<Vec<String>>,
}

impl Gate {
    /// Lets a request pass, or says why not. `path` is the path of its URL.
    pub(crate) fn check(&self, method: &str, path: &str, headers: &HeaderMap) -> Answer<()> {
        self.check_host(headers)?;
        check_origin(method, headers)?;
        if path == "/health" { Ok(()) } else { self.check_token(headers) }
    }

    /// A page of another site that had its name lead here is refused: the name is another.
    fn check_host(&self, headers: &HeaderMap) -> Answer<()> {
        let Some(hosts) = &self.hosts else { return Ok(()) };
        let host = text(headers, header::HOST).unwrap_or("");
        if hosts.iter().any(|name| name.eq_ignore_ascii_case(without_port(host))) {
            return Ok(());
        }
        Err(Refusal::new(
            Code::PermissionDenied,
            "Invalid Host header: this server is called by another name than those it may be called by.",
        ))
    }

    fn check_token(&self, headers: &HeaderMap) -> Answer<()> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = text(headers, header::AUTHORIZATION).unwrap_or("");
        let (scheme, value) = given.split_once(' ').unwrap_or(("", ""));
        let is_it = match scheme.to_ascii_lowercase().as_str() {
            "bearer" => is_same(value.trim().as_bytes(), token.as_bytes()),
            // The user is whoever it says; the password is the token.
            "basic" => STANDARD.decode(value.trim()).is_ok_and(|pair| {
                let colon = pair.iter().position(|byte| *byte == b':').unwrap_or(pair.len());
                is_same(pair.get(colon + 1..).unwrap_or_default(), token.as_bytes())
            }),
            _ => false,
        };
        if is_it {
            return Ok(());
        }
        Err(Refusal::new(Code::Unauthenticated, "A valid token is required: as Bearer, or as the password of Basic."))
    }
}

/// A browser says which page a request comes from; one of another site is refused, unless it only reads: what it reads stays from it.
fn check_origin(method: &str, headers: &HeaderMap) -> Answer<()> {
    if matches!(method, "GET" | "HEAD") {
        return Ok(());
    }
    let cross =
        |what: &str| Err(Refusal::new(Code::PermissionDenied, format!("Cross-origin request blocked: {what}.")));
    if text(headers, header::HeaderName::from_static("sec-fetch-site")) == Some("cross-site") {
        return cross("it comes from a page of another site");
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or("");
    let host = text(headers, header::HOST).unwrap_or("");
    let (_, authority) = origin.split_once("://").unwrap_or(("", ""));
    if !authority.is_empty() && authority.eq_ignore_ascii_case(host) {
        Ok(())
    } else {
        cross("its origin is not this server")
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The name in `name:port`, `[address]:port` or `name`.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

/// Whether two texts are the same, in a time that does not tell where they differ.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let differs = a.iter().zip(b.iter().cycle()).fold(0, |differs, (a, b)| differs | (a ^ b));
    (differs == 0) & (a.len() == b.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn local() -> Gate {
        Gate { token: None, hosts: Some(vec!["localhost".into(), "127.0.0.1".into(), "::1".into()]) }
    }

    #[test]
    fn a_rebound_name_is_refused() {
        for host in ["localhost:5000", "127.0.0.1:5000", "LOCALHOST", "[::1]:5000"] {
            local().check("POST", "/x", &headers(&[("host", host)])).unwrap();
        }
        for host in ["evil.example", "evil.example:5000", "127.0.0.1.evil.example", ""] {
            let refusal = local().check("GET", "/x", &headers(&[("host", host)])).unwrap_err();
            assert_eq!(refusal.status().as_u16(), 403, "{host}");
        }
    }

    #[test]
    fn a_post_from_a_page_of_another_site_is_refused() {
        let check = |method: &str, pairs: &[(&'static str, &str)]| {
            let host = [("host", "localhost:5000")];
            local().check(method, "/x", &headers(&[&host, pairs].concat())).is_ok()
        };
        assert!(check("POST", &[]) && check("POST", &[("origin", "http://localhost:5000")]));
        assert!(!check("POST", &[("origin", "http://evil.example")]) && !check("POST", &[("origin", "null")]));
        assert!(!check("POST", &[("origin", "http://localhost:6000")]));
        assert!(!check("DELETE", &[("sec-fetch-site", "cross-site")]));
        assert!(check("GET", &[("origin", "http://evil.example")]));
    }

    #[test]
    fn only_the_token_opens_as_bearer_or_as_password() {
        let gate = Gate { token: Some("s3cret".into()), hosts: None };
        let check = |value: &str| gate.check("GET", "/x", &headers(&[("authorization", value)])).is_ok();
        assert!(check("Bearer s3cret") && check("bearer s3cret"));
        assert!(check(&format!("Basic {}", STANDARD.encode("anyone:s3cret"))));
        for value in ["", "Bearer", "Bearer s3cre", "Bearer s3crets", "Bearer s3creT", "s3cret", "Basic s3cret"] {
            assert!(!check(value), "{value}");
        }
        assert!(
            !check(&format!("Basic {}", STANDARD.encode("s3cret:")))
                && !check(&format!("Basic {}", STANDARD.encode("s3cret")))
        );
        let refusal = gate.check("GET", "/x", &headers(&[])).unwrap_err();
        assert_eq!(refusal.status().as_u16(), 401);
        assert!(!String::from_utf8(refusal.body()).unwrap().contains("s3cret"));
        gate.check("GET", "/health", &headers(&[])).unwrap();
    }
}
