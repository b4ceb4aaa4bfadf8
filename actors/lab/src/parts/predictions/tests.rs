use std::fmt::Write as _;
use std::path::PathBuf;

use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};

use super::*;
use crate::error::Error;
use crate::parts::rows::{Options, Reader};

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

fn read_with(name: &str, text: &str, labels: &[&str], skip_bad: bool) -> Result<Predictions, Error> {
    let files = Files::new();
    let path = files.write(name, text);
    let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
    let collector = Collector::new(&labels, 3)?;
    Reader::open(&collector, &[path], Options::new("", skip_bad))?.collect_all()?;
    collector.finish()
}

fn read(name: &str, text: &str) -> Result<Predictions, Error> {
    read_with(name, text, &[], false)
}

fn refused(name: &str, text: &str, parts: &[&str]) {
    let error = read(name, text).unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "expected `{part}` in: {error}");
    }
}

const CSV: &str = "image,class,group,model,prompts,prediction
a,fox,common,m,single,fox
b,fox,counter,m,single,cat
a,fox,common,m,eighty,fox
b,fox,counter,m,eighty,fox
";

#[test]
fn csv_json_lines_and_arrays_say_the_same() {
    let from_csv = read("p.csv", CSV).unwrap();
    let keys = ["image", "class", "group", "model", "prompts", "prediction"];
    let rows: Vec<String> = CSV
        .lines()
        .skip(1)
        .map(|line| {
            let row: serde_json::Map<String, serde_json::Value> =
                keys.iter().zip(line.split(',')).map(|(key, cell)| ((*key).to_owned(), cell.into())).collect();
            serde_json::Value::Object(row).to_string()
        })
        .collect();
    let from_lines = read("p.jsonl", &rows.join("\n")).unwrap();
    let from_array = read("p.json", &format!("[{}]", rows.join(","))).unwrap();
    for other in [&from_lines, &from_array] {
        assert_eq!((&other.images, &other.sets), (&from_csv.images, &from_csv.sets));
    }
    assert_eq!(from_csv.sets.len(), 2);
    assert_eq!(from_csv.right(&from_csv.sets[0]), [true, false]);
    assert_eq!(from_csv.right(&from_csv.sets[1]), [true, true]);
    assert_eq!(from_csv.sets[1].name(), "m, eighty, all");
}

#[test]
fn wrong_columns_and_rows_are_named_by_file_and_line() {
    refused("p.csv", &CSV.replace("group", "grup"), &["p.csv", "row 1", "`grup`", "line 2", "expected one of image"]);
    refused(
        "p.csv",
        &CSV.replace("b,fox,counter,m,single", "b,fox,control,m,single"),
        &["p.csv", "row 2", "line 3", "`group`", "`control`"],
    );
    refused(
        "p.csv",
        &CSV.replace("b,fox,counter,m,single,cat", "b,fox,counter,m,single"),
        &["line 3", "expected 6 columns", "got 5"],
    );
    refused("p.csv", &CSV.replace("image,class", "image,image"), &["line 1", "`image` twice"]);
    refused(
        "p.csv",
        &CSV.replace("b,fox,counter,m,eighty", "b,wolf,counter,m,eighty"),
        &["line 5", "`class`", "expected `fox`", "`wolf`"],
    );
    refused(
        "p.csv",
        &CSV.replace("b,fox,counter,m,eighty", "b,fox,common,m,eighty"),
        &["line 5", "`group`", "expected `counter`"],
    );
    refused("p.csv", &CSV.replace("m,eighty", "m,single"), &["line 4", "earlier row has the answer of m, single"]);
    refused(
        "p.csv",
        &CSV.replace("m,eighty,fox", "m,single,bear"),
        &["line 4", "`image`", "earlier row has the answer of m, single"],
    );
    refused("p.jsonl", "{\"image\": \"a\"}", &["p.jsonl", "row 1", "`prediction`", "got none or several"]);
    refused("p.jsonl", "{\"image\": \"a\", \"top\": [], \"class\": \"x\"}", &["`top`", "at least one label"]);
    // A row too few: who lacks what.
    let cut = CSV.trim_end().rsplit_once('\n').unwrap().0;
    refused("p.csv", cut, &["m, eighty, all", "each of 2 images", "`b`"]);
    refused("p.csv", "image,class,group,model,prompts,prediction\n", &["p.csv", "got none that can be used"]);
}

#[test]
fn empty_texts_are_none_and_are_refused() {
    refused("p.csv", &CSV.replace("a,fox,common,m,single,fox", "a,fox,common,m,single,"), &["line 2", "`prediction`"]);
    refused(
        "p.csv",
        &CSV.replace("a,fox,common,m,single,fox", "a,,common,m,single,fox"),
        &["line 2", "`class`", "got nothing"],
    );
    refused(
        "p.jsonl",
        r#"{"image": " ", "class": "x", "group": "common", "model": "m", "prompts": "p", "prediction": "x"}"#,
        &["`image`", "blank"],
    );
    refused(
        "p.jsonl",
        r#"{"image": "a", "class": "x", "group": "common", "model": "m", "prompts": "p", "top": ["x", ""]}"#,
        &["`top`", "blank"],
    );
}

#[test]
fn wrong_rows_can_be_left_out_where_nothing_is_missed_then() {
    let text = format!("{CSV}c,fox,nowhere,m,single,fox\n");
    assert!(read("p.csv", &text).is_err());
    assert_eq!(read_with("p.csv", &text, &[], true).unwrap().images.len(), 2);
}

#[test]
fn class_names_may_have_newlines_quotes_and_any_script() {
    let names = ["arctic\nfox", "北极狐", "a \"fox\", white", "[fox]", "🦊"];
    let mut text = "image,class,group,model,prompts,prediction,background\n".to_owned();
    for (at, name) in names.iter().enumerate() {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        for group in ["common", "counter"] {
            writeln!(text, "{group}{at},{quoted},{group},m,p,{quoted},snow").unwrap();
        }
    }
    let found = read("p.csv", &text).unwrap();
    assert_eq!(found.labels.len(), names.len());
    assert!(found.right(&found.sets[0]).iter().all(|right| *right));
    assert_eq!(found.images[0].background, "snow");
    let again = Predictions::from_csv(&found.to_csv().unwrap()).unwrap();
    assert_eq!((again.images.len(), again.labels.name(again.images[4].class)), (10, names[2]));
    assert_eq!(again.sets, found.sets);
    assert_eq!(again.images, found.images);
}

/// Rows with scores of three labels; the third image's are all equal.
fn scored() -> String {
    let row = |(image, class, group, scores): (&str, &str, &str, &str)| {
        format!(
            r#"{{"image":"{image}","class":"{class}","group":"{group}","model":"d","prompts":"p","scores":{scores}}}"#
        )
    };
    let rows = [
        ("a", "x", "common", "[0.5, 0.4, 0.1]"),
        ("b", "x", "counter", "[0.1, 0.4, 0.3]"),
        ("c", "z", "common", "[0.2, 0.2, 0.2]"),
        ("d", "z", "counter", "[0.1, 0.0, 0.9]"),
    ];
    rows.map(row).join("\n")
}

#[test]
fn scores_are_ranked_ties_take_the_first_label_and_are_counted() {
    let found = read_with("p.jsonl", &scored(), &["x", "y", "z"], false).unwrap();
    let set = &found.sets[0];
    let first: Vec<&str> = set.first.iter().map(|label| found.labels.name(*label)).collect();
    assert_eq!(first, ["x", "y", "x", "z"]);
    assert_eq!(set.n_ties, 1);
    assert_eq!(set.top[0][1], Ranked { label: 1, score: Some(0.4) });
    let again = Predictions::from_csv(&found.to_csv().unwrap()).unwrap();
    assert_eq!((&again.sets[0].first, &again.sets[0].top), (&set.first, &set.top));
    for (labels, part) in
        [(&["x", "y"][..], "expected 2 scores"), (&[], "`data.labels`"), (&["x", "x", "z"], "`x` twice")]
    {
        let error = read_with("p.jsonl", &scored(), labels, false).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let nan = scored().replace("0.9", "NaN");
    let error = read_with("p.jsonl", &nan, &["x", "y", "z"], false).unwrap_err().to_string();
    assert!(error.contains("row 4") && error.contains("`scores`"), "{error}");
}

#[test]
fn few_label_spaces_are_the_labels_with_the_largest_sums() {
    let found = read_with("p.jsonl", &scored(), &["x", "y", "z"], false).unwrap();
    let discovery = &found.sets[0];
    // Sums of x's images: 0.6, 0.8, 0.4; of z's: 0.3, 0.2, 1.1.
    let lists = nearest_labels(&found, discovery, 2).unwrap();
    assert_eq!(lists[&0], [1, 0]);
    assert_eq!(lists[&2], [2, 0]);
    let few = found.restricted(discovery, &lists, "1v2", 3).unwrap();
    // z's images are asked for x or z: of equal scores x, which comes first in the label space.
    assert_eq!((few.first.clone(), few.n_ties, few.space.as_str()), (vec![0, 1, 0, 2], 1, "1v2"));
    // Its own label is not the nearest of x.
    let error = nearest_labels(&found, discovery, 1).unwrap_err().to_string();
    assert!(error.contains("class `x`") && error.contains("not among the 1"), "{error}");
    // As many labels as there are, or more, are all.
    assert_eq!(
        found.restricted(discovery, &nearest_labels(&found, discovery, 9).unwrap(), "all", 3).unwrap().first,
        discovery.first
    );
}

#[test]
fn of_one_candidate_everything_is_right_and_a_set_without_scores_has_no_few_labels() {
    let rows = scored().replace("\"z\"", "\"x\"").replace("[0.5, 0.4, 0.1]", "[0.5]");
    let rows =
        rows.replace("[0.1, 0.4, 0.3]", "[0.1]").replace("[0.2, 0.2, 0.2]", "[0.2]").replace("[0.1, 0.0, 0.9]", "[0]");
    let found = read_with("p.jsonl", &rows, &["x"], false).unwrap();
    assert!(found.right(&found.sets[0]).iter().all(|right| *right));
    assert_eq!(found.sets[0].n_ties, 0);
    let few =
        found.restricted(&found.sets[0], &nearest_labels(&found, &found.sets[0], 20).unwrap(), "1v20", 3).unwrap();
    assert_eq!(few.first, found.sets[0].first);
    let found = read("p.csv", CSV).unwrap();
    let error = nearest_labels(&found, &found.sets[0], 20).unwrap_err().to_string();
    assert!(error.contains("m, single, all") && error.contains("expected scores"), "{error}");
}

#[test]
fn parquet_is_read_as_csv_is() {
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    let files = Files::new();
    let path = files.0.path().join("p.parquet");
    let names = ["image", "class", "group", "model", "prompts", "prediction"];
    let columns = names.map(|name| format!("REQUIRED BYTE_ARRAY {name} (UTF8);")).join(" ");
    let schema = std::sync::Arc::new(parse_message_type(&format!("message rows {{ {columns} }}")).unwrap());
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, std::sync::Arc::new(WriterProperties::new())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for at in 0..names.len() {
        let cells: Vec<ByteArray> = CSV.lines().skip(1).map(|line| line.split(',').nth(at).unwrap().into()).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&cells, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    let collector = Collector::new(&[], 3).unwrap();
    Reader::open(&collector, &[path], Options::new("", false)).unwrap().collect_all().unwrap();
    let found = collector.finish().unwrap();
    let expected = read("p.csv", CSV).unwrap();
    assert_eq!((found.images, found.sets), (expected.images, expected.sets));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn what_is_kept_with_a_run_reads_back(names in proptest::collection::vec("[^\\s]\\PC{0,6}", 2..5), picks in proptest::collection::vec((0..4_usize, 0..4_usize), 1..20)) {
        let mut found = Predictions::default();
        for (at, (class, _)) in picks.iter().enumerate() {
            let class = found.labels.number(&names[class % names.len()]);
            let group = Group::BOTH[at % 2];
            found.images.push(Image { id: at.to_string(), class, group, background: String::new(), source: "s".into() });
        }
        let first: Vec<u32> = picks.iter().map(|(_, label)| found.labels.number(&names[label % names.len()])).collect();
        found.sets.push(Answers { model: "m".into(), prompts: "p,\n\"".into(), space: "s".into(), first, top: vec![], scores: None, n_ties: 0 });
        let again = Predictions::from_csv(&found.to_csv().unwrap()).unwrap();
        let names_of = |of: &Predictions| -> Vec<String> { of.sets[0].first.iter().map(|label| of.labels.name(*label).to_owned()).collect() };
        prop_assert_eq!(names_of(&again), names_of(&found));
        prop_assert_eq!(&again.sets[0].prompts, &found.sets[0].prompts);
        prop_assert_eq!(again.images.len(), found.images.len());
    }
}
