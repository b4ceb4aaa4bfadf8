//! The bytes of every key and every record of format 1, held to `tests/golden/format-1.txt`, and of what later formats have beside
//! them (`format-2.txt`).
//!
//! A line that changes is a change of the format: leave the old line, add a version, write a migration.

use std::collections::BTreeMap;

use tracker_engine::{Batch, Durability, Engine as _, Memory};

use crate::artifact::{Coded, FilePieces, PackId, Piece, PieceRef, Place, Words};
use crate::error::hex;
use crate::keys::{self, RunIndex};
use crate::records::{EdgeRecord, Stored};
use crate::series::{Block, Chunk, Head, Summary};
use crate::{
    Assessment, AssessmentKind, Checkpoint, Claim, Content, Cost, Dataset, Digest, Endpoint, Experiment, ExperimentId,
    Figure, FileEntry, Finish, Front, FrontPoint, Goal, Kind, LoggedModel, LooseFile, Manifest, Measured, ModelState,
    ModelVersion, NodeId, Objective, Outcome, Plan, Point, Problem, Program, Recipe, RecipeWeight, RegisteredModel,
    Relation, Reward, RowKey, Run, RunId, RunInput, Sample, Sampling, Selection, Slot, Span, Stage, Statement, Status,
    Tally, Timestamp, Trace, Verdict, Verifier, Version, Votes,
};

const GOLDEN: &str = include_str!("../tests/golden/format-1.txt");

const RUN: RunId = RunId::from_bytes([0x11; 16]);
const EXPERIMENT: ExperimentId = ExperimentId::from_bytes([0x22; 16]);

fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn row() -> RowKey {
    RowKey::new(RUN, "attempt", 258, 3)
}

fn content(kind: Kind) -> NodeId {
    NodeId::content_of(kind, digest(0x33))
}

fn time() -> Timestamp {
    Timestamp::from_millis(1_795_000_000_123).unwrap()
}

#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn key(&mut self, name: &str, key: &[u8]) {
        self.0.push(format!("key {name} {}", hex(key)));
    }

    /// Adds a record, and checks that it reads back.
    fn record<T: Stored + PartialEq + std::fmt::Debug>(&mut self, name: &str, value: &T) {
        let record = value.encode().unwrap();
        assert_eq!(&T::decode(b"k", &record).unwrap(), value, "{name}");
        self.0.push(format!("record {name} {}", hex(&record)));
    }

    fn content<C: Content + PartialEq + std::fmt::Debug>(&mut self, value: &C) {
        self.record(C::KIND.name(), value);
        self.0.push(format!("digest {} {}", C::KIND.name(), value.digest().unwrap()));
    }
}

fn keys_of_format_1(lines: &mut Lines) {
    let (statement, sample) = (content(Kind::Statement), NodeId::sample(row()));
    let first = Point::new(-1, 2, -0.5).sortable();
    lines.key("meta", &keys::meta("format"));
    lines.key("experiment", &keys::experiment(EXPERIMENT));
    lines.key("experiment_name", &keys::experiment_name("proofs"));
    lines.key("node_run", &keys::node(&NodeId::run(RUN)));
    lines.key("node_content", &keys::node(&statement));
    lines.key("node_sample", &keys::node(&sample));
    lines.key("node_verdict", &keys::node(&NodeId::verdict(row(), Slot(0x0102_0304))));
    lines.key("edge_up", &keys::edge_up(&statement, RUN, Relation::DerivedFrom, 7, &sample));
    lines.key("edge_down", &keys::edge_down(&statement, RUN, Relation::Answers, 0, &sample, 0));
    lines
        .key("edge_down_ordered", &keys::edge_down(&statement, RUN, Relation::Includes, 0, &content(Kind::Dataset), 7));
    lines.key("recorded", &keys::recorded(RUN, &statement));
    lines.key("stage", &keys::stage(RUN, row().stage));
    lines.key("param", &keys::param(RUN, "lr"));
    lines.key("tag", &keys::run_tag(RUN, "note"));
    lines.key("run_by_status", &keys::run_index_entry(RunIndex::Status(Status::Failed), RUN));
    lines.key("run_by_experiment", &keys::run_index_entry(RunIndex::Experiment(EXPERIMENT), RUN));
    lines.key("run_by_study", &keys::run_index_entry(RunIndex::Study("goedel"), RUN));
    lines.key("run_by_name", &keys::run_index_entry(RunIndex::Name("first"), RUN));
    lines.key("run_by_short", &keys::run_index_entry(RunIndex::Short(&[0x11; 4]), RUN));
    lines.key("run_by_param", &keys::param_index_entry("lr", "0.1", RUN));
    lines.key("series", &keys::series(RUN, "loss"));
    lines.key("tail", &keys::tail_chunk(RUN, "loss", 9));
    lines.key("block", &keys::block(RUN, "loss", &first));
    lines.key("summary", &keys::summary(RUN, "loss", 2, &first));
    lines.key("run_by_latest", &keys::latest_entry("loss", 0.25, RUN));
    lines.key("version", &keys::version("policy", 3));
    lines.key("alias", &keys::alias("policy", "best"));
    lines.key("version_of", &keys::version_of("policy", &digest(0x44)));
    lines.key("file", &keys::file(&digest(0x55)));
    lines.key("piece", &keys::piece(&digest(0x66)));
}

fn run() -> Run {
    Run {
        id: RUN,
        name: "first".to_owned(),
        experiment: EXPERIMENT,
        study: "goedel".to_owned(),
        plan: Plan::new("seed = 1\n"),
        seed: 1,
        device: "cpu".to_owned(),
        host: "here".to_owned(),
        versions: BTreeMap::from([("tracker".to_owned(), "0.1.0".to_owned())]),
        status: Status::Interrupted,
        message: "ctrl-C".to_owned(),
        started: time(),
        ended: Some(time()),
        record_digest: Some(digest(0x77)),
        user: String::new(),
        deleted: None,
    }
}

fn rows_of_format_1(lines: &mut Lines) {
    lines.record(
        "sample",
        &Sample {
            subject: content(Kind::Statement),
            policy: content(Kind::Checkpoint),
            sampling: digest(0x44),
            seed: u64::MAX,
            text: "fun h => h".to_owned(),
            n_tokens: 4,
            sum_logprob: Some(-1.5),
            finish: Finish::Length,
        },
    );
    for outcome in Outcome::ALL {
        let verdict = Verdict {
            outcome,
            verifier: digest(0x44),
            statement: digest(0x55),
            message: "no".to_owned(),
            axioms: vec!["propext".to_owned()],
            sandboxed: true,
            cost: Cost { wall_micros: 300, cpu_micros: 200, peak_rss_bytes: Some(1 << 20) },
        };
        lines.record(&format!("verdict_{outcome}"), &verdict);
    }
    let tallies = vec![Tally { hits: 1, of: 8 }];
    lines.record(
        "reward",
        &Reward { scorer: content(Kind::Checkpoint), kind: "step".to_owned(), values: vec![0.125], tallies },
    );
    let figure = Figure {
        name: "pass@16".to_owned(),
        value: 0.5,
        low: None,
        high: Some(0.75),
        n: 244,
        unit: String::new(),
        split: "benchmark".to_owned(),
    };
    lines.record("figure", &figure);
    let claim = Claim {
        id: "rises".to_owned(),
        statement: "it rises".to_owned(),
        holds: true,
        value: 0.5,
        low: Some(0.25),
        high: None,
        bound: Some(0.0),
    };
    lines.record("claim", &claim);
}

fn contents_of_format_1(lines: &mut Lines) {
    lines.content(&Problem { name: "p".to_owned(), source: "made".to_owned(), text: "If p then p.".to_owned() });
    lines.content(&Statement {
        name: "t".to_owned(),
        header: "import Mathlib".to_owned(),
        text: "theorem t : True".to_owned(),
        canonical: digest(0x44),
        style: "arrows".to_owned(),
        problem: Some(digest(0x55)),
        formalizer: Some(content(Kind::Endpoint)),
        compiles: Some(true),
        faithful: Some(Votes { yes: 3, of: 4 }),
    });
    lines.content(&Dataset {
        name: "d".to_owned(),
        purpose: "train".to_owned(),
        n_rows: 300,
        content: digest(0x44),
        rows: None,
    });
    lines.content(&Checkpoint {
        label: "base".to_owned(),
        config: digest(0x44),
        manifest: digest(0x55),
        n_params: 1_000_000,
        step: 100,
    });
    lines.content(&Verifier {
        name: "lean".to_owned(),
        version: "4.35".to_owned(),
        commit: "abc".to_owned(),
        binary: digest(0x44),
        flags: vec!["--json".to_owned()],
    });
    lines.content(&Program {
        name: "judge".to_owned(),
        version: "0.1.0".to_owned(),
        settings: "n_assignments = 3".to_owned(),
    });
    lines.content(&Endpoint { url: "http://x".to_owned(), model: "m".to_owned(), api: "chat".to_owned() });
    lines.content(&Sampling {
        temperature: 1.0,
        top_p: 0.95,
        max_tokens: 2048,
        stop: vec!["\n".to_owned()],
        template: String::new(),
    });
    let files = vec![FileEntry { path: "a/b".to_owned(), n_bytes: 70_000, digest: digest(0x44) }];
    lines.content(&Manifest { kind: "model".to_owned(), files });
}

fn format_1() -> String {
    let mut lines = Lines::default();
    keys_of_format_1(&mut lines);
    lines.record("run", &run());
    let tags = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    lines.record(
        "experiment",
        &Experiment {
            id: EXPERIMENT,
            name: "proofs".to_owned(),
            created: time(),
            archived: false,
            tags,
            updated: time(),
            artifacts: String::new(),
        },
    );
    lines.record("stage", &Stage { name: "attempt".to_owned(), ordinal: 300 });
    contents_of_format_1(&mut lines);
    rows_of_format_1(&mut lines);
    lines.record("edge", &EdgeRecord { weight: Some(0.5), block: "low".to_owned() });
    let (first, last) = (Point::new(-1, 2, -0.5), Point::new(300, 4, f64::INFINITY));
    let head = Head { latest: last, min: Some(-0.5), max: None, n_tail: 2, next_chunk: 3, n_sealed: 512 };
    lines.record("series", &head);
    lines.record("tail", &Chunk { points: vec![first, last] });
    lines.record("block", &Block { n_points: 2, steps: vec![1, 2], times: vec![3], values: vec![] });
    let summary = Summary { first, last, n_points: 512, n_nan: 1, min: Some(-0.5), max: Some(2.0), sum: 10.0 };
    lines.record("summary", &summary);
    let version =
        Version { name: "policy".to_owned(), number: 3, manifest: digest(0x44), created: time(), run: Some(RUN) };
    lines.record("version", &version);
    lines.record("file", &FilePieces { pieces: vec![PieceRef { digest: digest(0x44), n_bytes: 70_000 }] });
    lines.record("piece_inline", &Piece { place: Place::Inline(b"hello".to_vec()) });
    merges_of_format_1(&mut lines);
    pieces_of_format_1(&mut lines);
    selections_of_format_1(&mut lines);
    lines.key("weights", &keys::weights(&digest(0x88)));
    lines.0.join("\n") + "\n"
}

fn merges_of_format_1(lines: &mut Lines) {
    lines.content(&Recipe {
        text: "merge_method: linear\n".to_owned(),
        method: "linear".to_owned(),
        weights: vec![RecipeWeight { parent: digest(0x33), block: "layers 0..4".to_owned(), weight: 0.25 }],
        parents: vec![content(Kind::Checkpoint)],
        others: "first".to_owned(),
        seed: 300,
    });
    let objective = |name: &str, goal| Objective { name: name.to_owned(), goal };
    let point =
        |node, rank, crowding| FrontPoint { node, values: vec![0.5, -2.0], rank, crowding, is_pareto: rank == 0 };
    lines.content(&Front {
        name: "tax".to_owned(),
        objectives: vec![objective("reward", Goal::Maximize), objective("loss", Goal::Minimize)],
        epsilon: vec![0.0, 0.125],
        points: vec![point(content(Kind::Checkpoint), 0, f64::INFINITY), point(NodeId::run(RUN), 300, 0.5)],
        reference: vec![0.0, 10.0],
        hypervolume: Some(6.0),
    });
}

fn selections_of_format_1(lines: &mut Lines) {
    let sample = |k| NodeId::sample(RowKey::new(RUN, "attempt", 258, k));
    let selection = Selection {
        candidates: vec![sample(0), sample(3)],
        scores: vec![0.5, -2.0],
        rule: "best of 2 by min".to_owned(),
        ties: "first".to_owned(),
        chosen: 1,
        scorer: Some(content(Kind::Checkpoint)),
    };
    lines.key("node_selection", &keys::node(&NodeId::selection(row())));
    lines.record("selection", &selection);
    let bare = Selection { scores: vec![], scorer: None, ..selection };
    lines.record("selection_bare", &bare);
}

fn pieces_of_format_1(lines: &mut Lines) {
    let pack: PackId = serde_json::from_str(&format!("{:?}", [0x55; 16])).unwrap();
    lines.record("piece_packed", &Piece { place: Place::Packed(pack, 300) });
    for (name, words, base) in [("lone", Words::Two, None), ("delta", Words::Four, Some(digest(0x77)))] {
        let coded = Coded { pack, offset: 300, n_stored: 70_000, sum: digest(0x66), words, base };
        lines.record(&format!("piece_{name}"), &Piece { place: Place::Coded(coded) });
    }
    lines.key("saved", &keys::meta("saved"));
    lines.key("collected", &keys::meta("collected"));
    lines.key("next_version", &keys::next_version("policy"));
}

#[test]
fn keys_and_records_of_format_1_never_change() {
    for (line, golden) in format_1().lines().zip(GOLDEN.lines()) {
        assert_eq!(line, golden);
    }
    assert_eq!(format_1().lines().count(), GOLDEN.lines().count(), "{}", format_1());
}

#[test]
fn what_format_2_added_never_changes() {
    let mut lines = Lines::default();
    for (name, value) in [("run_by_number", "0.1"), ("run_by_zero", " -0 "), ("run_by_less", "-2e3")] {
        lines.key(name, &keys::param_number_entry("lr", value, RUN).unwrap());
    }
    assert!(["auto", "NaN", ""].iter().all(|value| keys::param_number_entry("lr", value, RUN).is_none()));
    assert_eq!(lines.0.join("\n") + "\n", include_str!("../tests/golden/format-2.txt"));
}

fn keys_of_format_3(lines: &mut Lines) {
    let point = Point::new(-1, 2, -0.5).sortable();
    lines.key("run_by_start", &keys::run_index_entry(RunIndex::Started(EXPERIMENT, time().millis()), RUN));
    lines.key("input", &keys::input(RUN, &digest(0x33)));
    lines.key("model_link", &keys::model_link(RUN, 2, "m-1"));
    lines.key("loose", &keys::loose("runs/1", "dir/a.txt"));
    lines.key("logged_model", &keys::logged("m-1"));
    lines.key("logged_model_by_experiment", &keys::logged_in(EXPERIMENT, "m-1"));
    lines.key("measured", &keys::measured("m-1", "loss", &point, RUN));
    lines.key("registered_model", &keys::registered("policy"));
    lines.key("model_version", &keys::model_version("policy", 3));
    lines.key("trace", &keys::trace("tr-1"));
    lines.key("trace_by_time", &keys::trace_at(EXPERIMENT, time().millis(), "tr-1"));
    lines.key("span", &keys::span("tr-1", 258));
    lines.key("assessment", &keys::assessment("tr-1", "a-1"));
}

fn texts() -> BTreeMap<String, String> {
    BTreeMap::from([("key".to_owned(), "value".to_owned())])
}

fn records_of_format_3(lines: &mut Lines) {
    lines.record(
        "run_logged",
        &Run { user: "me".to_owned(), deleted: Some(time()), status: Status::Scheduled, ..run() },
    );
    let later = Timestamp::from_millis(time().millis() + 1).unwrap();
    let experiment = Experiment {
        id: EXPERIMENT,
        name: "proofs".to_owned(),
        created: time(),
        archived: true,
        tags: texts(),
        updated: later,
        artifacts: "s3://bucket".to_owned(),
    };
    lines.record("experiment_changed", &experiment);
    let mut input = RunInput {
        name: "d".to_owned(),
        digest: "1".to_owned(),
        source_type: "code".to_owned(),
        ..RunInput::default()
    };
    input.tags = texts();
    lines.record("input", &input);
    lines.record("loose", &LooseFile { n_bytes: 300, digest: digest(0x55), modified: time() });
    for state in [ModelState::Pending, ModelState::Ready, ModelState::Failed] {
        let model = LoggedModel {
            id: "m-1".to_owned(),
            experiment: EXPERIMENT,
            name: "policy".to_owned(),
            model_type: "pyfunc".to_owned(),
            state,
            run: Some(RUN),
            created: time(),
            updated: later,
            params: texts(),
            tags: texts(),
            deleted: None,
            manifest: Some(digest(0x44)),
            takers: vec![RUN],
        };
        lines.record(&format!("logged_model_{state:?}"), &model);
    }
    lines.record("measured", &Measured { dataset_name: "d".to_owned(), dataset_digest: "1".to_owned() });
    let registered = RegisteredModel {
        name: "policy".to_owned(),
        created: time(),
        updated: later,
        description: "best".to_owned(),
        tags: texts(),
        aliases: BTreeMap::from([("champion".to_owned(), 3)]),
        next: 4,
    };
    lines.record("registered_model", &registered);
    let version = ModelVersion {
        name: "policy".to_owned(),
        number: 3,
        created: time(),
        updated: later,
        description: "best".to_owned(),
        stage: "Staging".to_owned(),
        source: "models:/m-1".to_owned(),
        run: Some(RUN),
        run_link: String::new(),
        model: "m-1".to_owned(),
        tags: texts(),
        manifest: Some(digest(0x44)),
    };
    lines.record("model_version", &version);
    let trace = Trace {
        id: "tr-1".to_owned(),
        experiment: EXPERIMENT,
        requested: time(),
        duration_millis: Some(-1),
        state: "OK".to_owned(),
        request: "in".to_owned(),
        response: "out".to_owned(),
        client_id: "c".to_owned(),
        metadata: texts(),
        tags: texts(),
    };
    lines.record("trace", &trace);
    lines.record("span", &Span { start_nanos: 1 << 60, otlp: vec![10, 0] });
    for kind in [AssessmentKind::Feedback, AssessmentKind::Expectation, AssessmentKind::Issue] {
        let assessment = Assessment {
            id: "a-1".to_owned(),
            name: "ok".to_owned(),
            source_type: "HUMAN".to_owned(),
            source_id: "me".to_owned(),
            created: time(),
            updated: later,
            kind,
            value: "{\"value\":true}".to_owned(),
            rationale: "because".to_owned(),
            span: "0102".to_owned(),
            metadata: texts(),
            overrides: "a-0".to_owned(),
            is_valid: true,
        };
        lines.record(&format!("assessment_{kind:?}"), &assessment);
    }
}

#[test]
fn what_format_3_added_never_changes() {
    let mut lines = Lines::default();
    keys_of_format_3(&mut lines);
    records_of_format_3(&mut lines);
    assert_eq!(lines.0.join("\n") + "\n", include_str!("../tests/golden/format-3.txt"));
}

#[test]
fn a_run_and_an_experiment_that_have_nothing_new_keep_their_first_form() {
    let experiment = Experiment {
        id: EXPERIMENT,
        name: "proofs".to_owned(),
        created: time(),
        archived: false,
        tags: texts(),
        updated: time(),
        artifacts: String::new(),
    };
    assert_eq!((run().encode().unwrap()[1], experiment.encode().unwrap()[1]), (1, 1));
    assert_eq!(Run { user: "me".to_owned(), ..run() }.encode().unwrap()[1], 2);
}

#[test]
fn a_damaged_record_is_an_error_at_its_key_and_never_a_panic() {
    let records: Vec<Vec<u8>> = GOLDEN
        .lines()
        .filter_map(|line| line.strip_prefix("record verdict_proved ").or_else(|| line.strip_prefix("record run ")))
        .map(|digits| {
            (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect()
        })
        .collect();
    assert_eq!(records.len(), 2);
    for record in records {
        for end in 0..record.len() {
            assert!(Run::decode(b"k", &record[..end]).is_err() && Verdict::decode(b"k", &record[..end]).is_err());
        }
        let longer = [record.as_slice(), &[0]].concat();
        assert!(Run::decode(b"k", &longer).is_err() && Verdict::decode(b"k", &longer).is_err());
        let mut newer = record.clone();
        newer[1] = 3;
        let error = Run::decode(&[0xab], &newer).unwrap_err().to_string();
        assert_eq!(error, "record at key `ab` is damaged: expected record version `2` or lower, got `3`");
        newer[0] = 9;
        assert!(Run::decode(b"k", &newer).unwrap_err().to_string().contains("expected codec `1`, got `9`"));
    }
}

#[test]
fn a_length_that_is_not_there_allocates_nothing_like_it() {
    // A problem whose name claims 2^63 bytes.
    let mut record = vec![1, 1, 253];
    record.extend_from_slice(&(1_u64 << 63).to_le_bytes());
    assert!(Problem::decode(b"k", &record).is_err());
}

#[test]
fn a_store_of_another_format_is_refused_unchanged() {
    for (found, remedy) in [(0_u32, "tracker migrate"), (2, "tracker migrate"), (4, "newer build")] {
        let engine = std::sync::Arc::new(Memory::new());
        let mut batch = Batch::new();
        batch.put(&keys::meta("format"), &found.to_be_bytes());
        engine.commit(&batch, Durability::Os).unwrap();
        let error = crate::Store::over(engine, None).unwrap_err();
        assert!(matches!(error, crate::Error::Outdated { supported: 3, .. }), "{error}");
        assert!(error.hint().unwrap().contains(remedy), "{error}");
    }
}
