//! The study of spurious images, end to end: run, resume, endpoints that see, paint, write and judge, published rows, judging anew.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tracker_tests::{Tracker, Vision};

#[test]
fn equal_plans_give_equal_records_whatever_the_workers_and_a_killed_run_resumes_to_them() {
    Tracker::new().assert_repeats("correlation_qa", &[0.2, 0.5, 0.8]);
}

/// A figure of a run by stage, name and split.
fn figure(tracker: &Tracker, run: &str, stage: &str, name: &str, split: &str) -> f64 {
    let filter = format!("stage = '{stage}' AND name = '{name}' AND split = '{split}'");
    let rows = tracker.json(&["query", "figures", &filter, "--run", run]);
    assert_eq!(rows.len(), 1, "{filter}: {rows:?}");
    rows[0]["value"].as_f64().unwrap()
}

fn n_figures(tracker: &Tracker, run: &str, filter: &str) -> usize {
    tracker.json(&["query", "figures", filter, "--run", run, "--limit", "100000"]).len()
}

#[test]
fn small_networks_follow_the_picture_as_far_as_it_was_right_in_training() {
    let tracker = Tracker::new();
    let end = tracker.smoke_of("correlation_qa", &["--set", "toy.repeats=2"]);
    let run = end["run"].as_str().unwrap();
    let drop = |rho: &str, judge: &str| figure(&tracker, run, &format!("figures/rho {rho}/{judge}"), "drop", "all");
    assert!(drop("0.900", "chosen") > 0.4 && drop("0.167", "chosen").abs() < 0.2);
    assert!(drop("0.900", "words") > drop("0.167", "words") + 0.2);
    // Hedges and what was cut off are right in truth, and nobody who reads can know it.
    let right = |judge: &str| figure(&tracker, run, &format!("figures/rho 0.900/{judge}"), "accuracy, factual", "all");
    assert!(right("words") < right("chosen"));
    assert!(figure(&tracker, run, "said/rho 0.900", "cut off", "all") > 0.02);
    assert!(figure(&tracker, run, "said/rho 0.900", "in another script", "all") > 0.0);
    // Each category and kind has its drop.
    assert_eq!(n_figures(&tracker, run, "name = 'drop' AND stage = 'figures/rho 0.900/words'"), 3 + 3 * 3);
    // A drop leads to outputs, trials, images and who drew them.
    let filter = "name = 'drop' AND stage = 'figures/rho 0.900/words' AND split = 'animal, typography'";
    let id = tracker.json(&["query", "figures", filter, "--run", run])[0]["id"].as_str().unwrap().to_owned();
    let up = tracker.json(&["query", "lineage", &id, "--limit", "100000"]).pop().unwrap();
    let kinds: BTreeSet<&str> =
        up["nodes"].as_array().unwrap().iter().map(|node| node["kind"].as_str().unwrap()).collect();
    for kind in ["sample", "statement", "problem", "program", "checkpoint", "artifact", "dataset"] {
        assert!(kinds.contains(kind), "no {kind} above a drop: {kinds:?}");
    }
}

fn n_samples(tracker: &Tracker, run: &str) -> usize {
    tracker.json(&["query", "samples", "--run", run, "--limit", "100000"]).len()
}

#[test]
fn outputs_are_judged_anew_without_asking_anybody() {
    let tracker = Tracker::new();
    let first = tracker.smoke_of("correlation_qa", &[]);
    let first = first["run"].as_str().unwrap();
    std::fs::write(tracker.folder().join("names.json"), r#"{"4": ["сказать"], "red": ["hundred"]}"#).unwrap();
    let anew = |sets: &[&str]| {
        let run = format!("outputs.run={first}");
        let sets: Vec<&str> = [&[run.as_str()], sets].concat().into_iter().flat_map(|set| ["--set", set]).collect();
        tracker.smoke_of("correlation_qa", &sets)
    };
    let again = anew(&[]);
    let run = again["run"].as_str().unwrap();
    assert!(n_samples(&tracker, first) > 300 && n_samples(&tracker, run) == 0);
    for judge in ["words", "substring"] {
        for (name, split) in [("drop", "all"), ("instinct rate", "natural"), ("flip rate", "animal, typography")] {
            let of = |run: &str| figure(&tracker, run, &format!("figures/rho 0.900/{judge}"), name, split);
            assert_eq!(of(first).to_bits(), of(run).to_bits(), "{judge}, {name}, {split}");
        }
    }
    // A verdict leads to the output, which is in the other run.
    let rewards = tracker.json(&["query", "rewards", "--run", run, "--columns", "id,sample.text", "--limit", "5"]);
    assert!(rewards.iter().all(|reward| reward["sample.text"].is_string()), "{rewards:?}");
    // Another judge, other verdicts: names that stand in outputs of another script or within words.
    let named = anew(&["outputs.aliases=names.json"]);
    let right = |run: &Value| {
        let filter = "kind = 'verdict' AND value = 1";
        tracker.json(&["query", "rewards", filter, "--run", run["run"].as_str().unwrap(), "--limit", "100000"]).len()
    };
    assert_ne!(right(&again), right(&named));
    let wrong = tracker.run(&["run", "correlation_qa", "--smoke", "--set", "outputs.run=nobody"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("nobody"), "{}", wrong.stderr);
}

/// A plan of questions of two categories, put to two models, with a painter and a judge.
fn plan(tracker: &Tracker, server: &Vision) -> String {
    let rows = [
        ("q1", "animal", "Which one is 'cat'?", "cat", ["dog", "cow", "hen", "pig", "rat"]),
        ("q2", "animal", "Which, said slowly, is 'dog'?", "dog", ["cat", "cow", "hen", "pig", "rat"]),
        ("q3", "colour", "Which one is 'red'?", "red", ["blue", "green", "black", "white", "pink"]),
        ("q4", "colour", "Which one is 'blue'?", "blue", ["red", "green", "black", "white", "pink"]),
    ];
    let row = |(id, category, question, answer, wrong): &(&str, &str, &str, &str, [&str; 5])| json!({"id": id, "category": category, "question": question, "answer": answer, "wrong": wrong});
    write(tracker, "questions.jsonl", &rows.iter().map(row).collect::<Vec<_>>());
    let url = server.url();
    format!(
        "study = 'correlation_qa'\n[questions]\nfile = 'questions.jsonl'\n[images]\nspurious = 2\nside = 32\n\
         [painter]\nurl = '{url}'\nmodel = 'painter'\n\
         [[models.endpoints]]\nurl = '{url}'\nmodel = 'seer'\napi = 'chat'\nattempts = 1\n\
         [[models.endpoints]]\nurl = '{url}'\nmodel = 'reader'\napi = 'chat'\n\
         [judge]\nurl = '{url}'\nmodel = 'judge'\n[measure]\nn_resamples = 60\n"
    )
}

#[test]
fn models_that_see_are_asked_judged_and_replayed_without_a_call() {
    let (tracker, server) = (Tracker::new(), Vision::start());
    let end = tracker.finished(&plan(&tracker, &server)).0;
    let id = end["run"].as_str().unwrap();
    let of =
        |model: &str, name: &str, split: &str| figure(&tracker, id, &format!("figures/{model}/words"), name, split);
    // The seer says what a painted picture shows, but for one question of four, where it says nothing.
    assert_eq!(of("seer", "accuracy, factual", "natural"), 0.75);
    assert_eq!(of("seer", "accuracy, spurious", "natural"), 0.0);
    assert_eq!(of("seer", "drop", "natural"), 0.75);
    assert_eq!(of("seer", "instinct rate", "natural"), 0.75);
    assert_eq!(of("seer", "flip rate", "natural"), 1.0);
    assert_eq!(of("seer", "drop", "typography"), 0.0);
    assert_eq!(of("seer", "text-only accuracy", "all"), 0.75);
    assert_eq!(of("seer", "drop", "colour, natural"), 1.0);
    assert_eq!(of("reader", "drop", "all"), 0.0);
    assert_eq!(figure(&tracker, id, "figures/seer/llm", "instinct rate", "natural"), 0.75);
    assert_eq!(figure(&tracker, id, "agreement/seer", "kappa, words and llm", "all"), 1.0);
    // The plan's judge said so in its own words, which are kept.
    let judged = tracker.json(&["query", "samples", "stage = 'judged by llm'", "--run", id, "--limit", "10000"]);
    assert!(judged.iter().all(|sample| sample["text"].as_str().unwrap().contains("Verdict: ")), "{judged:?}");
    // Cut off, who answered, and how long it took.
    let cut = tracker.json(&["query", "samples", "finish = 'length'", "--run", id, "--columns", "stage,n_tokens"]);
    assert_eq!(cut.len(), 3 + 3 + 1, "{cut:?}");
    let reported = tracker.json(&["query", "programs", "name = 'reported model'", "--run", id, "--columns", "version"]);
    assert_eq!(reported, [json!({"version": "served-1"})]);
    let latency = tracker.json(&["query", "metrics", id, "system/latency_secs/outputs/seer/natural"]);
    assert!(!latency.is_empty());
    // Every image has its digest, and who made it of what.
    let images =
        tracker.json(&["query", "statements", "style = 'natural'", "--run", id, "--columns", "canonical,formalizer"]);
    assert_eq!(images.len(), 12);
    assert!(images.iter().all(|image| image["formalizer"].as_str().unwrap().starts_with("endpoint:")), "{images:?}");

    let n_calls = server.n_calls();
    let replayed = tracker.run(&["replay", id, "--json"]);
    assert_eq!(replayed.lines().pop().unwrap()["same_as_before"], true, "{}", replayed.stderr);
    assert_eq!(server.n_calls(), n_calls);

    // Another judge of the same outputs: nobody is asked but the judge.
    let anew = format!(
        "study = 'correlation_qa'\n[outputs]\nrun = '{id}'\n[judge]\nurl = '{}'\nmodel = 'judge'\n[judges]\nprimary = 'llm'\n\
         template = \"Again.\\nRight answer: {{right}}\\nWrong answer: {{pictured}}\\n{{question}}\\nReply:\\n{{reply}}\\n\"\n\
         [measure]\nn_resamples = 60\n",
        server.url()
    );
    let again = tracker.finished(&anew).0;
    let again = again["run"].as_str().unwrap();
    assert_eq!(server.n_calls() - n_calls, judged.len());
    assert_eq!(figure(&tracker, again, "figures/seer/llm", "instinct rate", "natural"), 0.75);
    let written: BTreeSet<String> = tracker
        .json(&["query", "samples", "--run", again, "--columns", "stage", "--limit", "100000"])
        .iter()
        .map(|sample| sample["stage"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(written, BTreeSet::from(["judged by llm".to_owned()]));
}

#[test]
fn what_came_before_an_endpoint_died_stays_and_the_rest_is_asked_for() {
    let (tracker, server) = (Tracker::new(), Vision::start());
    let text = plan(&tracker, &server);
    let whole = tracker.finished(&text).0;
    let n_calls = server.n_calls();
    // Six pictures are painted, whoever asks for the same at once; then the seer dies after seven of its answers.
    server.answers(6 + 7);
    let died = tracker.planned(&text);
    assert_eq!(died.code, 3, "{}", died.stderr);
    let id = died.lines()[0]["run"].as_str().unwrap().to_owned();
    assert_eq!(server.n_calls() - n_calls, 6 + 7);
    assert_eq!(n_samples(&tracker, &id), 7);
    server.answers(isize::MAX);
    let resumed = tracker.run(&["run", "--resume", &id, "--json"]);
    assert_eq!(resumed.lines().pop().unwrap()["record_digest"], whole["record_digest"], "{}", resumed.stderr);
    assert_eq!(server.n_calls(), 2 * n_calls);
}

#[test]
fn questions_can_be_written_by_an_endpoint() {
    let (tracker, server) = (Tracker::new(), Vision::start());
    let url = server.url();
    let text = format!(
        "study = 'correlation_qa'\n[questions]\ncategories = ['tool', 'fruit']\nn_written = 2\n[writer]\nurl = '{url}'\nmodel = 'writer'\n\
         [images]\nkinds = ['typography']\nspurious = 1\nside = 32\n[[models.endpoints]]\nurl = '{url}'\nmodel = 'reader'\napi = 'chat'\n\
         [measure]\nn_resamples = 60\n"
    );
    let end = tracker.finished(&text).0;
    let id = end["run"].as_str().unwrap();
    let problems = tracker.json(&["query", "problems", "source = 'writer' AND text LIKE 'Which%'", "--run", id]);
    assert_eq!(problems.len(), 4, "{problems:?}");
    let up = tracker.json(&["query", "lineage", problems[0]["id"].as_str().unwrap()]).pop().unwrap();
    let kinds: BTreeSet<&str> =
        up["nodes"].as_array().unwrap().iter().map(|node| node["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains("sample") && kinds.contains("endpoint"), "{kinds:?}");
    assert_eq!(figure(&tracker, id, "figures/reader/words", "accuracy, factual", "all"), 1.0);
}

/// A published row whose image says its path.
fn row(category: &str, path: &str, question: &str, answer: &str) -> Value {
    let bytes = [&[0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a], path.as_bytes()].concat();
    json!({"image": STANDARD.encode(bytes), "image_path": path, "category": category, "question": question, "true_answer": answer})
}

fn write(tracker: &Tracker, name: &str, rows: &[Value]) {
    let text: String = rows.iter().flat_map(|row| [row.to_string(), "\n".into()]).collect();
    std::fs::write(tracker.folder().join(name), text).unwrap();
}

#[test]
fn published_rows_are_asked_as_they_are_and_refused_where_nothing_says_what_they_show() {
    let (tracker, server) = (Tracker::new(), Vision::start());
    let mut rows = Vec::new();
    for (nth, answer) in ["New\nYork", "Rome"].iter().enumerate() {
        let question = format!("Which city is '{}'?", answer.replace('\n', " "));
        for kind in ["natural", "typography"] {
            rows.push(row("city", &format!("city/{kind}/factual/{nth}.png"), &question, answer));
            rows.push(row("city", &format!("city/{kind}/spurious/{nth}.png"), &question, answer));
        }
    }
    rows.push(row("plant", "plant/natural/factual/9.png", "Which plant is 'oak'?", "oak"));
    write(&tracker, "first.jsonl", &rows);
    write(&tracker, "second.jsonl", &rows[..7]);
    let plan = |file: &str| {
        format!(
            "study = 'correlation_qa'\n[published]\nfiles = ['{file}']\n[[models.endpoints]]\nurl = '{}'\nmodel = 'reader'\napi = 'chat'\n\
             [measure]\nn_resamples = 60\n",
            server.url()
        )
    };
    let answer = tracker.planned(&plan("first.jsonl"));
    assert!(answer.code <= 1, "{}", answer.stderr);
    // Of another number of rows, and of a category without spurious images, it is said.
    assert!(answer.stdout.contains("expected 7308 rows") && answer.stdout.contains("got 9"), "{}", answer.stdout);
    assert!(answer.stdout.contains("plant, natural: no spurious image"), "{}", answer.stdout);
    let first = answer.lines().pop().unwrap();
    let id = first["run"].as_str().unwrap();
    let drops = |split: &str| {
        n_figures(&tracker, id, &format!("name = 'drop' AND stage = 'figures/reader/words' AND split = '{split}'"))
    };
    assert_eq!((drops("city, natural"), drops("plant, natural"), drops("plant, all")), (1, 0, 0));
    // A newline in an answer is a blank to whoever reads words, and makes the released judge miss it.
    let right =
        |judge: &str| figure(&tracker, id, &format!("figures/reader/{judge}"), "accuracy, factual", "city, natural");
    assert_eq!((right("words"), right("substring")), (1.0, 0.5));
    // Which wrong answer is shown is not published.
    assert_eq!(n_figures(&tracker, id, "name = 'instinct rate'"), 0);
    // The two revisions differ in rows, and it can be asked how.
    drop(tracker.finished(&plan("second.jsonl")));
    let rows_read =
        tracker.json(&["query", "figures", "name = 'rows read'", "--columns", "value", "--order-by", "value"]);
    assert_eq!(rows_read, [json!({"value": 7.0}), json!({"value": 9.0})]);

    // Rows that do not say what they show, have no image, or repeat themselves.
    for (wrong, parts) in [
        (row("city", "city/3.png", "Q?", "a"), ["image_path", "neither"]),
        (row("city", "factual/wrong/3.png", "Q?", "a"), ["image_path", "both"]),
        (row("city", "factual/3.png", "Q?", " "), ["true_answer", "blank"]),
        (
            json!({"image_path": "factual/3.png", "category": "c", "question": "Q?", "true_answer": "a"}),
            ["image_path", "published.folder"],
        ),
        (
            json!({"image": "R0lG", "image_path": "factual/3.png", "category": "c", "question": "Q?", "true_answer": "a"}),
            ["image", "PNG"],
        ),
        (rows[0].clone(), ["earlier row", "says the same"]),
    ] {
        write(&tracker, "wrong.jsonl", &[rows[0].clone(), wrong.clone()]);
        let answer = tracker.planned(&plan("wrong.jsonl"));
        assert_eq!(answer.code, 2, "{wrong}: {}", answer.stderr);
        assert!(answer.stderr.contains("row 2"), "{}", answer.stderr);
        for part in parts {
            assert!(answer.stderr.contains(part), "expected `{part}` in: {}", answer.stderr);
        }
    }
    let skipping = plan("wrong.jsonl").replace("[published]", "[published]\nskip_bad = true");
    assert!(tracker.planned(&skipping).code <= 1);
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    let tracker = Tracker::new();
    for (set, key) in [
        ("images.kinds=[]", "images.kinds"),
        ("images.kinds=[\"text\"]", "images.kinds"),
        ("images.spurious=3", "images.spurious"),
        ("images.spurious=6", "images.spurious"),
        ("images.prompt=\"a photo\"", "images.prompt"),
        ("questions.categories=[\"animals\"]", "questions.categories"),
        ("questions.n_written=3", "writer.url"),
        ("writer.url=http://127.0.0.1:1/v1", "questions.n_written"),
        ("questions.file=nowhere.jsonl", "nowhere.jsonl"),
        ("models.endpoints=[{url=\"http://127.0.0.1:1/v1\", model=\"m\"}]", "models.endpoints[0].api"),
        ("models.endpoints=[{url=\"here\", model=\"m\", api=\"chat\"}]", "models.endpoints[0].url"),
        ("models.max_tokens=0", "models.max_tokens"),
        ("published.files=[\"rows.parquet\"]", "models.endpoints"),
        ("published.factual=[\"wrong\"]", "published.factual"),
        ("outputs.aliases=names.json", "outputs.aliases"),
        ("toy.rho=[0.5, 0.2]", "toy.rho"),
        ("toy.rho=[1.0]", "toy.rho"),
        ("toy.hedges=0.99", "toy.foreign"),
        ("judges.primary=llm", "judges.primary"),
        ("judges.rules=[]", "judges.primary"),
        ("judges.template=\"{reply}\"", "judges.template"),
        ("measure.n_resamples=4", "measure.n_resamples"),
    ] {
        let answer = tracker.run(&["run", "correlation_qa", "--smoke", "--set", set]);
        assert_eq!(answer.code, 2, "{set}: {}", answer.stderr);
        assert!(answer.stderr.contains(key), "{set}: {}", answer.stderr);
    }
}
