//! Where an answer ends, and how likely its tokens were.

use tracker_lm::Lm;

use crate::error::Result;

/// Signs that end a sentence, and with it an answer; a line break ends one too.
const ENDS: [char; 8] = ['.', '。', '．', '।', '۔', '։', '\n', '\r'];

/// Whether an answer ends at this sign.
pub(super) fn is_end(sign: char) -> bool {
    ENDS.contains(&sign)
}

/// An answer, as far as it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// The text up to the first sign that ends a sentence, or all of it if there is none, without blanks around it. What comes
    /// before the first word does not count, so that a line break there ends nothing.
    pub text: String,
    /// How many tokens that takes; of an empty answer the one token that ends it, if there is one.
    pub n_tokens: usize,
}

impl Answered {
    /// The answer in an output of which each token's text is known, in order: `tokens` put together are the output.
    #[must_use]
    pub fn of_tokens<T: AsRef<str>>(tokens: &[T]) -> Self {
        let mut output = String::new();
        for (at, token) in tokens.iter().map(AsRef::as_ref).enumerate() {
            output.push_str(token);
            let start = output.len() - output.trim_start().len();
            if let Some(end) = output[start..].find(is_end) {
                let answer = output[start..start + end].trim_end();
                // A token may bring the last letters of the answer with the sign.
                let before = &output[..output.len() - token.len()];
                let is_within = answer.len() > before.trim().len() || answer.is_empty();
                return Self { text: answer.to_owned(), n_tokens: if is_within { at + 1 } else { at } };
            }
        }
        Self { text: output.trim().to_owned(), n_tokens: tokens.len() }
    }

    /// The answer in an output whose tokens are not known.
    #[must_use]
    pub fn of_text(output: &str) -> String {
        Self::of_tokens(&[output]).text
    }
}

/// The text that each token adds to those before it; together they are the text of all. Half a character belongs to the token that
/// completes it.
///
/// # Errors
/// Of the tokenizer.
pub fn token_texts(model: &Lm, ids: &[u32]) -> Result<Vec<String>> {
    let mut before = String::new();
    let mut all = Vec::with_capacity(ids.len());
    for end in 1..=ids.len() {
        let text = model.tokenizer().decode(&ids[..end])?;
        if text.ends_with('\u{fffd}') {
            all.push(String::new());
            continue;
        }
        all.push(text.strip_prefix(&before).unwrap_or("").to_owned());
        before = text;
    }
    Ok(all)
}

/// exp of the mean of log-probabilities, in [0, 1]; 0 of none, since nothing was said.
#[must_use]
pub fn geometric_mean(log_probs: &[f64]) -> f64 {
    if log_probs.is_empty() {
        return 0.0;
    }
    libm::exp(log_probs.iter().sum::<f64>() / log_probs.len() as f64).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tokens: &[&str]) -> (String, usize) {
        let Answered { text, n_tokens } = Answered::of_tokens(tokens);
        (text, n_tokens)
    }

    #[test]
    fn an_answer_ends_at_the_first_sign_that_ends_a_sentence() {
        for (tokens, text, n_tokens) in [
            (&[" Paris", ".", " Are"][..], "Paris", 1),
            (&[" New", " York", ".", " x"], "New York", 2),
            // The sign comes with letters, or after a blank of its own.
            (&[" Par", "is. A"], "Paris", 2),
            (&[" Paris", " ", ".", "x"], "Paris", 2),
            // Nothing ends it: all of it counts, and no letter is cut off.
            (&[" Par", "is"], "Paris", 2),
            // It ends at once: its one token is the sign.
            (&[".", " Paris"], "", 1),
            (&[" ", ".", "x"], "", 2),
            // Nothing was said.
            (&[], "", 0),
            (&[""], "", 1),
            // Line breaks end an answer, but not before its first word.
            (&[" Paris", "\n", "Question"], "Paris", 1),
            (&["\n", "Paris", "\nQ"], "Paris", 2),
            // Other scripts.
            (&["東京", "。", "次"], "東京", 1),
            (&[" दिल्ली", "।"], "दिल्ली", 1),
            (&[" Москва", ", столица"], "Москва, столица", 2),
        ] {
            assert_eq!(of(tokens), (text.to_owned(), n_tokens), "{tokens:?}");
        }
        assert_eq!(Answered::of_text(" Paris. Are you"), "Paris");
        assert_eq!(Answered::of_text(""), "");
    }

    #[test]
    fn confidence_is_the_geometric_mean_of_probabilities() {
        assert!((geometric_mean(&[0.5f64.ln(), 0.125f64.ln()]) - 0.25).abs() < 1e-15);
        assert_eq!(
            (geometric_mean(&[]), geometric_mean(&[0.0]), geometric_mean(&[f64::NEG_INFINITY])),
            (0.0, 1.0, 0.0)
        );
    }
}
