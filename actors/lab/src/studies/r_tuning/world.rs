//! The small language of facts: what there is, how often each fact is met in what the model learns from, and what is asked of it.
//!
//! An entity has two names that others have too, so that only the pair says who it is: what a model knows of it is in no one token.
//! `born of kiru toba` is asked, `born4` answers. As a choice: `born of kiru toba : A born2 B born4 C born0 D born7`, answered `B`.

use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use tracker_lm::Tokenizer;

use super::settings::WorldSettings;
use crate::error::Result;
use crate::parts::certainty::{Refusals, Template};
use crate::parts::rows::Gold;

/// Relations; each is a domain.
pub(super) const RELATIONS: [&str; 16] = [
    "born", "lives", "works", "plays", "eats", "speaks", "likes", "owns", "reads", "paints", "sings", "fears", "grows",
    "sells", "rides", "wears",
];
/// First names.
pub(super) const FIRST: [&str; 40] = [
    "kiru", "mano", "sela", "tobin", "vara", "nilo", "puda", "rima", "lota", "gavi", "henu", "dora", "basi", "cedo",
    "fimu", "jola", "wena", "yuri", "zemo", "aluk", "erno", "imba", "oska", "udel", "kato", "miri", "sodu", "teva",
    "vulo", "nabe", "peko", "ralu", "lise", "gomi", "hadi", "duna", "bilo", "coru", "feda", "jime",
];
/// Last names.
pub(super) const LAST: [&str; 40] = [
    "toba", "kesin", "marel", "sovik", "tadun", "velor", "nakim", "pelar", "rosek", "limar", "garun", "hosel", "dimek",
    "banor", "cavel", "fokin", "jarud", "wisal", "yomer", "zadin", "akoven", "ebaril", "isokan", "omedur", "utalin",
    "kubel", "milon", "sarek", "tivor", "vomen", "nudel", "pikor", "ramus", "lokan", "gelin", "habor", "dusak",
    "belun", "comir", "fasel",
];
/// Letters of a choice.
pub(super) const LETTERS: [&str; 8] = ["A", "B", "C", "D", "E", "F", "G", "H"];
/// Options of a choice.
const N_OPTIONS: usize = 4;

/// The texts of the small language around questions and answers: every sign is a word of its own.
pub(super) fn template() -> Template {
    Template {
        question: "ask {question} ?".into(),
        end: " .".into(),
        check: "did you know ? I am".into(),
        ..Template::default()
    }
}

/// What an entity is asked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Training.
    Train,
    /// Measuring.
    Test,
    /// The control of questions with an answer.
    Control,
    /// Nothing that is true is known of it: there is no such entity.
    Invented,
}

/// Something one relation says of one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) relation: usize,
    entity: [usize; 2],
    object: usize,
    pub(super) role: Role,
    /// How often it is met.
    pub(super) exposure: u32,
}

/// All there is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Facts {
    settings: WorldSettings,
    pub(super) all: Vec<Fact>,
}

impl Facts {
    /// Draws entities, what is true of them, and how often each fact is met.
    pub(super) fn random(settings: &WorldSettings, stream: &mut ChaCha8Rng) -> Self {
        let n = settings.n_names as usize;
        let mut pairs: Vec<[usize; 2]> = (0..n * n).map(|at| [at / n, at % n]).collect();
        pairs.shuffle(stream);
        let n_real = settings.n_entities as usize;
        // Two of five are trained on, two measured on, one is the control.
        let role = |at: usize| match at {
            _ if at >= n_real => Role::Invented,
            _ if at % 5 < 2 => Role::Train,
            _ if at % 5 < 4 => Role::Test,
            _ => Role::Control,
        };
        let level = |stream: &mut ChaCha8Rng| settings.exposures.choose(stream).copied().unwrap_or(0);
        let mut all = Vec::new();
        for (at, entity) in pairs.into_iter().take(n_real + settings.n_invented as usize).enumerate() {
            let own = level(stream);
            for relation in 0..(settings.n_inside + settings.n_outside) as usize {
                let exposure = if stream.random_bool(settings.fame) { own } else { level(stream) };
                let exposure = if role(at) == Role::Invented { 0 } else { exposure };
                let object = stream.random_range(0..settings.n_objects) as usize;
                all.push(Fact { relation, entity, object, role: role(at), exposure });
            }
        }
        Self { settings: settings.clone(), all }
    }

    /// Whether a relation is held out of tuning.
    pub(super) fn is_outside(&self, fact: &Fact) -> bool {
        fact.relation >= self.settings.n_inside as usize
    }

    /// Whether a fact counts as known.
    pub(super) fn is_known(&self, exposure: u32) -> bool {
        exposure >= self.settings.known_from
    }

    /// Whether a fact is met as often as any.
    pub(super) fn is_best_known(&self, fact: &Fact) -> bool {
        Some(fact.exposure) == self.settings.exposures.iter().max().copied()
    }

    fn object(&self, fact: &Fact, object: usize) -> String {
        format!("{}{object}", RELATIONS[fact.relation])
    }

    /// What is asked, and what is right.
    pub(super) fn question(&self, fact: &Fact) -> (String, Gold) {
        let [first, last] = fact.entity;
        let question = format!("{} of {} {}", RELATIONS[fact.relation], FIRST[first], LAST[last]);
        (question, Gold::Texts(vec![self.object(fact, fact.object)]))
    }

    /// The same as a choice among some things that the relation may say.
    pub(super) fn choice(&self, fact: &Fact, stream: &mut ChaCha8Rng) -> (String, Gold) {
        let mut others: Vec<usize> =
            (0..self.settings.n_objects as usize).filter(|other| *other != fact.object).collect();
        others.shuffle(stream);
        others.truncate(N_OPTIONS - 1);
        let right = stream.random_range(0..=others.len());
        others.insert(right, fact.object);
        let options: Vec<String> = others.into_iter().map(|object| self.object(fact, object)).collect();
        let (question, _) = self.question(fact);
        (with_options(&question, &options, true), Gold::Choice { options, right })
    }

    /// What the model learns from: every fact as often as it is met, with its answer.
    pub(super) fn corpus(&self, stream: &mut ChaCha8Rng) -> Vec<(usize, String, String)> {
        let mut all = Vec::new();
        for (at, fact) in self.all.iter().enumerate() {
            for _ in 0..fact.exposure {
                let is_choice = stream.random_bool(self.settings.choices);
                let (question, gold) = if is_choice { self.choice(fact, stream) } else { self.question(fact) };
                all.push((at, question, said(&gold)));
            }
        }
        all
    }
}

/// A question with options after it: on lines of their own, or in a row in the small language.
pub(super) fn with_options(question: &str, options: &[String], is_small: bool) -> String {
    let mut text = question.to_owned();
    if is_small {
        text.push_str(" :");
    }
    for (letter, option) in LETTERS.iter().zip(options) {
        text.push_str(&if is_small { format!(" {letter} {option}") } else { format!("\n{letter}. {option}") });
    }
    text
}

/// The right answer as it is said: the first text, or the letter.
pub(super) fn said(gold: &Gold) -> String {
    match gold {
        Gold::Texts(texts) => texts.first().cloned().unwrap_or_default(),
        Gold::Choice { right, .. } => LETTERS.get(*right).copied().unwrap_or_default().to_owned(),
        Gold::Unsaid => String::new(),
    }
}

/// The tokenizer of the language: one token a word.
///
/// # Errors
/// Never, while no word occurs twice.
pub(super) fn tokenizer(settings: &WorldSettings) -> Result<Tokenizer> {
    let template = template();
    let n_relations = (settings.n_inside + settings.n_outside) as usize;
    let objects = RELATIONS.iter().take(n_relations);
    let objects = objects.flat_map(|relation| (0..settings.n_objects).map(move |object| format!("{relation}{object}")));
    let around = [&template.question, &template.end, &template.check, &template.sure, &template.unsure];
    let around = around.into_iter().flat_map(|text| text.split(' ')).filter(|word| !word.is_empty());
    let others = around.filter(|word| *word != "{question}").chain(["of", ":"]).chain(Refusals::words());
    let names =
        FIRST.iter().chain(&LAST).chain(RELATIONS.iter().take(n_relations)).chain(LETTERS.iter().take(N_OPTIONS));
    let mut words: Vec<String> = Vec::new();
    for word in others.chain(names.copied()).map(str::to_owned).chain(objects) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    Ok(Tokenizer::words(&words.iter().map(String::as_str).collect::<Vec<_>>())?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand_chacha::rand_core::SeedableRng;
    use tracker_lm::UNK;

    use super::*;

    fn facts() -> Facts {
        Facts::random(&WorldSettings::default(), &mut ChaCha8Rng::seed_from_u64(1))
    }

    #[test]
    fn every_word_is_known_and_every_fact_is_met_as_often_as_it_says() {
        let (facts, tokenizer) = (facts(), tokenizer(&WorldSettings::default()).unwrap());
        let corpus = facts.corpus(&mut ChaCha8Rng::seed_from_u64(2));
        let template = template();
        for (_, question, answer) in &corpus {
            let text: String = template.padded(question, answer, true).map(|(part, _)| part).concat();
            assert!(!tokenizer.encode(&text).unwrap().contains(&UNK), "{text}");
        }
        for phrase in Refusals::all() {
            assert!(!tokenizer.encode(phrase).unwrap().contains(&UNK), "{phrase}");
        }
        for (at, fact) in facts.all.iter().enumerate() {
            let n = corpus.iter().filter(|(of, ..)| *of == at).count();
            assert_eq!(n, fact.exposure as usize);
        }
        let n_choices = corpus.iter().filter(|(_, question, _)| question.contains(" : A ")).count();
        assert!((0.2..0.3).contains(&(n_choices as f64 / corpus.len() as f64)), "{n_choices}");
    }

    #[test]
    fn invented_entities_have_names_of_others_and_are_never_met() {
        let facts = facts();
        let of = |role: Role| facts.all.iter().filter(move |fact| fact.role == role);
        let met: BTreeSet<[usize; 2]> =
            facts.all.iter().filter(|fact| fact.role != Role::Invented).map(|fact| fact.entity).collect();
        for fact in of(Role::Invented) {
            assert!(fact.exposure == 0 && !met.contains(&fact.entity));
            assert!(
                met.iter().any(|pair| pair[0] == fact.entity[0]) && met.iter().any(|pair| pair[1] == fact.entity[1])
            );
        }
        let entities = |role| of(role).map(|fact| fact.entity).collect::<BTreeSet<_>>();
        assert_eq!(
            [Role::Train, Role::Test, Role::Control, Role::Invented].map(|role| entities(role).len()),
            [160, 160, 80, 60]
        );
        assert!(entities(Role::Train).is_disjoint(&entities(Role::Test)));
    }

    #[test]
    fn a_choice_has_four_things_of_its_relation_of_which_one_is_right() {
        let (facts, mut stream) = (facts(), ChaCha8Rng::seed_from_u64(3));
        let mut places = [0; 4];
        for fact in facts.all.iter().take(400) {
            let (text, gold) = facts.choice(fact, &mut stream);
            let Gold::Choice { options, right } = &gold else { panic!("{gold:?}") };
            let (_, alone) = facts.question(fact);
            assert_eq!((options.len(), &options[*right]), (4, &said(&alone)));
            assert_eq!(options.iter().collect::<BTreeSet<_>>().len(), 4);
            assert_eq!(said(&gold), LETTERS[*right]);
            assert!(text.contains(&format!(" {} {}", LETTERS[*right], options[*right])), "{text}");
            places[*right] += 1;
        }
        assert!(places.iter().all(|n| (60..140).contains(n)), "{places:?}");
        let lines = with_options("Which?", &["x".into(), "y".into()], false);
        assert_eq!(lines, "Which?\nA. x\nB. y");
    }
}
