//! How the small networks put their answers into words: plain, as a hedge, too long, or in another script.
//!
//! So the judges have something to disagree about, and what they miss is known, since what was chosen is.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tracker_store::Finish;

use super::settings::ToySettings;

/// What is said before an answer by whoever talks too long.
const LONG: &str = "Let me look at the picture and then at the question with some care before I say anything at all, for pictures may mislead \
    and questions are not always what they seem, so that in the end I would say that the answer is";
/// What says nothing of the answer, in another script.
const FOREIGN: &str = "Я не знаю, что тут сказать.";
/// English words for small numbers.
const NUMBERS: [&str; 17] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen",
];

/// A reply.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reply {
    pub(super) text: String,
    /// Words, of which each counts as a token.
    pub(super) n_tokens: u32,
    pub(super) finish: Finish,
}

/// Says `answer`; `others` are the other answers of the question.
pub(super) fn say(
    settings: &ToySettings,
    max_tokens: u32,
    answer: &str,
    others: &[&str],
    stream: &mut ChaCha8Rng,
) -> Reply {
    let ToySettings { hedges, long, foreign, .. } = settings;
    let mood: f64 = stream.random();
    let form = stream.random_range(0..6);
    let other = others.get(stream.random_range(0..others.len().max(1))).copied().unwrap_or_default();
    let text = if mood < *hedges {
        format!("It is {answer}, not {other}.")
    } else if mood < hedges + long {
        let n_words = LONG.split(' ').count();
        let times = (max_tokens as usize).div_ceil(n_words).max(1);
        format!("{} {answer}.", vec![LONG; times].join(" "))
    } else if mood < hedges + long + foreign {
        FOREIGN.to_owned()
    } else {
        match form {
            0 => answer.to_owned(),
            1 => format!("{}.", capital(answer)),
            2 => format!("The answer is {answer}."),
            3 => format!("It is {}.", in_words(answer)),
            4 => format!("I am a hundred percent sure: {answer}."),
            _ => format!("{answer}\n"),
        }
    };
    cut(&text, max_tokens)
}

/// The first `max_tokens` words.
fn cut(text: &str, max_tokens: u32) -> Reply {
    let words: Vec<&str> = text.split_whitespace().collect();
    let n = words.len().min(max_tokens as usize);
    if n == words.len() {
        return Reply { text: text.to_owned(), n_tokens: n as u32, finish: Finish::Stop };
    }
    Reply { text: words[..n].join(" "), n_tokens: n as u32, finish: Finish::Length }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn in_words(answer: &str) -> &str {
    answer.parse().ok().and_then(|n: usize| NUMBERS.get(n)).copied().unwrap_or(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn replies_are_of_the_shares_asked_for_and_long_ones_are_cut() {
        let settings = ToySettings { hedges: 0.2, long: 0.1, foreign: 0.1, ..ToySettings::default() };
        let mut stream = ChaCha8Rng::seed_from_u64(1);
        let all: Vec<Reply> = (0..4000).map(|_| say(&settings, 30, "4", &["14", "red"], &mut stream)).collect();
        let share = |is: &dyn Fn(&Reply) -> bool| all.iter().filter(|reply| is(reply)).count() as f64 / 4000.0;
        for (found, expected) in [
            (share(&|reply| reply.text.contains(", not ")), 0.2),
            (share(&|reply| reply.finish == Finish::Length), 0.1),
            (share(&|reply| reply.text == FOREIGN), 0.1),
            (share(&|reply| reply.text == "It is four."), 0.1),
        ] {
            assert!((found - expected).abs() < 0.02, "{found}, expected {expected}");
        }
        let long: Vec<&Reply> = all.iter().filter(|reply| reply.finish == Finish::Length).collect();
        assert!(long.iter().all(|reply| reply.n_tokens == 30 && !reply.text.contains('4')));
        assert_eq!((capital("the Nile"), capital("")), ("The Nile".to_owned(), String::new()));
        assert_eq!(cut("a b", 1), Reply { text: "a".into(), n_tokens: 1, finish: Finish::Length });
    }
}
