//! Full plans of the studies of rewards: judges and policies behind endpoints, published rows from files.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tracker_tests::{Answer, Endpoint, Tracker};

fn path(tracker: &Tracker, name: &str) -> String {
    tracker.folder().join(name).display().to_string()
}

fn write(tracker: &Tracker, name: &str, rows: &[Value]) {
    let text: String = rows.iter().flat_map(|row| [row.to_string(), "\n".into()]).collect();
    std::fs::write(tracker.folder().join(name), text).unwrap();
}

fn replays_without(endpoint: Endpoint, tracker: &Tracker, run: &Value) {
    drop(endpoint);
    let replayed = tracker.run(&["replay", run["run"].as_str().unwrap(), "--json"]);
    assert_eq!(replayed.lines().pop().unwrap()["same_as_before"], true, "{}", replayed.stderr);
}

/// Figures of a run by their whole name.
fn figure(answer: &Answer, name: &str) -> f64 {
    let events = answer.lines();
    let found = events.iter().find(|event| event["event"] == "figure" && event["name"] == name);
    found.unwrap_or_else(|| panic!("no figure `{name}`"))["value"].as_f64().unwrap()
}

fn kinds(tracker: &Tracker, id: &str) -> BTreeSet<String> {
    let up = &tracker.json(&["query", "lineage", id, "--up"])[0];
    up["nodes"].as_array().unwrap().iter().map(|node| node["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_judge_behind_an_endpoint_is_dpas_reward_and_its_prompt_is_recorded() {
    let (tracker, endpoint) = (Tracker::new(), Endpoint::start());
    let sets = [
        "reward.by=endpoint".to_owned(),
        format!("judge.url={}", endpoint.url()),
        "judge.model=marker".to_owned(),
        "rsf.rounds=1".to_owned(),
        // The judge finds all equally helpful.
        "baselines.dpo=[]".to_owned(),
        "baselines.morlhf=[]".to_owned(),
        "baselines.soups=[]".to_owned(),
        "baselines.steer_lm=[]".to_owned(),
    ];
    let args: Vec<&str> = sets.iter().flat_map(|set| ["--set", set.as_str()]).collect();
    let run = tracker.smoke_of("dpa", &args);
    assert_eq!(run["status"], "finished", "{run}");
    // Each distinct answer to a prompt is marked once.
    let filter = "stage LIKE 'round 1/test%' AND kind = 'attributes'";
    let rewards = tracker.json(&["query", "rewards", filter, "--limit", "1000"]);
    let by_judge: Vec<&Value> =
        rewards.iter().filter(|reward| reward["scorer"].as_str().unwrap().starts_with("endpoint:")).collect();
    assert_eq!(by_judge.len(), 6 * 3, "prompts and directions: {rewards:?}");
    for reward in &by_judge {
        let values: Vec<f64> = reward["values"].as_str().unwrap().split(' ').map(|x| x.parse().unwrap()).collect();
        assert!(values.len() == 4 && values[..3].iter().all(|x| *x == 70.0), "{reward}");
        assert!(values[3] <= 100.0 && values[3] % 10.0 == 0.0, "{reward}");
    }
    // A reward leads to what the judge said, and that to its prompt's digest.
    let up = kinds(&tracker, by_judge[0]["id"].as_str().unwrap());
    assert!(up.contains("sample") && up.contains("endpoint"), "{up:?}");
    let selections = tracker.json(&["query", "selections", "stage = 'round 1/sample'"]);
    assert!(selections.iter().all(|s| s["scorer"].as_str().unwrap().starts_with("endpoint:")), "{selections:?}");
    replays_without(endpoint, &tracker, &run);
}

/// A plan whose policy and judge are behind `endpoint`.
fn served(tracker: &Tracker, endpoint: &Endpoint, api: &str) -> String {
    let prompts: Vec<Value> = (0..16).map(|at| json!({"prompt": format!("What is {at}?")})).collect();
    write(tracker, "prompts.jsonl", &prompts);
    let url = endpoint.url();
    format!(
        "study = 'dpa'\n[endpoint]\nurl = '{url}'\nmodel = 'chatter'\napi = '{api}'\n[judge]\nurl = '{url}'\nmodel = 'marker'\n\
         [data]\nprompts = 'prompts.jsonl'\n[reward]\nby = 'endpoint'\nattributes = ['helpfulness', 'verbosity']\n\
         helpfulness = {{ helpfulness = 1.0 }}\nverbosity = {{ verbosity = 1.0 }}\n[directions]\nn_measured = 5\n\
         [rsf]\nrounds = 0\nn_prompts = 4\nn_directions = 2\nn_samples = 4\n[measure]\nn_prompts = 6\nn_resamples = 60\n\
         [baselines]\ndpo = []\nsteer_lm = []\nmorlhf = []\nsoups = []\n"
    )
}

#[test]
fn a_policy_behind_an_endpoint_is_asked_under_directions_and_measured_and_never_trained() {
    for api in ["chat", "completions"] {
        let (tracker, endpoint) = (Tracker::new(), Endpoint::start());
        let plan = served(&tracker, &endpoint, api);
        for (from, to, key) in [
            ("rounds = 0", "rounds = 2", "rsf.rounds"),
            ("dpo = []", "dpo = [0.1]", "baselines.dpo"),
            ("steer_lm = []", "steer_lm = [[100, 30]]", "baselines.steer_lm"),
            ("morlhf = []", "morlhf = [0.0, 45.0]", "baselines.morlhf"),
        ] {
            let url = endpoint.url();
            tracker.refused(&plan.replace(from, to), &[key, "`endpoint`", &url, "weights", "turn"]);
        }
        let other = plan.replace("by = 'endpoint'", "by = 'model'");
        let rated = other.replace("prompts = 'prompts.jsonl'", "prompts = 'prompts.jsonl'\nratings = ['r.jsonl']");
        tracker.refused(&rated, &["data.ratings", "weights"]);
        tracker.refused(&other, &["data.ratings", "models.reward"]);
        assert!(!tracker.store().exists() && endpoint.n_calls() == 0, "a refused plan did something");

        let (run, answer) = tracker.finished(&plan);
        // It says as many words as it is told.
        let control = run["claims"].as_array().unwrap().iter().find(|claim| claim["id"] == "directions-control");
        assert_eq!(control.unwrap()["value"], 1.0, "{api}: {run}");
        assert_eq!(run["claims"].as_array().unwrap().len(), 1, "of one round nothing grows: {run}");
        assert!(figure(&answer, "round 0/figures: volume, model") > 0.0);
        let [brief, wordy] =
            ["-45.00°", "45.00°"].map(|at| figure(&answer, &format!("round 0/figures: verbosity, {at}, model")));
        assert!(brief <= 20.0 && wordy >= 80.0, "{brief} {wordy}");
        let selections = tracker.json(&["query", "selections", "stage = 'round 0/sample'"]);
        assert_eq!(selections.len(), 8);
        assert!(tracker.json(&["query", "checkpoints"]).is_empty());
        // What was chosen is a dataset that others can train on.
        let rows = tracker.run(&["artifact", "get", "dpa/round 0/best", "rows", "--json"]);
        assert_eq!(rows.code, 0, "{}", rows.stderr);
        let text = std::fs::read_to_string(tracker.folder().join("rows/rows.jsonl")).unwrap();
        assert_eq!(text.lines().count(), 8);
        assert!(text.lines().all(|line| line.contains("weighted rating = helpfulness*")), "{text}");
        replays_without(endpoint, &tracker, &run);
    }
}

#[test]
fn a_killed_run_of_a_served_policy_and_its_judge_resumes_to_the_same_records() {
    let (tracker, endpoint) = (Tracker::new(), Endpoint::start());
    let plan = served(&tracker, &endpoint, "chat");
    std::fs::write(tracker.folder().join("plan.toml"), plan).unwrap();
    tracker.assert_asks_nothing_twice(&endpoint);
}

/// `HelpSteer`'s and `UltraFeedback`'s rows in the small language.
fn published() -> (Vec<Value>, Vec<Value>) {
    let said = |at: u64| format!("a{} b{}", at % 4, at / 4 % 4);
    let asked = |at: u64| format!("facts a{} b{} ask a =", at % 4, at / 4 % 4);
    let steer = |at: u64| {
        let coherence = if at.is_multiple_of(4) { Value::Null } else { json!(at % 5) };
        json!({"prompt": asked(at), "response": said(at), "helpfulness": at % 5, "correctness": 4, "coherence": coherence,
            "complexity": 1, "verbosity": at % 3})
    };
    let ultra = |at: u64| {
        let one = |model: &str, response: String, rating: u64| {
            let honesty = if at.is_multiple_of(4) { "N/A".to_owned() } else { rating.to_string() };
            json!({"model": model, "response": response, "overall_score": 2.0 * rating as f64, "annotations": {
                "instruction_following": {"Rating": rating.to_string()}, "honesty": {"Rating": honesty},
                "truthfulness": {"Rating": "5"}, "helpfulness": {"Rating": "3"}}})
        };
        let completions = [one("x", said(at), 1 + at % 5), one("y", said(at + 1), 3)];
        json!({"source": "s", "instruction": asked(at), "models": ["x", "y"], "completions": completions})
    };
    ((0..16).map(steer).collect(), (0..16).map(ultra).collect())
}

#[test]
fn published_ratings_are_learnt_as_they_are_and_what_is_wrong_with_them_is_said_by_file_row_and_field() {
    let tracker = Tracker::new();
    assert_eq!(tracker.smoke_of("dpa", &["--set", "rsf.rounds=1"])["status"], "finished");
    let answer = tracker.run(&["materialize", "checkpoint:base", &path(&tracker, "base")]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let prompts: Vec<Value> =
        (0..20).map(|at| json!({"prompt": format!("facts a{} b{} ask b =", at % 4, at / 4 % 4)})).collect();
    write(&tracker, "prompts.jsonl", &prompts);
    let plan = |file: &str, format: &str, attributes: &str, helpfulness: &str, more: &str| {
        format!(
            "study = 'dpa'\n[models]\npolicy = 'base'\ntemplate = '{{system}} {{prompt}}'\nmax_tokens = 4\n[data]\n\
             prompts = 'prompts.jsonl'\nratings = ['{file}']\nformat = '{format}'\nid = ''\n{more}\n[reward]\n\
             attributes = {attributes}\nhelpfulness = {{ {helpfulness} = 1.0 }}\nverbosity = {{ {helpfulness} = -1.0 }}\n\
             [directions]\nn_measured = 2\n[rsf]\nn_warm_up = 4\nn_offline = 2\nrounds = 0\n[measure]\nn_prompts = 4\n\
             n_resamples = 60\n[baselines]\ndpo = []\nsteer_lm = []\nmorlhf = []\nsoups = []\n"
        )
    };
    let (steer, ultra) = published();
    write(&tracker, "steer.jsonl", &steer);
    write(&tracker, "ultra.jsonl", &ultra);
    let ours = "['verbosity', 'coherence', 'helpfulness']";
    let (_, said) = tracker.finished(&plan("steer.jsonl", "helpsteer", ours, "helpfulness", ""));
    assert!(said.stdout.contains("16 of 16 rows are used"), "{}", said.stdout);
    assert_eq!(figure(&said, "ratings/figures: missing ratings of coherence"), 0.25);
    let rows = tracker.run(&["artifact", "get", "dpa/ratings", "rows"]);
    assert_eq!(rows.code, 0, "{}", rows.stderr);
    let text = std::fs::read_to_string(tracker.folder().join("rows/rows.jsonl")).unwrap();
    let row: Value = serde_json::from_str(text.lines().nth(7).unwrap()).unwrap();
    // Ratings of 2, 2 and 1 on the scale from 0 to 100.
    assert_eq!((&row["helpfulness"], &row["coherence"], &row["verbosity"]), (&json!(50.0), &json!(50.0), &json!(30.0)));

    let ours = "['honesty', 'overall']";
    let (_, said) = tracker.finished(&plan("ultra.jsonl", "ultrafeedback", ours, "overall", ""));
    assert!(said.stdout.contains("16 of 16 rows are used, 32 answers"), "{}", said.stdout);
    assert_eq!(figure(&said, "ratings/figures: missing ratings of honesty"), 0.25);

    // What the files do not have is refused with what they have, and other formats' rows by field.
    let wrong = plan("ultra.jsonl", "ultrafeedback", "['charm']", "charm", "");
    tracker.refused(&wrong, &["reward.attributes", "charm", "overall, instruction_following", "ultrafeedback"]);
    let wrong = plan("steer.jsonl", "helpsteer", "['honesty']", "honesty", "");
    tracker.refused(&wrong, &["reward.attributes", "honesty", "correctness, coherence", "helpsteer"]);
    let wrong = plan("steer.jsonl", "ultrafeedback", "['honesty']", "honesty", "");
    tracker.refused(&wrong, &["steer.jsonl, row 1, field `instruction`"]);
    tracker.refused(
        &plan("steer.jsonl", "helpsteer", "['verbosity']", "verbosity", "").replace("id = ''", ""),
        &["steer.jsonl, row 1, field `id`", "expected an id"],
    );

    // Labels out of range, empty and too long answers, numbers that are texts in some rows.
    let ours = ("['verbosity', 'helpfulness']", "helpfulness");
    let long = "a0 ".repeat(60);
    for (field, value, part) in [
        ("helpfulness", json!(5), "from 0 to 4, got 5"),
        ("helpfulness", json!("high"), "a finite number"),
        ("helpfulness", json!("3"), "a number as in the rows before"),
        ("response", json!(" "), "not blank"),
        ("response", json!(long), "at most 48 tokens"),
        ("prompt", json!(long), "at most 48 tokens"),
    ] {
        let mut rows = steer.clone();
        rows[5][field] = value;
        write(&tracker, "bad.jsonl", &rows);
        let bad = plan("bad.jsonl", "helpsteer", ours.0, ours.1, "");
        tracker.refused(&bad, &["bad.jsonl, row 6", &format!("field `{field}`"), part, "skip_bad"]);
    }
    let bad = plan("bad.jsonl", "helpsteer", ours.0, ours.1, "skip_bad = true");
    let (_, said) = tracker.finished(&bad);
    assert!(said.stdout.contains("15 of 16 rows are used"), "{}", said.stdout);

    // A prompt that leaves no room for an answer, and one that says nothing.
    for (text, part) in [(long.as_str(), "at most 44 tokens"), (" ", "not blank")] {
        let mut rows = prompts.clone();
        rows[2] = json!({"prompt": text});
        write(&tracker, "prompts.jsonl", &rows);
        let bad = plan("steer.jsonl", "helpsteer", ours.0, ours.1, "");
        tracker.refused(&bad, &["prompts.jsonl`, line 3, field `prompt`", part]);
    }
}

/// Rows to learn from, and `RewardBench` rows of one whole section and a part of another.
fn preferences(tracker: &Tracker) {
    let letters = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let conversation = |asked: &str, said: &str| json!([{"role": "user", "content": format!("copy {asked} =")}, {"role": "assistant", "content": said}]);
    let right = |at: usize| format!("{} {}", letters[at % 8], letters[at / 8 % 8]);
    let train: Vec<Value> = (0..24)
        .map(|at| {
            json!({"id": at, "source": "made", "conv_A": conversation(&right(at), "h h h"),
                "conv_B": conversation(&right(at), &right(at)), "conv_A_rating": 1.0, "conv_B_rating": 4.0})
        })
        .collect();
    let subsets =
        ["alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard", "mt-bench-easy", "mt-bench-med", "math-prm"];
    let bench: Vec<Value> = (0..24)
        .map(|at| {
            json!({"id": at, "prompt": format!("upper {} =", right(at)), "chosen": right(at).to_uppercase(),
                "rejected": right(at), "subset": subsets[at % 6]})
        })
        .collect();
    write(tracker, "train.jsonl", &train);
    write(tracker, "bench.jsonl", &bench);
}

#[test]
fn a_judge_is_grms_gold_on_published_prompts_and_reward_bench_has_its_sections() {
    let (tracker, endpoint) = (Tracker::new(), Endpoint::start());
    assert_eq!(tracker.smoke_of("grm", &["--set", "ppo.repeats=0"])["status"], "finished");
    let answer = tracker.run(&["materialize", "checkpoint:policy", &path(&tracker, "base")]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    preferences(&tracker);
    let url = endpoint.url();
    let plan = |gold: &str, judge: &str, more: &str| {
        format!(
            "study = 'grm'\n[data]\nbase = 'base'\ntrain = ['train.jsonl']\ntrials = ['bench.jsonl']\n[texts]\nn_test = 4\n\
             [pairs]\nsizes = [8, 16]\nmax_tokens = 4\n[rm]\nmethods = ['bt', 'grm-sft']\nrepeats = 2\nensemble = 2\nhidden = 8\n\
             [search]\ngold = '{gold}'\nn_prompts = 3\nn_candidates = 6\nsizes = [1, 6]\nn_resamples = 60\n[ppo]\nrepeats = 0\n\
             [judge]\nurl = '{url}'\nmodel = '{judge}'\n{more}"
        )
    };
    let (run, said) = tracker.finished(&plan("pairwise", "duelist", ""));
    let ids: BTreeSet<&str> =
        run["claims"].as_array().unwrap().iter().map(|claim| claim["id"].as_str().unwrap()).collect();
    assert!(ids.contains("best-of-n-beats-bt") && !ids.contains("ppo-beats-bt"), "{ids:?}");
    // Which is longer is told of each pair in both orders, so the score does not depend on the place.
    let id = run["run"].as_str().unwrap();
    let filter = "stage = 'candidates' AND kind = 'outcome'";
    let golds = tracker.json(&["query", "rewards", filter, "--run", id, "--limit", "100"]);
    assert_eq!(golds.len(), 3 * 6);
    for gold in &golds {
        assert!(gold["scorer"].as_str().unwrap().starts_with("endpoint:"), "{gold}");
        assert!([0.0, 0.5, 1.0].contains(&gold["value"].as_f64().unwrap()), "{gold}");
    }
    assert!(kinds(&tracker, golds[0]["id"].as_str().unwrap()).contains("endpoint"));
    let [first, all] = [1, 6].map(|n| figure(&said, &format!("search/exact: gold, best of {n}")));
    assert!(first <= all, "{first} {all}");

    // One section is whole, the others are not, and that is said.
    let chat = figure(&said, "accuracy/16 clean grm-sft: bench: Chat");
    assert!((0.0..=1.0).contains(&chat));
    assert!(!said.stdout.contains("bench: Reasoning") && !said.stdout.contains("bench: score"));
    assert!(said.stdout.contains("bench: no score of Reasoning, which lacks hep-cpp"), "{}", said.stdout);

    // Another policy writes, another judge rates.
    let writer = format!("[endpoint]\nurl = '{url}'\nmodel = 'chatter'\n");
    let (other, _) = tracker.finished(&plan("rating", "rater", &writer));
    let id = other["run"].as_str().unwrap();
    let drawn = tracker.json(&["query", "samples", "stage = 'candidates'", "--run", id, "--limit", "100"]);
    assert_eq!(drawn.len(), 3 * 6);
    assert!(drawn.iter().all(|sample| sample["policy"].as_str().unwrap().starts_with("endpoint:")), "{:?}", drawn[0]);

    for (from, to, parts) in [
        ("[ppo]\nrepeats = 0", "[ppo]\nrepeats = 1", &["ppo.repeats", "`endpoint`", "weights"][..]),
        ("gold = 'rating'", "gold = 'none'", &["search.gold", "a judge"]),
        ("n_prompts = 3", "n_prompts = 5", &["search.n_prompts", "texts.n_test"]),
        ("max_tokens = 4", "max_tokens = 40", &["prompt 1 of best of n", "pairs.max_tokens"]),
        ("base = 'base'\ntrain = ['train.jsonl']\ntrials = ['bench.jsonl']", "", &["search.gold", "exact score"]),
    ] {
        tracker.refused(&plan("rating", "rater", &writer).replace(from, to), parts);
    }
    replays_without(endpoint, &tracker, &run);
}
