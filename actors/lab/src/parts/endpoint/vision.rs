//! Images in chat, and images made by an endpoint.
//!
//! On the tape an image is its digest, `blake3:…`, in place of its bytes: questions about ten thousand images are recorded in some
//! megabytes. So a request is named by what it shows, and a replay needs no image to be answered. An image that an endpoint made is
//! put into the store before its digest goes onto the tape.
//!
//! Wire: `POST /chat/completions` with content parts `image_url` (a `data:` URL) and `text`; `POST /images/generations`, answered
//! with `data[0].b64_json`.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use tracker_store::Digest;

use super::{Api, Endpoint, Posting, Told, failed, read_answers, shorten};
use crate::error::{Error, Result};

/// How an image is told on the tape.
const KEPT: &str = "blake3:";

/// An image to show: the file, and the digest it has in the store.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Its digest.
    pub digest: Digest,
    /// PNG, JPEG or WebP.
    pub bytes: Arc<[u8]>,
}

impl Picture {
    /// The media type, by how the file begins.
    ///
    /// # Errors
    /// `Input` if it is no image that vision models take.
    pub fn media_type(bytes: &[u8]) -> Result<&'static str> {
        match bytes {
            [0x89, b'P', b'N', b'G', ..] => Ok("image/png"),
            [0xff, 0xd8, 0xff, ..] => Ok("image/jpeg"),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok("image/webp"),
            _ => Err(Error::Input {
                what: format!("expected a PNG, JPEG or WebP image, got {} bytes of something else", bytes.len()),
                hint: None,
            }),
        }
    }

    fn url(&self) -> Result<String> {
        Ok(format!("data:{};base64,{}", Self::media_type(&self.bytes)?, STANDARD.encode(&self.bytes)))
    }
}

/// A question to a model that sees, with an image or without.
#[derive(Clone, Debug)]
pub struct Look {
    /// The question as it stands.
    pub question: String,
    /// What is shown, before the question.
    pub picture: Option<Picture>,
    /// Temperature, ≥ 0.
    pub temperature: f64,
    /// Longest answer, in tokens.
    pub max_tokens: u32,
    /// Seed.
    pub seed: u64,
}

/// What a model said of what it saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Its answer.
    pub text: String,
    /// Tokens of the answer, where the server says.
    pub n_tokens: Option<u32>,
    /// The server's reason to stop, such as `stop` or `length`.
    pub finish: String,
    /// The model that answered, as the server reports it; empty if it does not.
    pub model: String,
    /// Seconds until the answer was there; none for one that was on the tape already.
    pub secs: Option<f64>,
}

/// A request for an image.
#[derive(Clone, Debug)]
pub struct Paint {
    /// What is to be seen.
    pub prompt: String,
    /// Width and height as the server takes them: `512x512`.
    pub size: String,
    /// Seed, for servers that take one.
    pub seed: Option<u64>,
    /// Whether to ask for the bytes by `response_format`, which some servers insist on and some refuse.
    pub ask_b64: bool,
}

/// An image that an endpoint made.
#[derive(Clone, Debug, PartialEq)]
pub struct Painted {
    /// The digest of its file in the store.
    pub digest: Digest,
    /// What the server made of the prompt, if it says so.
    pub revised_prompt: String,
}

impl Endpoint {
    /// Answers a question about an image.
    ///
    /// # Errors
    /// `Value` if the endpoint does not chat; as [`Endpoint::complete`].
    pub async fn look(&self, look: &Look) -> Result<Seen> {
        if self.settings.api != Api::Chat {
            let message = "expected `chat`, which takes images, got `completions`".to_owned();
            return Err(Error::Value { key: format!("{}.api", self.section), message });
        }
        let shown = look.picture.as_ref().map(|picture| format!("{KEPT}{}", picture.digest));
        let kept = self.looking(look, shown.as_deref());
        let sent = || match &look.picture {
            None => Ok(None),
            Some(picture) => Ok(Some(self.looking(look, Some(&picture.url()?)))),
        };
        let posting = Posting { url: self.route(), kept: &kept, sent: &sent, settle: &Ok };
        let is_known = self.tape.answer(&self.name, &kept)?.is_some();
        let begun = Instant::now();
        let read = |response: &Json| {
            let answer = read_answers(Api::Chat, response)?.into_iter().next();
            let answer = answer.ok_or_else(|| format!("expected an answer, got `{}`", shorten(response)))?;
            Ok((answer, response["model"].as_str().unwrap_or_default().to_owned()))
        };
        match self.exchange_at(&posting, read).await? {
            Told::Refused(what) => Err(failed(&posting.url, what)),
            Told::Answer((answer, model)) => Ok(Seen {
                text: answer.text,
                n_tokens: answer.n_tokens,
                finish: answer.finish,
                model,
                secs: (!is_known).then(|| begun.elapsed().as_secs_f64()),
            }),
        }
    }

    fn looking(&self, look: &Look, url: Option<&str>) -> Json {
        let text = json!({"type": "text", "text": look.question});
        let content = match url {
            Some(url) => json!([{"type": "image_url", "image_url": {"url": url}}, text]),
            None => json!(look.question),
        };
        json!({
            "model": self.settings.model,
            "n": 1,
            "seed": look.seed & 0x7fff_ffff,
            "temperature": look.temperature,
            "max_tokens": look.max_tokens,
            "messages": [{"role": "user", "content": content}],
        })
    }

    /// An image of what a prompt says. `keep` puts its bytes where they last, and gives their digest; it is called before the
    /// exchange is kept, and not at all for an image that the tape knows.
    ///
    /// # Errors
    /// As [`Endpoint::complete`]; those of `keep`.
    pub async fn paint(&self, paint: &Paint, keep: &(dyn Fn(&[u8]) -> Result<Digest> + Sync)) -> Result<Painted> {
        let mut kept = json!({"model": self.settings.model, "prompt": paint.prompt, "n": 1, "size": paint.size});
        if paint.ask_b64 {
            kept["response_format"] = json!("b64_json");
        }
        if let Some(seed) = paint.seed {
            kept["seed"] = json!(seed & 0x7fff_ffff);
        }
        let url = self.url("images/generations");
        let settle = |mut response: Json| {
            let wrong = |what: String| failed(&url, what);
            let coded = response["data"][0]["b64_json"].as_str();
            let coded =
                coded.ok_or_else(|| wrong(format!("expected `data[0].b64_json`, got `{}`", shorten(&response))))?;
            let bytes =
                STANDARD.decode(coded).map_err(|error| wrong(format!("`data[0].b64_json` is no base64: {error}")))?;
            Picture::media_type(&bytes).map_err(|error| wrong(error.to_string()))?;
            response["data"][0]["b64_json"] = json!(format!("{KEPT}{}", keep(&bytes)?));
            Ok(response)
        };
        let posting = Posting { url: url.clone(), kept: &kept, sent: &|| Ok(None), settle: &settle };
        let read = |response: &Json| {
            let image = &response["data"][0];
            let digest = image["b64_json"].as_str().and_then(|text| text.strip_prefix(KEPT)?.parse().ok());
            let digest = digest.ok_or_else(|| format!("expected a kept image, got `{}`", shorten(response)))?;
            Ok(Painted { digest, revised_prompt: image["revised_prompt"].as_str().unwrap_or_default().to_owned() })
        };
        match self.exchange_at(&posting, read).await? {
            Told::Answer(painted) => Ok(painted),
            Told::Refused(what) => Err(failed(&url, what)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{open, server, settings};
    use super::super::{Recorded, Tape};
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::Ordering;
    use tracker_actors::Cancel;

    const PNG: &[u8] = &[0x89, b'P', b'N', b'G', 1, 2, 3];

    fn look(picture: Option<Picture>) -> Look {
        Look { question: "What colour?".into(), picture, temperature: 0.0, max_tokens: 30, seed: 7 }
    }

    fn picture() -> Picture {
        Picture { digest: Digest::of(PNG), bytes: PNG.into() }
    }

    #[tokio::test]
    async fn an_image_is_sent_whole_and_kept_as_its_digest() {
        let said = json!({"model": "m-2024", "usage": {"completion_tokens": 4},
            "choices": [{"message": {"content": "red"}, "finish_reason": "length"}]});
        let (url, calls, bodies) = server(vec![(200, said.to_string())]).await;
        let endpoint = open(&url, Api::Chat);
        let seen = endpoint.look(&look(Some(picture()))).await.unwrap();
        let expected = ("red", Some(4), "length", "m-2024");
        assert_eq!((seen.text.as_str(), seen.n_tokens, seen.finish.as_str(), seen.model.as_str()), expected);
        assert!(seen.secs.is_some_and(|secs| secs > 0.0));
        let sent = bodies.lock().unwrap()[0].clone();
        let parts = &sent["messages"][0]["content"];
        let coded = parts[0]["image_url"]["url"].as_str().unwrap().strip_prefix("data:image/png;base64,").unwrap();
        assert_eq!(STANDARD.decode(coded).unwrap(), PNG);
        assert_eq!((&parts[1]["text"], &sent["max_tokens"]), (&json!("What colour?"), &json!(30)));
        let kept = endpoint.tape.text().unwrap().unwrap();
        assert!(kept.contains(&format!("blake3:{}", Digest::of(PNG))) && !kept.contains("base64"), "{kept}");

        // A replay needs neither the server nor the bytes.
        let tape = Tape::open(None, Some(Recorded::parse("r", &kept).unwrap())).unwrap();
        let replayed = Endpoint::new("m", settings(&url, Api::Chat), Arc::new(tape), Cancel::new()).unwrap();
        let empty = Picture { bytes: [].into(), ..picture() };
        let again = replayed.look(&look(Some(empty))).await.unwrap();
        assert_eq!(again, Seen { secs: None, ..seen });
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        // Without an image the question is the message.
        endpoint.look(&look(None)).await.unwrap();
        assert_eq!(bodies.lock().unwrap()[1]["messages"][0]["content"], "What colour?");
    }

    #[tokio::test]
    async fn what_is_no_image_and_an_api_without_images_are_refused() {
        let endpoint = open("http://127.0.0.1:1/v1", Api::Chat);
        let text = Picture { bytes: b"GIF89a"[..].into(), ..picture() };
        assert!(endpoint.look(&look(Some(text))).await.unwrap_err().to_string().contains("PNG"));
        let error = open("http://127.0.0.1:1/v1", Api::Completions).look(&look(None)).await.unwrap_err();
        assert!(error.is_input() && error.to_string().contains("endpoint.api"), "{error}");
    }

    #[tokio::test]
    async fn a_painted_image_is_stored_before_its_digest_is_kept() {
        let made = json!({"created": 1, "data": [{"b64_json": STANDARD.encode(PNG), "revised_prompt": "a red thing"}]});
        let (url, calls, bodies) = server(vec![(200, made.to_string()), (200, "{\"data\": []}".into())]).await;
        let endpoint = open(&url, Api::Chat);
        let paint = Paint { prompt: "red".into(), size: "64x64".into(), seed: Some(3), ask_b64: true };
        let stored = Mutex::new(Vec::new());
        let keep = |bytes: &[u8]| {
            stored.lock().unwrap().push(bytes.to_vec());
            Ok(Digest::of(bytes))
        };
        let painted = endpoint.paint(&paint, &keep).await.unwrap();
        assert_eq!(painted, Painted { digest: Digest::of(PNG), revised_prompt: "a red thing".into() });
        assert_eq!(endpoint.paint(&paint, &keep).await.unwrap(), painted);
        assert_eq!((calls.load(Ordering::SeqCst), stored.lock().unwrap().as_slice()), (1, &[PNG.to_vec()][..]));
        let sent = bodies.lock().unwrap()[0].clone();
        assert_eq!(
            (&sent["size"], &sent["seed"], &sent["response_format"]),
            (&json!("64x64"), &json!(3), &json!("b64_json"))
        );
        let other = Paint { prompt: "blue".into(), ..paint };
        assert!(endpoint.paint(&other, &keep).await.unwrap_err().to_string().contains("b64_json"));
    }
}
