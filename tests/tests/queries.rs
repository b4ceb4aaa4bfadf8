//! The page of questions and answers, `cli/QUERIES.md`, held to what the binary prints.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;

use tracker_tests::Tracker;

/// Words of a command line: split at blanks, but not within quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// A line without what differs between runs: ids, digests, clock times. Widths of columns do not count.
fn settled(line: &str) -> Vec<String> {
    let is_name = |letter: char| letter.is_ascii_hexdigit() || letter == '-';
    let word = |word: &str| {
        let (mut settled, mut run) = (String::new(), String::new());
        let end = |run: &mut String, settled: &mut String| {
            let is_id = run.len() >= 8 && !settled.ends_with('.') && run.contains(|c: char| c.is_ascii_digit());
            settled.push_str(if is_id { "ID" } else { run });
            run.clear();
        };
        for letter in word.chars() {
            if is_name(letter) {
                run.push(letter);
            } else {
                end(&mut run, &mut settled);
                settled.push(letter);
            }
        }
        end(&mut run, &mut settled);
        settled
    };
    line.split_whitespace().map(word).collect()
}

#[test]
fn every_answer_on_the_page_is_what_the_binary_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("cli/QUERIES.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let is_blessed = std::env::var_os("TRACKER_BLESS").is_some();
    let tracker = Tracker::new();
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/queries");
    for file in std::fs::read_dir(files).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), tracker.folder().join(file.file_name())).unwrap();
    }
    let (mut written, mut lines, mut n_asked) = (String::new(), page.lines().peekable(), 0);
    let mut wrong = Vec::new();
    while let Some(line) = lines.next() {
        writeln!(written, "{line}").unwrap();
        let Some(command) = line.strip_prefix("    $ tracker ") else { continue };
        let mut expected = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with("    ") && !line.starts_with("    $ ")) {
            expected.push(line);
        }
        let args = words(command);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let answer = tracker.run(&args);
        // Runs differ, and claims fail at this size; everything else answers yes.
        let may_say_no = ["run", "diff"].contains(&args[0]);
        assert!(answer.code == 0 || answer.code == 1 && may_say_no, "{command}: {} {}", answer.code, answer.stderr);
        n_asked += 1;
        let shown = if args[0] == "run" { "" } else { answer.stdout.as_str() };
        for line in shown.lines() {
            writeln!(written, "    {}", line.trim_end()).unwrap();
        }
        // Clocks stand in the last two columns.
        let n_clocks = if args.starts_with(&["query", "stages"]) { 2 } else { 0 };
        let settle = |line: &str| {
            let mut words = settled(line);
            words.truncate(words.len().saturating_sub(n_clocks));
            words
        };
        let got: Vec<Vec<String>> = shown.lines().map(settle).collect();
        let expected: Vec<Vec<String>> = expected.into_iter().map(settle).collect();
        if got != expected {
            wrong.push(format!("$ tracker {command}\n{shown}"));
        }
    }
    assert!(n_asked > 40, "{n_asked}");
    if is_blessed {
        std::fs::write(&path, written).unwrap();
    } else {
        assert!(wrong.is_empty(), "cli/QUERIES.md says something else than\n{}", wrong.join("\n"));
    }
}

#[test]
fn every_figure_of_the_studies_leads_to_rows() {
    for study in ["er_prm", "grm", "dpa", "correlation_qa"] {
        let tracker = Tracker::new();
        let run = tracker.smoke_of(study, &[]);
        let run = run["run"].as_str().unwrap();
        let figures = tracker.json(&["query", "figures", "--run", run, "--limit", "100000"]);
        assert!(figures.len() > 40, "{study}: {}", figures.len());
        // Datasets whose rows are kept as a file count as rows; so do those that lead to samples or problems.
        let datasets = tracker.json(&["query", "datasets", "rows IS NOT NULL", "--run", run, "--limit", "100000"]);
        let with_rows: Vec<&str> = datasets.iter().map(|dataset| dataset["id"].as_str().unwrap()).collect();
        let mut without = Vec::new();
        for figure in &figures {
            let id = figure["id"].as_str().unwrap();
            let args = [
                "query", "lineage", id, "--kind", "sample", "--kind", "problem", "--kind", "dataset", "--limit",
                "1000000",
            ];
            let graph = tracker.json(&args).pop().unwrap();
            assert_eq!(graph["truncated"], false, "{id}");
            let leads = graph["nodes"].as_array().unwrap().iter().any(|node| match node["kind"].as_str().unwrap() {
                "sample" | "problem" => true,
                _ => with_rows.contains(&node["id"].as_str().unwrap()),
            });
            if !leads {
                without.push(format!("{}: {}", figure["stage"], figure["name"]));
            }
        }
        assert!(without.is_empty(), "{study}: no path to rows from {without:#?}");
        // And from a problem down: what was asked is known to lead somewhere.
        let claims = tracker.json(&["query", "claims", "--run", run]);
        for claim in &claims {
            let id = claim["id"].as_str().unwrap();
            let up = tracker.json(&["query", "problems", "--ancestors-of", id, "--limit", "1"]);
            assert!(!up.is_empty() || claim["claim"] == "dual-and-telescoping", "{study}: no problem behind {claim}");
        }
    }
}

#[test]
fn steps_of_runs_that_were_measured_on_other_items_are_not_paired() {
    let tracker = Tracker::new();
    for (name, seed) in [("one", "1"), ("same", "1"), ("other", "2")] {
        drop(tracker.smoke_of("grm", &["--name", name, "--seed", seed]));
    }
    let key = "search/16 clean bt/by prompt/best of 4";
    let less = |run: &str| tracker.run(&["query", "metrics", "one", key, "--less", &format!("{run}:{key}"), "--json"]);
    let same = less("same");
    assert_eq!(same.code, 0, "{}", same.stderr);
    assert_eq!(same.lines()[0]["estimate"]["value"], 0.0);
    let other = less("other");
    assert!(other.code == 2 && other.stderr.contains("other items"), "{}", other.stderr);
}
