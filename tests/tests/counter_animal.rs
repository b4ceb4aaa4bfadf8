//! The study of common and counter groups, end to end: run, resume, files, photos, published tables, questions.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use serde_json::Value;
use tracker_tests::Tracker;

/// Plans of files alone.
const ALONE: &str = "study = \"counter_animal\"\n[theory]\nseeds = []\n[digits]\nseeds = []\n";

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/queries").join(name)
}

/// Runs a plan with nothing of its own; its last event. Claims may fail.
fn finished(tracker: &Tracker, plan: &str) -> Value {
    tracker.finished(&format!("{ALONE}{plan}")).0
}

fn refused(tracker: &Tracker, plan: &str, parts: &[&str]) {
    tracker.refused(&format!("{ALONE}{plan}"), parts);
}

fn claim<'a>(run: &'a Value, id: &str) -> &'a Value {
    let found = run["claims"].as_array().unwrap().iter().find(|claim| claim["id"] == id);
    found.unwrap_or_else(|| panic!("no claim `{id}` in {:#}", run["claims"]))
}

fn figures(tracker: &Tracker, run: &Value, filter: &str) -> Vec<Value> {
    let run = run["run"].as_str().unwrap();
    tracker.json(&["query", "figures", filter, "--run", run, "--limit", "100000"])
}

#[test]
fn equal_plans_give_equal_records_whatever_the_workers_and_a_killed_run_resumes_to_them() {
    Tracker::new().assert_repeats("counter_animal", &[0.1, 0.4, 0.7, 0.9]);
}

/// Predictions of two models on two classes, and what they are.
const ROWS: &str = "image,class,group,model,prompts,background,source,prediction
1,fox,common,a,single,snow,x1,fox
2,fox,common,a,single,snow,x2,fox
3,fox,counter,a,single,grass,x3,bear
4,\"polar\nbear\",common,a,single,snow,x4,\"polar\nbear\"
5,\"polar\nbear\",counter,a,single,grass,x5,\"polar\nbear\"
6,\"polar\nbear\",counter,a,single,grass,x6,fox
7,yak,common,a,single,grass,x7,yak
";

#[test]
fn predictions_are_measured_by_class_and_everything_is_said_of_what_is_left_out() {
    let tracker = Tracker::new();
    std::fs::write(tracker.folder().join("p.csv"), ROWS).unwrap();
    let run = finished(&tracker, "[data]\npredictions = [\"p.csv\"]\n");
    let value = |name: &str| {
        let found = figures(&tracker, &run, &format!("stage = 'accuracy predictions' AND name = '{name}'"));
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found[0]["value"].as_f64().unwrap()
    };
    // Of two classes: 1 and 1; 0 and 1/2. The third has no images of the counter group.
    assert_eq!((value("common"), value("counter"), value("drop")), (1.0, 0.25, 0.75));
    assert_eq!(value("counter, unbalanced"), 1.0 / 3.0);
    let by_class = figures(&tracker, &run, "stage = 'classes predictions' AND name LIKE 'drop%'");
    let mut drops: Vec<f64> = by_class.iter().map(|of| of["value"].as_f64().unwrap()).collect();
    drops.sort_by(f64::total_cmp);
    assert_eq!(drops, [0.5, 1.0], "{by_class:?}");
    assert!(by_class.iter().any(|of| of["name"] == "drop, polar\nbear"), "{by_class:?}");
    let shown = &tracker.json(&["show", run["run"].as_str().unwrap()])[0];
    assert!(shown.to_string().contains("\"yak\""), "{shown}");
    // One model tells no line, and no claim is made of it.
    assert_eq!(run["claims"].as_array().unwrap().len(), 1, "{run}");
    let replayed = tracker.run(&["replay", run["run"].as_str().unwrap(), "--json"]);
    assert_eq!(replayed.lines().pop().unwrap()["same_as_before"], true, "{}", replayed.stderr);
}

#[test]
fn figures_lead_to_rows_and_data_sets_to_the_discovery_model() {
    let tracker = Tracker::new();
    std::fs::write(tracker.folder().join("p.csv"), ROWS).unwrap();
    let run = finished(
        &tracker,
        "[data]\npredictions = [\"p.csv\"]\n[discovery]\nprompt = \"A photo of <label>, please.\"\n",
    );
    let id = run["run"].as_str().unwrap();
    for figure in figures(&tracker, &run, "value >= 0") {
        let node = figure["id"].as_str().unwrap();
        let rows = tracker.json(&["query", "datasets", "rows IS NOT NULL", "--ancestors-of", node]);
        let purposes: Vec<&str> = rows.iter().map(|of| of["purpose"].as_str().unwrap()).collect();
        assert!(purposes.contains(&"predictions") && purposes.contains(&"images"), "{figure}: {rows:?}");
        let programs = tracker.json(&["query", "programs", "name = 'discovery model'", "--ancestors-of", node]);
        assert!(programs.len() == 1 && programs[0]["settings"].as_str().unwrap().contains("please."), "{programs:?}");
    }
    let images = &tracker.json(&["query", "datasets", "purpose = 'images'", "--run", id])[0];
    assert_eq!(images["n_rows"], 7, "{images}");
}

#[test]
fn families_prompt_sets_and_slips_of_predictions_are_found() {
    let tracker = Tracker::new();
    for name in ["predictions.csv", "models.csv"] {
        std::fs::copy(golden(name), tracker.folder().join(name)).unwrap();
    }
    let run = finished(&tracker, "[data]\npredictions = [\"predictions.csv\"]\nmodels = \"models.csv\"\n");
    let suspects = figures(&tracker, &run, "stage = 'suspects predictions' AND name = 'same numbers'");
    assert!(
        suspects.len() == 1 && suspects[0]["split"].as_str().unwrap().contains("L/14, single, 1v20"),
        "{suspects:?}"
    );
    assert_eq!(claim(&run, "sound: predictions")["holds"], false);
    // Each family under each prompt set has a line, with a residual a model.
    let slopes = figures(&tracker, &run, "name = 'slope' AND stage LIKE 'fit predictions, 1v1000%'");
    assert_eq!(slopes.len(), 3, "{slopes:?}");
    let residuals = figures(&tracker, &run, "name = 'residual' AND stage LIKE 'fit predictions, 1v1000%'");
    assert_eq!(residuals.len(), 9, "{residuals:?}");
    let far = claim(&run, "less-robust: predictions, 1v1000, CLIP, single, none near the discovery model");
    let all = claim(&run, "less-robust: predictions, 1v1000, CLIP, single");
    assert_ne!(far["value"], all["value"]);
    let gain = claim(&run, "prompts: predictions, 1v1000, CLIP, eighty less single");
    assert!(gain["low"].as_f64().unwrap() < gain["value"].as_f64().unwrap(), "{gain}");
    // A model that the file of models does not have.
    let text = std::fs::read_to_string(golden("models.csv")).unwrap().replace("RN18,", "RN19,");
    std::fs::write(tracker.folder().join("models.csv"), text).unwrap();
    refused(
        &tracker,
        "[data]\npredictions = [\"predictions.csv\"]\nmodels = \"models.csv\"\n",
        &["models.csv", "`RN18`"],
    );
}

#[test]
fn wrong_files_are_refused_by_file_and_line_before_anything_is_measured() {
    let tracker = Tracker::new();
    let with = |rows: &str| std::fs::write(tracker.folder().join("p.csv"), rows).unwrap();
    let plan = "[data]\npredictions = [\"p.csv\"]\n";
    with(&ROWS.replace("counter,a,single,grass,x3", "contrary,a,single,grass,x3"));
    refused(&tracker, plan, &["p.csv", "row 3", "line 4", "`group`", "`contrary`"]);
    with(&ROWS.replace("prediction", "predicted"));
    refused(&tracker, plan, &["p.csv", "`predicted`", "expected one of image"]);
    with(&ROWS.replace("counter", "common"));
    refused(&tracker, plan, &["expected a class with images of both groups", "0 of `counter`"]);
    refused(&tracker, "[data]\npredictions = [\"none.csv\"]\n", &["none.csv", "cannot be read"]);
    refused(&tracker, "[data]\nlabels = \"l.txt\"\n", &["data.labels"]);
    refused(&tracker, "", &["digits.seeds", "something to do"]);
    refused(&tracker, "[images]\nfolder = \"photos\"\n", &["images.models"]);
    refused(&tracker, "[discovery]\nn_labels = 0\n", &["discovery.n_labels"]);
    let named = photos(&tracker).replace("\"all\"", "\"1v3\"");
    refused(&tracker, &named, &["images.space", "1v3"]);
}

/// A folder of photos for the CLIP of the golden files: three classes, both groups.
fn photos(tracker: &Tracker) -> String {
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("gpu/lm/tests/golden/clip");
    for class in ["n01", "n02", "n03"] {
        for group in ["common-snow", "counter-grass"] {
            let folder = tracker.folder().join("photos").join(class).join(group);
            std::fs::create_dir_all(&folder).unwrap();
            for nth in ["a.png", "b.png"] {
                std::fs::copy(clip.join("photo.png"), folder.join(nth)).unwrap();
            }
        }
    }
    std::fs::write(tracker.folder().join("names.txt"), "n01\tw7 w4\nn02\tw9 w12 w30 w31 w8\nn03\tw63\n").unwrap();
    std::fs::write(tracker.folder().join("single.txt"), "{}\n").unwrap();
    std::fs::write(tracker.folder().join("two.txt"), "w5 {}\nw6 {} w5\n").unwrap();
    format!(
        "[images]\nfolder = \"photos\"\nnames = \"names.txt\"\nprompts = {{ single = \"single.txt\", two = \"two.txt\" }}\nmodels = {{ \"tiny\" = {:?} }}\nspace = \"all\"\n[discovery]\nmodel = \"tiny\"\nn_labels = 3\n",
        clip.display().to_string()
    )
}

#[test]
fn photos_are_classified_by_a_clip_as_transformers_scores_them() {
    let tracker = Tracker::new();
    let plan = photos(&tracker);
    let run = finished(&tracker, &plan);
    let id = run["run"].as_str().unwrap();
    // One picture throughout: logits of transformers are −3.0135, −2.1834 and −4.5068, so it is always the second class.
    let common =
        figures(&tracker, &run, "stage = 'accuracy photos' AND name = 'common' AND split = 'tiny, single, all'");
    assert_eq!(common[0]["value"].as_f64().unwrap(), 1.0 / 3.0, "{common:?}");
    let predictions = &tracker.json(&["query", "datasets", "purpose = 'predictions'", "--run", id])[0];
    assert_eq!(
        predictions["n_rows"],
        12 * 2 * 2,
        "two prompt sets, over all labels and over the nearest three: {predictions}"
    );
    let out = tracker.folder().join("rows");
    let got = tracker.run(&["artifact", "get", predictions["rows"].as_str().unwrap(), out.to_str().unwrap()]);
    assert_eq!(got.code, 0, "{}", got.stderr);
    let text = std::fs::read_to_string(out.join("rows.csv")).unwrap();
    let row = text.lines().nth(1).unwrap().replace("\"\"", "\"");
    // Cosines, whose ratios are those of the logits.
    let list = row.split("\"[[").nth(1).unwrap().split("]]\"").next().unwrap();
    let list: Vec<(String, f64)> = serde_json::from_str(&format!("[[{list}]]")).unwrap();
    assert_eq!((list[0].0.as_str(), list[1].0.as_str(), list[2].0.as_str()), ("w9 w12 w30 w31 w8", "w7 w4", "w63"));
    for (at, (was, want)) in list.iter().zip([-2.1834, -3.0135, -4.5068]).enumerate() {
        assert!((was.1 / list[0].1 - want / -2.1834).abs() < 0.02, "{at}: {list:?}");
    }
    // What it came from: weights, templates, labels, preprocessing, all by digest.
    let node = common[0]["id"].as_str().unwrap();
    let datasets = tracker.json(&["query", "datasets", "--ancestors-of", node]);
    let names: Vec<&str> = datasets.iter().map(|of| of["name"].as_str().unwrap()).collect();
    for name in ["label space all", "prompt set single", "photos images", "label space 1v3"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    assert_eq!(tracker.json(&["query", "checkpoints", "label = 'tiny'", "--ancestors-of", node]).len(), 1);
    assert_eq!(tracker.json(&["query", "programs", "name = 'preprocessing'", "--ancestors-of", node]).len(), 1);
    let replayed = tracker.run(&["replay", id, "--json"]);
    assert_eq!(replayed.lines().pop().unwrap()["same_as_before"], true, "{}", replayed.stderr);
}

#[test]
fn photos_that_lie_elsewhere_or_are_none_are_refused_by_their_path() {
    let tracker = Tracker::new();
    let plan = photos(&tracker);
    let wrong = tracker.folder().join("photos/n01/usual-snow");
    std::fs::create_dir_all(&wrong).unwrap();
    refused(&tracker, &plan, &["usual-snow", "common-BACKGROUND"]);
    std::fs::remove_dir(&wrong).unwrap();
    std::fs::write(tracker.folder().join("photos/n02/common-snow/c.jpg"), "no picture").unwrap();
    refused(&tracker, &plan, &["c.jpg"]);
    std::fs::remove_file(tracker.folder().join("photos/n02/common-snow/c.jpg")).unwrap();
    std::fs::write(tracker.folder().join("two.txt"), "w5 {}\nw6\n").unwrap();
    refused(&tracker, &plan, &["two.txt", "template 2", "`{}`"]);
    std::fs::write(tracker.folder().join("two.txt"), "w5 {}\n").unwrap();
    std::fs::write(tracker.folder().join("names.txt"), "n01\tw7\nn02\tw9\n").unwrap();
    refused(&tracker, &plan, &["n03", "`images.names`"]);
}

/// The paper's tables, where the folder of data is there.
#[test]
#[allow(clippy::print_stderr, reason = "a skip is printed")]
fn the_papers_tables_are_compared_and_their_slips_are_said() {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/counter_animal/published_tables.csv");
    if !table.exists() {
        eprintln!("SKIP {} is not there", table.display());
        return;
    }
    let tracker = Tracker::new();
    let run = finished(&tracker, &format!("[data]\ntables = [{:?}]\n", table.display().to_string()));
    let near = |id: &str, want: f64| {
        let value = claim(&run, id)["value"].as_f64().unwrap();
        assert!((value - want).abs() < 0.000_06, "{id}: {value}");
    };
    near("less-robust: tables, 1v1000, CLIP, single", -0.0241);
    near("less-robust: tables, 1v1000, CLIP, single, none near the discovery model", -0.0146);
    near("less-robust: tables, 1v1000, CLIP, openai80", 0.0006);
    assert_eq!(claim(&run, "less-robust: tables, 1v1000, CLIP, single")["holds"], true);
    assert_eq!(claim(&run, "less-robust: tables, 1v1000, CLIP, openai80")["holds"], false);
    assert_eq!(claim(&run, "prompts: tables, 1v1000, CLIP, openai80 less single")["holds"], true);
    assert_eq!(claim(&run, "sound: tables")["value"], 9.0);
    let slope = figures(&tracker, &run, "name = 'slope' AND stage = 'fit tables, 1v1000, ImageNet, single'");
    assert!((slope[0]["value"].as_f64().unwrap() - 1.214).abs() < 0.0006, "{slope:?}");
}
