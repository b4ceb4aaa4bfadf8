use std::fs;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, FloatType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn by_content() -> Options {
    Options { ids: Ids::Content, ..Options::default() }
}

fn read_text<F: Format>(format: F, text: &str, options: Options) -> Result<(Vec<F::Row>, Report)> {
    let files = Files::new();
    let path = files.write("rows.jsonl", text);
    Reader::open(format, &[path], options)?.collect_all()
}

/// The error of a row, without the folder.
fn refused<F: Format>(format: F, row: &serde_json::Value) -> String
where
    F::Row: std::fmt::Debug,
{
    let error = read_text(format, &row.to_string(), Options::default()).unwrap_err();
    assert!(error.is_input() && error.hint().is_some());
    let text = error.to_string();
    text.split_once("rows.jsonl, row 1").unwrap_or_else(|| panic!("{text}")).1.to_owned()
}

fn one<F: Format>(format: F, row: &serde_json::Value) -> F::Row {
    read_text(format, &row.to_string(), Options::default()).unwrap().0.swap_remove(0)
}

#[test]
fn er_prm_rows_have_a_label_for_each_tag() {
    let row = json!({"id": "a", "text": "2+2=4 ки\n4*2=8 ки", "value": [0.62, 1]});
    let row = one(ErPrm::default(), &row);
    assert_eq!(row.steps, ["2+2=4 ки", "\n4*2=8 ки"]);
    assert_eq!(row.values, [0.62, 1.0]);
    for (text, value, expected) in [
        ("a ки b ки", json!([0.5]), ", field `value`: expected as many labels as steps end in `ки` (2), got 1"),
        ("a ки", json!([1.5]), ", field `value[0]`: expected a number from 0 to 1, got 1.5"),
        ("a ки", json!([-0.1]), ", field `value[0]`: expected a number from 0 to 1, got -0.1"),
        ("a ки", json!([null]), ", field `value[0]`: expected a finite number, got `null`"),
        ("a ки", json!(["NaN"]), ", field `value[0]`: expected a finite number, got `\"NaN\"`"),
        ("a ки", json!([]), ", field `value`: expected at least one element, got an empty list"),
        ("ки", json!([1]), ", field `text`: expected a step before each `ки`, got none in step 0"),
        (" ", json!([1]), ", field `text`: expected a text that is not blank, got a blank one"),
    ] {
        assert_eq!(refused(ErPrm::default(), &json!({"id": "a", "text": text, "value": value})), expected);
    }
}

#[test]
fn best_of_tests_are_read_under_either_name_of_their_labels() {
    for field in ["label", "labels"] {
        let row = one(BestOfTest, &json!({"id": 7, "prompt": "p", "answers": ["a", "b"], field: [0, 1.0]}));
        assert_eq!((row.id.as_str(), row.labels.as_slice()), ("7", [false, true].as_slice()));
    }
    let row = |label, other| json!({"id": 7, "prompt": "p", "answers": ["a", "b"], "label": label, "labels": other});
    assert_eq!(one(BestOfTest, &row(json!([true, 0]), json!(null))).labels, [true, false]);
    for (label, other, expected) in [
        (json!([0, 1]), json!([1, 1]), ", field `labels`: expected the same as in `label`, got something else"),
        (json!([0]), json!(null), ", field `label`: expected as many as answers (2), got 1"),
        (json!([0, 2]), json!(null), ", field `label[1]`: expected a number from 0 to 1, got 2"),
        (json!([0, 0.5]), json!(null), ", field `label[1]`: expected 0 or 1, got 0.5"),
        (json!(null), json!(null), ", field `label`: expected a list, got null"),
    ] {
        assert_eq!(refused(BestOfTest, &row(label, other)), expected);
    }
    let blank = json!({"id": 7, "prompt": "p", "answers": ["a", " "], "label": [0, 1]});
    assert_eq!(refused(BestOfTest, &blank), ", field `answers[1]`: expected a text that is not blank, got a blank one");
}

#[test]
fn completions_are_as_many_as_were_asked_for() {
    let row = json!({"id": "p/3", "prompt": "prefix", "completions": ["a", "b"]});
    assert_eq!(one(Completions::default(), &row).completions, ["a", "b"]);
    let sixteen = Completions { n_completions: Some(16) };
    assert_eq!(refused(sixteen, &row), ", field `completions`: expected 16, got 2");
}

fn dialogue(answer: &str) -> serde_json::Value {
    json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}])
}

#[test]
fn unified_feedback_gives_pairs_and_ties_give_none() {
    let row = |a: f64, b: f64| json!({"id": "u1", "source": "s", "conv_A": dialogue("x"), "conv_B": dialogue("y"), "conv_A_rating": a, "conv_B_rating": b});
    let pair = one(UnifiedFeedback, &row(1.0, 4.0)).pair().unwrap();
    assert_eq!((pair.chosen.as_str(), pair.rejected.as_str(), pair.margin), ("y", "x", Some(3.0)));
    assert_eq!(one(UnifiedFeedback, &row(5.0, 4.0)).pair().unwrap().chosen, "x");
    assert_eq!(one(UnifiedFeedback, &row(4.0, 4.0)).pair(), None);
    let mut other = row(1.0, 2.0);
    other["conv_B"][0]["content"] = json!("another");
    assert_eq!(
        refused(UnifiedFeedback, &other),
        ", field `conv_B`: expected the same prompt as in `conv_A`, got another"
    );
    let mut other = row(1.0, 2.0);
    other["conv_A"][1]["content"] = json!("");
    assert!(
        refused(UnifiedFeedback, &other).starts_with(", field `conv_A[1].content`: expected a text that is not blank")
    );
    other["conv_A"] = json!([{"role": "user", "content": "q"}]);
    assert!(refused(UnifiedFeedback, &other).contains("`conv_A`: expected an answer of the `assistant`"));
    let mut other = row(1.0, 2.0);
    other["conv_A_rating"] = json!(null);
    assert_eq!(refused(UnifiedFeedback, &other), ", field `conv_A_rating`: expected a number, got null");
}

#[test]
fn chosen_and_rejected_are_read_as_texts_and_as_dialogues() {
    let text =
        json!({"id": "a", "prompt": "q", "chosen": "x", "rejected": "y", "score_chosen": 8, "score_rejected": 5.5});
    let talk = json!({"id": "a", "chosen": dialogue("x"), "rejected": dialogue("y"), "chosen_score": "8", "rejected_score": 5.5});
    let pair = one(ChosenRejected, &text);
    assert_eq!(pair, one(ChosenRejected, &talk));
    assert_eq!((pair.prompt[0].content.as_str(), pair.margin), ("q", Some(2.5)));
    let change = |field: &str, value: serde_json::Value| {
        let mut row = text.clone();
        row[field] = value;
        refused(ChosenRejected, &row)
    };
    assert!(change("rejected", json!("x")).contains("expected another answer"));
    assert!(change("score_rejected", json!(null)).contains("scores of both answers or of none"));
    assert!(
        change("score_rejected", json!(9)).contains("`chosen_score`: expected no less than the other's, got -1 less")
    );
    assert!(change("prompt", json!(null)).contains("`prompt`: expected a text, got null"));
    assert!(change("id", json!(null)).contains("`id`: expected an id, got null"));
}

#[test]
fn reward_bench_has_its_subsets_and_its_score() {
    let row = |subset: &str| json!({"id": 3, "prompt": "p", "chosen": "x", "rejected": "y", "subset": subset});
    assert_eq!(one(RewardBench, &row("math-prm")).source, "math-prm");
    assert!(refused(RewardBench, &row("math")).contains("field `subset`: expected one of RewardBench's"));
    let mut accuracies: BTreeMap<String, f64> =
        SUBSETS.iter().map(|subset| ((*subset).to_owned(), f64::from(u8::from(subset.starts_with("hep"))))).collect();
    let (sections, score) = reward_bench_score(&accuracies).unwrap();
    assert_eq!(sections.last().unwrap(), &("Reasoning", 0.5), "mathematics counts as much as code");
    assert_eq!(score, 0.125);
    accuracies.insert("llmbar-natural".into(), 1.0);
    assert!((reward_bench_score(&accuracies).unwrap().0[1].1 - 100.0 / 456.0).abs() < 1e-15);
    accuracies.insert("math".into(), 1.0);
    assert!(reward_bench_score(&accuracies).unwrap_err().to_string().contains("subset math"));
    accuracies.remove("math");
    accuracies.insert("hep-go".into(), f64::NAN);
    assert!(reward_bench_score(&accuracies).is_err());
    accuracies.remove("hep-go");
    assert!(reward_bench_score(&accuracies).unwrap_err().to_string().contains("subset hep-go"));
}

const SUBSETS: [&str; 23] = [
    "alpacaeval-easy",
    "alpacaeval-length",
    "alpacaeval-hard",
    "mt-bench-easy",
    "mt-bench-med",
    "mt-bench-hard",
    "llmbar-natural",
    "llmbar-adver-neighbor",
    "llmbar-adver-GPTInst",
    "llmbar-adver-GPTOut",
    "llmbar-adver-manual",
    "refusals-dangerous",
    "refusals-offensive",
    "xstest-should-refuse",
    "xstest-should-respond",
    "donotanswer",
    "math-prm",
    "hep-cpp",
    "hep-go",
    "hep-java",
    "hep-js",
    "hep-python",
    "hep-rust",
];

#[test]
fn attributes_may_be_missing_but_never_misspelled() {
    let steer = json!({"id": 1, "prompt": "p", "response": "r", "helpfulness": 3, "correctness": 4, "coherence": null, "complexity": 0});
    assert_eq!(one(HelpSteer, &steer).values, [Some(3.0), Some(4.0), None, Some(0.0), None]);
    assert_eq!((help_steer_score(0.0), help_steer_score(4.0)), (10.0, 90.0));
    for (name, least, most) in [("overall", 1.0, 10.0), ("honesty", 1.0, 5.0)] {
        let ends = [least, most, f64::midpoint(least, most)].map(|x| ultra_feedback_score(name, x));
        assert_eq!(ends, [10.0, 90.0, 50.0], "{name}");
    }
    let mut wrong = steer.clone();
    wrong["helpfulness"] = json!(5);
    assert_eq!(refused(HelpSteer, &wrong), ", field `helpfulness`: expected a number from 0 to 4, got 5");
    let none = json!({"id": 1, "prompt": "p", "response": "r"});
    assert!(refused(HelpSteer, &none).contains("expected a value for at least one attribute"));

    let format = || Attributes { names: vec!["help".into(), "length".into()], range: (0.0, 100.0) };
    let row = json!({"id": 1, "messages": dialogue("r"), "help": 20.5, "length": null});
    assert_eq!(one(format(), &row).values, [Some(20.5), None]);
    let misspelled = json!({"id": 1, "messages": dialogue("r"), "help": 20.5, "lenght": 3});
    assert_eq!(
        refused(format(), &misspelled),
        ", field `lenght`: expected one of the attributes help, length, got another"
    );
}

#[test]
fn ultra_feedback_is_read_as_published() {
    let row = |rating: serde_json::Value| {
        let annotations = json!({
            "instruction_following": {"Rating": "4", "Rationale": "…"}, "honesty": {"Rating": rating},
            "truthfulness": {"Rating": "5", "Type": ["1"]}, "helpfulness": {"Rating": "N/A"},
        });
        let completion = json!({"model": "m", "response": "r", "overall_score": 7.5, "annotations": annotations});
        json!({"id": "f", "source": "s", "instruction": "do", "models": ["m"], "completions": [completion]})
    };
    let feedback = one(UltraFeedback, &row(json!("3")));
    assert_eq!(feedback.completions[0].values, [Some(7.5), Some(4.0), Some(5.0), Some(3.0), None]);
    assert_eq!((feedback.completions[0].id.as_str(), feedback.models.as_slice()), ("f/0", ["m".to_owned()].as_slice()));
    assert_eq!(
        refused(UltraFeedback, &row(json!("6"))),
        ", field `completions[0].annotations.honesty.Rating`: expected a number from 1 to 5, got 6"
    );
    let mut unknown = row(json!("3"));
    unknown["completions"][0]["annotations"]["humour"] = json!({"Rating": "3"});
    assert!(
        refused(UltraFeedback, &unknown).starts_with(", field `completions[0].annotations.humour`: expected one of")
    );
}

#[test]
fn results_are_found_where_each_publisher_puts_them() {
    let gsm = json!({"id": 1, "query": "How many?", "response": "2 + 2 = <<2+2=4>>4.\n#### 4"});
    let math = json!({"id": 1, "problem": "x?", "solution": "so \\boxed{1} or \\boxed{\\frac{1}{2}}.", "level": 5});
    let named = json!({"id": 1, "problem": "x?", "solution": "…", "answer": "\\frac12"});
    let answers = [gsm, math, named].map(|row| one(Questions, &row).answer);
    assert_eq!(answers, ["4", "\\frac{1}{2}", "\\frac12"]);
    let none = json!({"id": 1, "question": "x?", "solution": "so \\boxed{1"});
    assert!(refused(Questions, &none).contains("field `solution`: expected a result"));
    let blank = json!({"id": 1, "question": "x?", "answer": "#### "});
    assert!(refused(Questions, &blank).contains("got a blank one"));
}

#[test]
fn rows_without_ids_are_refused_and_may_be_named_by_what_they_say() {
    let text = "{\"prompt\": \"p\", \"completions\": [\"a\"]}\n{\"prompt\": \"p\", \"completions\": [\"b\"]}\n";
    let error = read_text(Completions::default(), text, Options::default()).unwrap_err();
    assert!(error.to_string().ends_with("row 1, field `id`: expected an id, got nothing"), "{error}");
    assert!(error.hint().unwrap().contains("never by their place"));
    let (rows, report) = read_text(Completions::default(), text, by_content()).unwrap();
    assert!(rows[0].id != rows[1].id && rows[0].id.len() == 64);
    assert_eq!((report.n_read, report.n_kept), (2, 2));
    // The order of files does not name rows.
    let swapped = text.lines().rev().collect::<Vec<_>>().join("\n");
    let (other, changed) = read_text(Completions::default(), &swapped, by_content()).unwrap();
    assert_eq!((&rows[0], &rows[1]), (&other[1], &other[0]));
    assert_ne!(report.content, changed.content, "order is part of a data set's content");
}

#[test]
fn a_field_that_is_a_number_in_some_rows_and_a_text_in_others_is_refused_by_file_row_and_field() {
    let steer =
        |id: u32, help: serde_json::Value| json!({"id": id, "prompt": "p", "response": "r", "helpfulness": help});
    let text =
        |rows: &[serde_json::Value]| rows.iter().flat_map(|row| [row.to_string(), "\n".into()]).collect::<String>();
    let rows = [steer(1, json!(3)), steer(2, json!("3")), steer(3, json!(1.5))];
    let error = read_text(HelpSteer, &text(&rows), Options::default()).unwrap_err().to_string();
    let expected =
        "rows.jsonl, row 2, field `helpfulness`: expected a number as in the rows before, got a text: `\"3\"`";
    assert!(error.ends_with(expected), "{error}");
    let options = Options { skip_bad: true, ..Options::default() };
    let (kept, report) = read_text(HelpSteer, &text(&rows), options).unwrap();
    assert_eq!((kept.len(), report.n_read, report.n_skipped["helpfulness"]), (2, 3, 1));
    // All as text is one kind, and what is missing is none.
    let rows = [steer(1, json!("3")), steer(2, json!("4"))];
    assert_eq!(read_text(HelpSteer, &text(&rows), Options::default()).unwrap().0.len(), 2);
    let steps = |id: u32, value: serde_json::Value| json!({"id": id, "text": "a ки b ки", "value": value});
    let rows = [steps(1, json!([0.5, "1"]))];
    let error = read_text(ErPrm::default(), &text(&rows), Options::default()).unwrap_err().to_string();
    assert!(error.contains("field `value[1]`: expected a number as in the rows before, got a text"), "{error}");
}

#[test]
fn rows_that_do_not_pass_a_check_are_wrong_rows_like_others() {
    let map = |row: CompletionsOf| match row.completions.len() {
        1 => Ok(row),
        n => Err(Fault::new("completions", format!("expected one, got {n}"))),
    };
    let text = "{\"id\": 1, \"prompt\": \"p\", \"completions\": [\"a\"]}\n{\"id\": 2, \"prompt\": \"p\", \"completions\": [\"a\", \"b\"]}\n";
    let checked = || Mapped { format: Completions::default(), map };
    let error = read_text(checked(), text, Options::default()).unwrap_err().to_string();
    assert!(error.ends_with("rows.jsonl, row 2, field `completions`: expected one, got 2"), "{error}");
    let (rows, report) = read_text(checked(), text, Options { skip_bad: true, ..Options::default() }).unwrap();
    assert_eq!((rows.len(), report.n_read, report.n_kept), (1, 2, 1));
}

#[test]
fn two_rows_of_one_id_are_refused_within_and_across_files() {
    let row = |id: &str, answer: &str| json!({"id": id, "prompt": "p", "completions": [answer]}).to_string();
    let files = Files::new();
    let a = files.write("a.jsonl", format!("{}\n{}\n", row("x", "1"), row("y", "2")));
    let b = files.write("b.jsonl", format!("{}\n{}\n", row("z", "3"), row("x", "4")));
    let read = |options| Reader::open(Completions::default(), &[a.clone(), b.clone()], options).unwrap().collect_all();
    let error = read(Options::default()).unwrap_err().to_string();
    assert!(
        error
            .ends_with("b.jsonl, row 2, field `id`: an earlier row has the same id `x`: number 1 of all, in `a.jsonl`"),
        "{error}"
    );
    let (rows, report) = read(Options { skip_bad: true, ..Options::default() }).unwrap();
    assert_eq!((rows.len(), report.n_read, report.n_kept, report.n_files), (3, 4, 3, 2));
    let twice = format!("{0}\n{0}\n", row("x", "1"));
    let error = read_text(Completions::default(), &twice, by_content()).unwrap_err().to_string();
    assert!(error.contains("row 2: an earlier row says the same: number 1 of all"), "{error}");
}

#[test]
fn shards_of_one_name_are_refused() {
    let files = Files::new();
    let one = files.write("gpu0/samples.json", "[]");
    let two = files.write("gpu1/samples.json", "[]");
    let error = Reader::open(BestOfTest, &[one, two], Options::default()).err().unwrap();
    assert!(error.to_string().contains("two files of one data set are called `samples.json`"), "{error}");
    assert!(Reader::open(BestOfTest, &[], Options::default()).is_err());
}

#[test]
fn bad_rows_are_left_out_counted_and_named_if_asked() {
    let text = "{\"id\": 1, \"text\": \"a ки\", \"value\": [0.5]}\n\n{\"id\": 2, \"text\": \"a ки\", \"value\": [2]}\nnot json\n\
                {\"id\": 4, \"text\": \"a ки\", \"value\": [NaN]}\n[1]\n{\"id\": 6, \"text\": \"a ки\", \"value\": [0.25]}";
    let options = Options { skip_bad: true, n_rows: Some(6), ..Options::default() };
    let (rows, report) = read_text(ErPrm::default(), text, options).unwrap();
    assert_eq!(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["1", "6"]);
    assert_eq!((report.n_read, report.n_kept), (6, 2), "the denominator counts what was left out");
    assert_eq!(report.n_skipped, BTreeMap::from([(String::new(), 2), ("value".to_owned(), 2)]));
    let named: Vec<(u64, &str)> = report.skipped.iter().map(|row| (row.row, row.field.as_str())).collect();
    assert_eq!(named, [(2, "value[0]"), (3, ""), (4, "value"), (5, "")]);
    assert!(report.skipped[2].what.contains("`NaN`") && report.skipped[3].what.contains("expected an object"));
    assert_eq!(report.dataset("d", "train").n_rows, 2);
    // What was left out changes nothing in the data set.
    let clean = text.lines().filter(|line| line.contains("0.")).collect::<Vec<_>>().join("\n");
    assert_eq!(read_text(ErPrm::default(), &clean, Options::default()).unwrap().1.content, report.content);
    let mut recording = tracker_store::Recording::new();
    report.record(&mut recording, tracker_store::RunId::from_bytes([1; 16]), "train").unwrap();
    assert!(!recording.is_empty());
    // Without the flag the first ends the reading.
    let mut reader = {
        let files = Files::new();
        let path = files.write("rows.jsonl", text);
        let reader = Reader::open(ErPrm::default(), &[path], Options::default()).unwrap();
        let rows: Vec<_> = reader.collect();
        rows.into_iter()
    };
    assert!(reader.next().unwrap().is_ok() && reader.next().unwrap().is_err() && reader.next().is_none());
    let all_bad = Options { skip_bad: true, ..Options::default() };
    let error = read_text(ErPrm::default(), "{}\n{}\n", all_bad).unwrap_err();
    assert!(error.to_string().ends_with("expected ER-PRM rows, got none that can be used of 2"), "{error}");
    assert!(error.hint().unwrap().contains("row 1, field `id`"));
}

#[test]
fn files_that_end_early_are_refused_whatever_was_asked() {
    let row = |id: u32| json!({"id": id, "prompt": "p", "completions": ["a, ]\\\" [{"]}).to_string();
    let lines = (0..3).map(row).collect::<Vec<_>>().join("\n");
    let array = format!(" [{}]", (0..3).map(row).collect::<Vec<_>>().join(",\n "));
    let skip = || Options { skip_bad: true, ..Options::default() };
    for text in [&lines, &array] {
        assert_eq!(read_text(Completions::default(), text, Options::default()).unwrap().0.len(), 3);
        let error = read_text(Completions::default(), &text[..text.len() - 5], skip()).unwrap_err();
        assert!(error.hint().unwrap().contains("cut off"), "{error}");
    }
    let few = Options { n_rows: Some(1000), ..skip() };
    let error = read_text(Completions::default(), &lines, few).unwrap_err();
    assert!(error.to_string().contains("expected 1000 rows as declared, got 3"), "{error}");
    assert!(read_text(Completions::default(), "[]", skip()).is_err());
    assert!(read_text(Completions::default(), "", skip()).is_err());
    let missing = Reader::open(Completions::default(), &["nowhere.jsonl".into()], skip()).unwrap().collect_all();
    assert!(missing.unwrap_err().to_string().contains("nowhere.jsonl: cannot be read"));
}

/// Writes columns one after the other.
struct Group<'a>(SerializedRowGroupWriter<'a, Vec<u8>>);

impl Group<'_> {
    fn texts(&mut self, texts: &[&str], def: Option<&[i16]>, rep: Option<&[i16]>) {
        let values: Vec<ByteArray> = texts.iter().map(|text| ByteArray::from(*text)).collect();
        let mut column = self.0.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, def, rep).unwrap();
        column.close().unwrap();
    }

    fn numbers(&mut self, numbers: &[f64], def: Option<&[i16]>, rep: Option<&[i16]>) {
        let mut column = self.0.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(numbers, def, rep).unwrap();
        column.close().unwrap();
    }
}

fn parquet_of(schema: &str, write: impl FnOnce(&mut Group<'_>)) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut file =
        SerializedFileWriter::new(Vec::new(), schema, Arc::new(WriterProperties::builder().build())).unwrap();
    {
        let mut group = Group(file.next_row_group().unwrap());
        write(&mut group);
        group.0.close().unwrap();
    }
    file.into_inner().unwrap()
}

#[test]
fn parquet_and_json_lines_give_the_same_rows() {
    let steps = parquet_of(
        "message rows { REQUIRED BYTE_ARRAY id (UTF8); OPTIONAL BYTE_ARRAY text (UTF8);
           OPTIONAL group value (LIST) { REPEATED group list { OPTIONAL DOUBLE element; } } }",
        |group| {
            group.texts(&["a", "b"], None, None);
            group.texts(&["x ки y ки", "z ки"], Some(&[1, 1]), None);
            group.numbers(&[0.62, 1.0, 0.1], Some(&[3, 3, 3]), Some(&[0, 1, 0]));
        },
    );
    let files = Files::new();
    let path = files.write("train-00000-of-00001.parquet", &steps);
    let (rows, report) = Reader::open(ErPrm::default(), &[path], Options::default()).unwrap().collect_all().unwrap();
    let text = "{\"id\": \"a\", \"text\": \"x ки y ки\", \"value\": [0.62, 1.0]}\n{\"id\": \"b\", \"text\": \"z ки\", \"value\": [0.1]}";
    let (same, by_lines) = read_text(ErPrm::default(), text, Options::default()).unwrap();
    assert_eq!(rows, same);
    assert_eq!(report.content, by_lines.content);
    // A file that was cut off has no footer.
    let path = files.write("cut.parquet", &steps[..steps.len() - 20]);
    let error = Reader::open(ErPrm::default(), &[path], Options::default()).unwrap().collect_all().unwrap_err();
    assert!(error.to_string().contains("cut.parquet") && error.hint().unwrap().contains("cut off"), "{error}");
}

#[test]
fn images_within_parquet_are_read_with_their_paths() {
    use crate::studies::correlation_qa::CorrelationRows;
    let png = [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0xff, 0x00];
    let schema = "message rows { OPTIONAL BYTE_ARRAY image; REQUIRED BYTE_ARRAY image_path (UTF8); REQUIRED BYTE_ARRAY category (UTF8);
        REQUIRED BYTE_ARRAY question (UTF8); REQUIRED BYTE_ARRAY true_answer (UTF8); }";
    let bytes = parquet_of(schema, |group| {
        let mut column = group.0.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[ByteArray::from(png.to_vec())], Some(&[1, 0]), None).unwrap();
        column.close().unwrap();
        for texts in [["factual/1.png", "spurious/1.png"], ["city", "city"], ["Q?", "Q?"], ["New\nYork", "New\nYork"]] {
            group.texts(&texts, None, None);
        }
    });
    let files = Files::new();
    let path = files.write("rows.parquet", bytes);
    let (rows, _) = Reader::open(CorrelationRows, &[path], by_content()).unwrap().collect_all().unwrap();
    assert_eq!((rows[0].image.as_deref(), rows[1].image.as_deref()), (Some(&png[..]), None));
    assert_eq!((rows[0].path.as_str(), rows[0].answer.as_str()), ("factual/1.png", "New\nYork"));
    // As JSON an image is base64, a URL of data, or an object with bytes; other bytes are no image.
    let row = |image: serde_json::Value| json!({"image": image, "image_path": "p", "category": "c", "question": "q", "true_answer": "a"});
    let coded = "iVBORw0KGgr/AA==";
    for image in [json!(coded), json!(format!("data:image/png;base64,{coded}")), json!({"bytes": coded, "path": "p"})] {
        let read = read_text(CorrelationRows, &row(image).to_string(), by_content()).unwrap().0.swap_remove(0);
        assert_eq!(read.image.as_deref(), Some(&png[..]));
    }
    for image in [json!("R0lG"), json!("no base64"), json!([1, 2])] {
        let error = read_text(CorrelationRows, &row(image).to_string(), by_content()).unwrap_err().to_string();
        assert!(error.contains("field `image`"), "{error}");
    }
}

#[test]
fn nested_parquet_and_its_nan_are_read() {
    let conversation = |name: &str| {
        format!(
            "OPTIONAL group {name} (LIST) {{ REPEATED group list {{ OPTIONAL group element {{
               OPTIONAL BYTE_ARRAY content (UTF8); OPTIONAL BYTE_ARRAY role (UTF8); }} }} }}"
        )
    };
    let schema = format!(
        "message rows {{ REQUIRED BYTE_ARRAY id (UTF8); REQUIRED BYTE_ARRAY source (UTF8); {} {}
           OPTIONAL DOUBLE conv_A_rating; OPTIONAL FLOAT conv_B_rating; }}",
        conversation("conv_A"),
        conversation("conv_B")
    );
    let bytes = parquet_of(&schema, |group| {
        group.texts(&["u1", "u2"], None, None);
        group.texts(&["s", "s"], None, None);
        let (def, rep) = ([4; 4], [0, 1, 0, 1]);
        for answer in ["x", "y"] {
            group.texts(&["q", answer, "q", answer], Some(&def), Some(&rep));
            group.texts(&["user", "assistant", "user", "assistant"], Some(&def), Some(&rep));
        }
        group.numbers(&[1.0, f64::NAN], Some(&[1, 1]), None);
        let mut column = group.0.next_column().unwrap().unwrap();
        column.typed::<FloatType>().write_batch(&[0.1, 0.1], Some(&[1, 1]), None).unwrap();
        column.close().unwrap();
    });
    let files = Files::new();
    let path = files.write("val.parquet", bytes);
    let rows: Vec<_> = Reader::open(UnifiedFeedback, &[path], Options::default()).unwrap().collect();
    let first = rows[0].as_ref().unwrap();
    assert_eq!((first.prompt[0].content.as_str(), &first.answers), ("q", &["x".to_owned(), "y".to_owned()]));
    assert_eq!(first.ratings, [1.0, 0.1]);
    let error = rows[1].as_ref().unwrap_err().to_string();
    assert!(
        error.ends_with("val.parquet, row 2, field `conv_A_rating`: expected a finite number, got `\"NaN\"`"),
        "{error}"
    );
}

/// Files as pyarrow 26 writes them, plain and by snappy; another compression is refused with what to do.
#[test]
fn parquet_of_another_writer_is_read() {
    let golden = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let read = |name: &str| Reader::open(ErPrm::default(), &[golden(name)], Options::default()).unwrap().collect_all();
    for name in ["er-prm.parquet", "er-prm-snappy.parquet"] {
        let (rows, _) = read(name).unwrap();
        assert_eq!(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((rows[0].steps.len(), rows[0].values.as_slice()), (2, [0.62, 1.0].as_slice()));
    }
    let error = read("er-prm-zstd.parquet").unwrap_err();
    assert!(error.to_string().contains("zstd"), "{error}");
    assert!(error.hint().unwrap().contains("compression=\"snappy\""), "{error}");
    let path = golden("unified-feedback.parquet");
    let (rows, _) = Reader::open(UnifiedFeedback, &[path], Options::default()).unwrap().collect_all().unwrap();
    assert_eq!(rows[0].pair().unwrap().chosen, "y");
}

/// Every byte was damaged in three ways when this was written; a part of that is enough to keep it so.
#[test]
fn a_damaged_parquet_file_never_panics() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files = Files::new();
    for name in ["er-prm.parquet", "unified-feedback.parquet"] {
        let whole = fs::read(folder.join(name)).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut damaged = whole.clone();
            damaged[at] ^= [0x01, 0x80, 0xff][at % 3];
            let path = files.write(name, &damaged);
            let options = Options { skip_bad: at % 2 == 0, ..Options::default() };
            if name.starts_with("er") {
                drop(Reader::open(ErPrm::default(), &[path], options).unwrap().collect_all());
            } else {
                drop(Reader::open(UnifiedFeedback, &[path], options).unwrap().collect_all());
            }
        }
    }
}

proptest! {
    #[test]
    fn reading_any_text_never_panics(text in "[\\[\\]{}\":,\\\\ \nNaIidvalue0-9.ки]{0,80}", skip_bad: bool) {
        let options = Options { skip_bad, ..by_content() };
        drop(read_text(ErPrm::default(), &text, options.clone()));
        drop(read_text(Questions, &format!("{{\"answer\": {text}}}"), options.clone()));
        drop(read_text(BestOfTest, &format!("[{text}"), options));
    }

    /// An array says what the same lines say, however it is laid out.
    #[test]
    fn an_array_is_its_elements(texts in prop::collection::vec("[a-zк\\]\\[{}\",\\\\]{1,9}", 1..5), gap in "[ \n\t]{0,3}") {
        let row = |(id, text): (usize, &String)| json!({"id": id, "prompt": text, "completions": [text]}).to_string();
        let rows: Vec<String> = texts.iter().enumerate().map(row).collect();
        let array = format!("{gap}[{gap}{}{gap}]{gap}", rows.join(&format!("{gap},{gap}")));
        let (lines, by_lines) = read_text(Completions::default(), &rows.join("\n"), Options::default()).unwrap();
        let (elements, by_array) = read_text(Completions::default(), &array, Options::default()).unwrap();
        prop_assert_eq!(lines, elements);
        prop_assert_eq!(by_lines.content, by_array.content);
    }
}

/// The files as ER-PRM publishes them, where the folder of data is there.
#[test]
#[allow(clippy::print_stderr, reason = "a skip is printed")]
fn published_problems_are_read_as_they_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/er_prm");
    for (name, n) in [("gsm8k_test.jsonl", 1319), ("math500_test.jsonl", 500)] {
        let path = folder.join(name);
        if !path.exists() {
            eprintln!("skipped: {} is not there", path.display());
            continue;
        }
        let options = Options { n_rows: Some(n), ..by_content() };
        let (rows, _) = Reader::open(Questions, &[path], options).unwrap().collect_all().unwrap();
        assert_eq!(rows.len() as u64, n);
        assert!(name.starts_with("math") || rows.iter().all(|row| row.answer.replace(',', "").parse::<f64>().is_ok()));
    }
}
