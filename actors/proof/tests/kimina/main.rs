//! A Kimina Lean Server as a verifier, against a scripted stand-in on the loopback that gives the replies of server 2.0
//! (`/api/check`, and `/verify` for older clients) and of server 1 (`/verify` alone): those that fooled others, and those
//! of a server in trouble. The real server is not installed here.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod stand_in;

use std::time::Duration;

use stand_in::{Kind, Server};
use tracker_proof::{
    Candidate, Compiled, Outcome, Verifier as _,
    lean::kimina::{Kimina, Options},
};

fn open(server: &Server) -> Kimina {
    Kimina::open(options(server)).unwrap()
}

fn options(server: &Server) -> Options {
    Options {
        timeout: Duration::from_secs(1),
        header_timeout: Duration::from_millis(100),
        attempts: 2,
        pause: Duration::ZERO,
        batch: 4,
        jobs: 2,
        ..Options::new(&server.url())
    }
}

fn candidate(proof: &str) -> Candidate {
    Candidate {
        header: "import Mathlib\nimport Aesop\n\nset_option maxHeartbeats 0\n".to_owned(),
        statement: "theorem t (p : Prop)\n  : p".to_owned(),
        proof: proof.to_owned(),
    }
}

fn outcomes(kimina: &mut Kimina, proofs: &[&str]) -> Vec<Outcome> {
    let all: Vec<Candidate> = proofs.iter().map(|proof| candidate(proof)).collect();
    let verdicts = kimina.check(&all);
    assert_eq!(verdicts.len(), proofs.len(), "the denominator shrank");
    verdicts.iter().map(|verdict| verdict.outcome).collect()
}

/// What the stand-in is told to say, and what must come of it; the number is that of the trap in `TRAPS.md`.
const REPLIES: &[(u8, &str, Outcome)] = &[
    (0, "fine", Outcome::Proved),
    (1, "ADMIT", Outcome::Sorry),
    (2, "BACKTICKS", Outcome::Sorry),
    (3, "UNWARNED", Outcome::Sorry),
    (4, "SYNTHETIC", Outcome::Sorry),
    (6, "NATIVE", Outcome::BadAxiom),
    (7, "RENAMED", Outcome::BadAxiom),
    (8, "SWAP", Outcome::StatementMismatch),
    (16, "LATE", Outcome::Timeout),
    (16, "DOUBTFUL", Outcome::Timeout),
    (17, "OBJECT", Outcome::Infra),
    (19, "HEARTBEATS", Outcome::Timeout),
    (20, "DIED", Outcome::Infra),
    (21, "WRONG", Outcome::Failed),
    (0, "LISTED", Outcome::Sorry),
    (0, "NOTHING", Outcome::Infra),
    (0, "UNSAID", Outcome::Unparsed),
    (0, "STRANGE", Outcome::Infra),
    (0, "OTHER_ID", Outcome::Infra),
    (0, "TWICE", Outcome::Infra),
    (0, "MISSING", Outcome::Infra),
    (0, "TRUNCATED", Outcome::Infra),
    (0, "STATUS500", Outcome::Infra),
    (0, "STATUS429", Outcome::Infra),
    (0, "HANGUP", Outcome::Infra),
    (0, "HALFWAY", Outcome::Infra),
    (0, "HTML", Outcome::Infra),
    (0, "SLOW", Outcome::Infra),
];

#[test]
fn replies_that_fooled_others_do_not_prove() {
    for kind in [Kind::V2, Kind::V2Shifted, Kind::V1] {
        let server = Server::start(kind);
        let mut kimina = open(&server);
        for (trap, word, expected) in REPLIES {
            if *word == "SLOW" && kind != Kind::V2 {
                // seconds each, and the same code whatever the route
                continue;
            }
            // among others, since a reply may spoil theirs
            let found = outcomes(&mut kimina, &["fine", word, "fine"]);
            assert_eq!(found, [Outcome::Proved, *expected, Outcome::Proved], "trap {trap}: {word}");
        }
    }
}

#[test]
fn positives_are_confirmed_alone_in_a_fresh_process() {
    let server = Server::start(Kind::V2);
    let mut kimina = open(&server);
    server.forget();
    assert_eq!(outcomes(&mut kimina, &["fine", "WRONG", "fine"]), [Outcome::Proved, Outcome::Failed, Outcome::Proved]);
    let requests = server.requests();
    let fresh: Vec<_> = requests.iter().filter(|request| request["reuse"] == false).collect();
    // one is the header's
    assert_eq!(fresh.len(), 3, "{requests:?}");
    for request in &fresh {
        let snippets = request["snippets"].as_array().unwrap();
        assert_eq!(snippets.len(), 1);
        assert!(snippets[0]["code"].as_str().unwrap().contains("_pin"), "the statement is not pinned");
    }
    let screened: Vec<_> = requests.iter().filter(|request| request["reuse"] == true).collect();
    assert_eq!(screened.len(), 1);
    let mut ids: Vec<String> = requests
        .iter()
        .flat_map(|request| request["snippets"].as_array().unwrap().clone())
        .map(|snippet| snippet["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6, "an id was used twice");
    assert!(ids.iter().all(|id| id.len() > 32));
}

#[test]
fn what_passes_only_the_first_time_is_not_proved() {
    let server = Server::start(Kind::V2);
    assert_eq!(outcomes(&mut open(&server), &["REUSED"]), [Outcome::Failed]);
}

#[test]
fn a_timeout_that_may_be_the_headers_is_tried_again() {
    let server = Server::start(Kind::V1);
    let mut kimina = open(&server);
    kimina.probe(&candidate("").header).unwrap();
    server.forget();
    assert_eq!(outcomes(&mut kimina, &["DOUBTFUL"]), [Outcome::Timeout]);
    assert_eq!(server.requests().len(), 2, "it was believed at once");
    server.forget();
    assert_eq!(outcomes(&mut kimina, &["LATE"]), [Outcome::Timeout]);
    assert_eq!(server.requests().len(), 1, "a plain timeout is final");
}

#[test]
fn a_verdict_says_what_the_server_says() {
    let server = Server::start(Kind::V2);
    let mut kimina = open(&server);
    let build = kimina.build().clone();
    assert_eq!(
        (build.name.as_str(), build.version.as_str(), build.commit.as_str()),
        ("kimina", "4.15.0", "11651562caae")
    );
    let verdict = kimina.check(&[candidate("fine")]).remove(0);
    assert!(!verdict.sandboxed && verdict.wall_micros > 0);
    assert_eq!(verdict.peak_rss_bytes, Some(123_456_789));
    assert_eq!((verdict.limits.time_millis, verdict.limits.memory_bytes), (Some(1000), None));
    assert!(kimina.check(&[candidate("sorry")]).remove(0).sandboxed, "it was never run");
}

#[test]
fn forbidden_words_are_never_sent() {
    let server = Server::start(Kind::V2);
    let mut kimina = open(&server);
    server.forget();
    let expected = [Outcome::Forbidden, Outcome::Sorry, Outcome::Unparsed];
    assert_eq!(outcomes(&mut kimina, &["h\n#eval 1", "admit", ""]), expected);
    let huge = "x".repeat(50 << 20);
    assert_eq!(outcomes(&mut kimina, &[&huge]), [Outcome::Unparsed]);
    assert!(server.requests().is_empty());
}

#[test]
fn statements_compile_or_say_why_not() {
    let server = Server::start(Kind::V2);
    let mut wrong = candidate("");
    wrong.statement = "theorem t : WRONG".to_owned();
    let compiled = open(&server).compile(&[candidate(""), wrong]);
    assert!(matches!(&compiled[..], [Compiled::Yes(_), Compiled::No(_)]), "{compiled:?}");
}

#[test]
fn a_server_that_cannot_be_used_is_said_before_any_work() {
    let refused = |options: Options| Kimina::open(options).unwrap_err().to_string();
    let server = Server::start(Kind::V2);
    let gone = Server::start(Kind::V2).url();
    let error = refused(Options { url: gone, ..options(&server) });
    assert!(error.contains("hint: start the server"), "{error}");
    let error = refused(Options { url: "no url".into(), ..options(&server) });
    assert!(error.contains("no url") && error.contains("hint: "), "{error}");
    let error = refused(options(&Server::start(Kind::Keyed)));
    assert!(error.contains("401") && error.contains("hint: give the server's key"), "{error}");
    let keyed = Server::start(Kind::Keyed);
    let kimina = Kimina::open(Options { key: Some("secret".into()), ..options(&keyed) });
    assert!(kimina.is_ok(), "{kimina:?}");
    let error = refused(options(&Server::start(Kind::Website)));
    assert!(error.contains("hint: give the base URL of a Kimina Lean Server"), "{error}");

    let mut kimina = open(&server);
    assert_eq!(kimina.probe("import Mathlib\n"), Ok(()));
    let reason = kimina.probe("import NoSuchLibrary\n").unwrap_err();
    assert!(reason.contains("unknown module prefix"), "{reason}");
    let foreign = Candidate { header: "import NoSuchLibrary\n".into(), ..candidate("fine") };
    assert_eq!(kimina.check(&[foreign]).remove(0).outcome, Outcome::Infra);
}
