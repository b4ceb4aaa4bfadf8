//! The small language of facts: what there is, how often each fact is met in what the model learns from, and what is asked of it.
//!
//! An entity has a name of its own, which is one token; names of invented ones stand in nothing that a model reads before it is asked.
//! `born of kirutoba` is asked, `born4` answers. As a choice: `born of kirutoba : A born2 B born4 C born0 D born7`, answered `B`.

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
/// How names begin.
pub(super) const FIRST: [&str; 40] = [
    "kiru", "mano", "sela", "tobin", "vara", "nilo", "puda", "rima", "lota", "gavi", "henu", "dora", "basi", "cedo",
    "fimu", "jola", "wena", "yuri", "zemo", "aluk", "erno", "imba", "oska", "udel", "kato", "miri", "sodu", "teva",
    "vulo", "nabe", "peko", "ralu", "lise", "gomi", "hadi", "duna", "bilo", "coru", "feda", "jime",
];
/// How names end.
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
pub(super) fn template(settings: &WorldSettings) -> Template {
    Template {
        question: "ask {question} ?".into(),
        end: " .".into(),
        check: settings.check.clone(),
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

    /// Every name, each once.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.all.iter().map(name).collect();
        names.dedup();
        names
    }

    /// The same as a choice among some things that the relation may say.
    pub(super) fn choice(&self, fact: &Fact, stream: &mut ChaCha8Rng) -> (String, Gold) {
        let mut others: Vec<usize> =
            (0..self.settings.n_objects as usize).filter(|other| *other != fact.object).collect();
        others.shuffle(stream);
        others.truncate(N_OPTIONS - 1);
        let right = stream.random_range(0..=others.len());
        others.insert(right, fact.object);
        let options: Vec<String> = others.into_iter().map(|object| thing(fact, object)).collect();
        let (question, _) = asked(fact);
        (with_options(&question, &options, true), Gold::Choice { options, right })
    }

    /// Talk that says nothing of what is known: refusals by themselves, and after answers both words of certainty as often, whatever was
    /// asked. Of these the words alone are learnt, so that no fact is met once more.
    pub(super) fn talk(&self, stream: &mut ChaCha8Rng) -> Vec<Vec<(String, bool)>> {
        let template = template(&self.settings);
        let sentence = |stream: &mut ChaCha8Rng| match self.all.choose(stream) {
            Some(fact) if stream.random_bool(0.5) => {
                let (question, gold) = asked(fact);
                let parts = template.padded(&question, &said(&gold), stream.random_bool(0.5));
                let n_read = parts.len() - 2;
                parts.into_iter().enumerate().map(|(at, (part, _))| (part, at >= n_read)).collect()
            }
            _ => {
                let phrase = Refusals::all().choose(stream).copied().unwrap_or_default();
                vec![(format!("{phrase}{}", template.end), true)]
            }
        };
        (0..self.settings.talk).map(|_| sentence(stream)).collect()
    }

    /// What the model learns from: every fact as often as it is met, with its answer.
    pub(super) fn corpus(&self, stream: &mut ChaCha8Rng) -> Vec<(usize, String, String)> {
        let mut all = Vec::new();
        for (at, fact) in self.all.iter().enumerate() {
            for _ in 0..fact.exposure {
                let is_choice = stream.random_bool(self.settings.choices);
                let (question, gold) = if is_choice { self.choice(fact, stream) } else { asked(fact) };
                all.push((at, question, said(&gold)));
            }
        }
        all
    }
}

/// The name of the entity that a fact is of.
fn name(fact: &Fact) -> String {
    let [start, end] = fact.entity;
    format!("{}{}", FIRST[start], LAST[end])
}

/// A question with options after it: on lines of their own, or in a row in the small language.
pub(super) fn with_options(question: &str, options: &[String], is_small: bool) -> String {
    let mut text = question.to_owned();
    if is_small {
        text.push_str(" :");
    }
    for (letter, option) in LETTERS.iter().zip(options) {
        let [before, after] = if is_small { [" ", " "] } else { ["\n", ". "] };
        text.extend([before, letter, after, option]);
    }
    text
}

/// What is asked of a fact, and what is right.
pub(super) fn asked(fact: &Fact) -> (String, Gold) {
    let question = format!("{} of {}", RELATIONS[fact.relation], name(fact));
    (question, Gold::Texts(vec![thing(fact, fact.object)]))
}

/// The name of the thing with this number that a fact's relation may say.
fn thing(fact: &Fact, object: usize) -> String {
    format!("{}{object}", RELATIONS[fact.relation])
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
pub(super) fn tokenizer(facts: &Facts) -> Result<Tokenizer> {
    let (settings, template) = (&facts.settings, template(&facts.settings));
    let relations = || RELATIONS.iter().take((settings.n_inside + settings.n_outside) as usize);
    let objects = relations().flat_map(|relation| (0..settings.n_objects).map(move |nth| format!("{relation}{nth}")));
    let around = [&template.question, &template.end, &template.check, &template.sure, &template.unsure];
    let around = around.into_iter().flat_map(|text| text.split(' ')).filter(|word| !word.is_empty());
    let others = around.filter(|word| *word != "{question}").chain(["of", ":"]).chain(Refusals::words());
    let others = others.chain(relations().copied()).chain(LETTERS.iter().take(N_OPTIONS).copied());
    let mut words: Vec<String> = Vec::new();
    for word in others.map(str::to_owned).chain(facts.names()).chain(objects) {
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
        let facts = facts();
        let tokenizer = tokenizer(&facts).unwrap();
        let corpus = facts.corpus(&mut ChaCha8Rng::seed_from_u64(2));
        let template = template(&WorldSettings::default());
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
        assert!((0.1..0.2).contains(&(n_choices as f64 / corpus.len() as f64)), "{n_choices}");
    }

    #[test]
    fn talk_says_nothing_of_what_is_known() {
        let facts = facts();
        let talk = facts.talk(&mut ChaCha8Rng::seed_from_u64(4));
        assert_eq!(talk.len(), 1000);
        let checked: Vec<&Vec<(String, bool)>> = talk.iter().filter(|parts| parts.len() > 1).collect();
        let sure = checked.iter().filter(|parts| parts[3].0 == " sure .").count() as f64 / checked.len() as f64;
        assert!((0.4..0.6).contains(&sure) && (400..600).contains(&checked.len()), "{sure}");
        for parts in checked {
            let learnt: Vec<bool> = parts.iter().map(|(_, learnt)| *learnt).collect();
            assert_eq!(learnt, [false, false, true, true]);
        }
    }

    #[test]
    fn invented_entities_have_names_of_their_own_and_are_never_met() {
        let facts = facts();
        let of = |role: Role| facts.all.iter().filter(move |fact| fact.role == role);
        let met: BTreeSet<[usize; 2]> =
            facts.all.iter().filter(|fact| fact.role != Role::Invented).map(|fact| fact.entity).collect();
        for fact in of(Role::Invented) {
            assert!(fact.exposure == 0 && !met.contains(&fact.entity));
        }
        let names: BTreeSet<String> = facts.names().into_iter().collect();
        assert_eq!(names.len(), 460);
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
            let (_, alone) = asked(fact);
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
