use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A server on the loopback that answers from a script of (status, body), the last one for ever.
pub(super) async fn server(script: Vec<(u16, String)>) -> (String, Arc<AtomicUsize>, Arc<Mutex<Vec<Json>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (calls, bodies) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (n, seen) = (calls.clone(), bodies.clone());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut text = Vec::new();
            let mut chunk = [0; 4096];
            loop {
                let got = socket.read(&mut chunk).await.unwrap();
                text.extend_from_slice(&chunk[..got]);
                let all = String::from_utf8_lossy(&text).to_string();
                if let Some((head, body)) = all.split_once("\r\n\r\n") {
                    let length =
                        head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
                    if body.len() >= length.unwrap_or(0) {
                        seen.lock().unwrap().push(serde_json::from_str(body).unwrap_or(Json::Null));
                        break;
                    }
                }
            }
            let call = n.fetch_add(1, Ordering::SeqCst);
            let (status, body) = &script[call.min(script.len() - 1)];
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\nretry-after: 0\r\n\r\n",
                body.len()
            );
            socket.write_all(head.as_bytes()).await.unwrap();
            socket.write_all(body.as_bytes()).await.unwrap();
        }
    });
    (url, calls, bodies)
}

pub(super) fn settings(url: &str, api: Api) -> EndpointSettings {
    EndpointSettings {
        url: url.into(),
        model: "m".into(),
        api,
        attempts: 3,
        timeout_secs: 5,
        ..EndpointSettings::default()
    }
}

fn request(n: u32) -> Request {
    Request {
        prompt: "p".into(),
        n,
        seed: 7,
        temperature: 1.0,
        top_p: 0.95,
        max_tokens: 8,
        stop: vec![],
        system: String::new(),
    }
}

pub(super) fn open(url: &str, api: Api) -> Endpoint {
    Endpoint::new("endpoint", settings(url, api), Arc::default(), Cancel::new()).unwrap()
}

fn one(text: &str) -> String {
    json!({"choices": [{"text": text, "finish_reason": "stop", "logprobs": {"token_logprobs": [-0.5, -0.25]}}]})
        .to_string()
}

#[tokio::test]
async fn a_server_that_gives_one_choice_is_asked_until_there_are_n() {
    let (url, calls, bodies) = server(vec![(200, one("a")), (200, one("b"))]).await;
    let endpoint = open(&url, Api::Completions);
    let answers = endpoint.complete(&request(2)).await.unwrap();
    assert_eq!(answers.iter().map(|a| a.text.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((answers[0].n_tokens, answers[0].sum_logprob), (Some(2), Some(-0.75)));
    let seeds: Vec<_> = bodies.lock().unwrap().iter().map(|b| (b["n"].clone(), b["seed"].clone())).collect();
    assert_eq!(seeds, [(json!(2), json!(7)), (json!(1), json!(8))]);

    // The recording answers the same, without a call.
    let recorded = Recorded::parse("recording", &endpoint.tape.text().unwrap().unwrap()).unwrap();
    let recording = Tape::open(None, Some(recorded)).unwrap();
    let replayed =
        Endpoint::new("endpoint", settings(&url, Api::Completions), Arc::new(recording), Cancel::new()).unwrap();
    assert_eq!(replayed.complete(&request(2)).await.unwrap(), answers);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    let other = Request { prompt: "q".into(), ..request(2) };
    assert!(replayed.complete(&other).await.unwrap_err().to_string().contains("never recorded"));
}

#[tokio::test]
async fn overload_is_retried_and_a_refusal_is_not() {
    let (url, calls, _) = server(vec![(429, "busy".into()), (500, "broken".into()), (200, one("ok"))]).await;
    let endpoint = open(&url, Api::Completions);
    assert_eq!(endpoint.complete(&request(1)).await.unwrap()[0].text, "ok");
    assert_eq!(calls.load(Ordering::SeqCst), 3);

    let (url, calls, _) = server(vec![(400, "no such model".into())]).await;
    let refusing = open(&url, Api::Completions);
    let error = refusing.complete(&request(1)).await.unwrap_err().to_string();
    assert!(error.contains("no such model"), "{error}");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn chat_answers_and_nonsense_are_told_apart() {
    let chat = json!({"choices": [{"message": {"content": "hi"}, "finish_reason": "length"}], "usage": {"completion_tokens": 5}});
    let silent = json!({"choices": [{"message": {"content": null}, "finish_reason": "content_filter"}]});
    let (url, _, bodies) =
        server(vec![(200, chat.to_string()), (200, silent.to_string()), (200, "<html>".into())]).await;
    let endpoint = open(&url, Api::Chat);
    let answers = endpoint.complete(&request(1)).await.unwrap();
    assert_eq!((answers[0].text.as_str(), answers[0].n_tokens, answers[0].sum_logprob), ("hi", Some(5), None));
    assert_eq!(bodies.lock().unwrap()[0]["messages"][0]["content"], "p");
    let silent = Request { prompt: "s".into(), ..request(1) };
    assert_eq!(endpoint.complete(&silent).await.unwrap()[0].finish, "content_filter");
    let other = Request { prompt: "q".into(), ..request(1) };
    assert!(endpoint.complete(&other).await.unwrap_err().to_string().contains("expected JSON"));
    assert!(endpoint.probe().await.is_err());
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_found_by_the_probe() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let endpoint = open(&url, Api::Completions);
    assert!(endpoint.probe().await.unwrap_err().to_string().contains(&url));
    let error = Endpoint::new("judge", settings("localhost:1", Api::Chat), Arc::default(), Cancel::new())
        .unwrap_err()
        .to_string();
    assert!(error.contains("judge.url"), "{error}");
}
