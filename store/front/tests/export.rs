//! Tables of fronts, and their files read back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use proptest::prelude::*;
use tracker_front::{Candidate, Error, Format, Front, Objective, Options, Reason};

const ALL: [Format; 6] = [Format::Csv, Format::Json, Format::Parquet, Format::Svg, Format::Png, Format::Html];
const HOSTILE: &str = "</script><img src=x onerror=\"alert(1)\">&amp;',\n\u{0}\u{2028}é↑";

fn candidate(checkpoint: &str, values: &[f64]) -> Candidate {
    Candidate {
        run: "run".to_owned(),
        checkpoint: checkpoint.to_owned(),
        values: values.iter().map(|v| Some(*v)).collect(),
        artifact_digest: format!("blake3:{checkpoint}"),
        lineage_root: "base".to_owned(),
        ..Candidate::default()
    }
}

fn objectives() -> Vec<Objective> {
    vec![Objective::maximise("reward"), Objective::minimise("tax")]
}

/// Five points: three on the front, one behind it, one that was not measured.
fn front() -> Front {
    let mut candidates = vec![
        candidate("a", &[0.0, 0.0]),
        candidate("b", &[0.5, 0.25]),
        candidate("c", &[1.0, 1.0]),
        candidate("d", &[0.25, 0.5]),
        Candidate { values: vec![Some(1.0), None], ..candidate("e", &[]) },
    ];
    candidates[1].intervals = vec![Some((0.25, 0.75)), None];
    candidates[1].params = BTreeMap::from([("alpha".to_owned(), "0.5".to_owned())]);
    candidates[1].family = Some("HMA".to_owned());
    candidates[3].params = BTreeMap::from([("k,\"3\"".to_owned(), String::new())]);
    Front::new(objectives(), candidates, Options::default()).unwrap()
}

#[test]
fn a_front_knows_the_place_of_each_row() {
    let front = front();
    let places: Vec<_> = front.rows.iter().map(|r| (r.checkpoint.as_str(), r.is_pareto, r.rank, r.crowding)).collect();
    let inf = f64::INFINITY;
    assert_eq!(places, [("a", true, 0, inf), ("b", true, 0, 2.0), ("c", true, 0, inf), ("d", false, 1, inf)]);
    assert_eq!(front.reference.as_deref(), Some([0.0, 1.0].as_slice()));
    assert!(front.is_default_reference);
    assert_eq!(front.hypervolume, Some(0.5 * 0.75));
    assert_eq!((front.rejected.len(), front.rejected[0].checkpoint.as_str()), (1, "e"));
    assert_eq!((front.rejected[0].objective.as_str(), front.rejected[0].reason), ("tax", Reason::Missing));
    assert_eq!(front.families(), ["HMA"]);
}

#[test]
fn options_are_followed() {
    let candidates = vec![candidate("a", &[0.0, 0.0]), candidate("b", &[0.05, 0.05]), candidate("c", &[f64::NAN, 0.0])];
    let options = Options { reference: Some(vec![-1.0, 1.0]), epsilon: Some(vec![0.1, 0.1]) };
    let front = Front::new(objectives(), candidates, options).unwrap();
    assert!(!front.is_default_reference);
    assert!((front.hypervolume.unwrap() - (1.0 + 0.05 * 0.95)).abs() < 1e-12);
    // Their boxes are (0, 0) and (−1, 0) in costs: the second's dominates the first's.
    assert_eq!(front.rows.iter().map(|r| r.is_kept.unwrap()).collect::<Vec<_>>(), [false, true]);
    assert_eq!(front.rejected[0].reason, Reason::NotANumber);
}

#[test]
fn what_makes_no_table_is_refused_by_name() {
    let refuse = |objectives: Vec<Objective>, candidate: Candidate| {
        Front::new(objectives, vec![candidate], Options::default()).unwrap_err().to_string()
    };
    assert!(refuse(objectives(), candidate("a", &[0.0])).contains("`run a`, got 1"));
    let wrong = Candidate { intervals: vec![None], ..candidate("a", &[0.0, 0.0]) };
    assert!(refuse(objectives(), wrong).contains("2 intervals or none at `run a`"));
    let turned = Candidate { intervals: vec![None, Some((1.0, 0.0))], ..candidate("a", &[0.0, 0.0]) };
    assert!(refuse(objectives(), turned).contains("objective `tax`, got 1 to 0"));
    let twice = vec![Objective::minimise("x"), Objective::maximise("x")];
    assert!(refuse(twice, candidate("a", &[0.0, 0.0])).contains("`x` twice"));
    assert!(matches!(Front::new(vec![], vec![], Options::default()), Err(Error::Objectives(0))));
    let options = Options { reference: Some(vec![0.0]), epsilon: None };
    assert!(matches!(Front::new(objectives(), vec![], options), Err(Error::Reference { .. })));
}

#[test]
fn csv_comes_back() {
    let bytes = front().encode(Format::Csv).unwrap();
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let expected = "run checkpoint max.reward low.reward high.reward min.tax is_pareto rank crowding param.alpha param.k,\"3\" \
        artifact_digest lineage_root family hypervolume reference.reward reference.tax is_default_reference";
    assert_eq!(header, expected.split_whitespace().collect::<Vec<_>>());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let b = "run b 0.5 0.25 0.75 0.25 true 0 2.0 0.5 _ blake3:b base HMA 0.375 0.0 1.0 true";
    assert_eq!(rows[1].iter().map(|c| if c.is_empty() { "_" } else { c }).collect::<Vec<_>>().join(" "), b);
    assert_eq!(rows[0][8].parse::<f64>().unwrap(), f64::INFINITY);
    assert_eq!(&rows[0][8], "inf");
    assert_eq!(rows.len(), 4);
}

#[test]
fn json_comes_back() {
    let value: serde_json::Value = serde_json::from_slice(&front().encode(Format::Json).unwrap()).unwrap();
    assert_eq!(value["objectives"][1], serde_json::json!({"name": "tax", "direction": "minimise"}));
    assert_eq!(value["reference"], serde_json::json!({"reward": 0.0, "tax": 1.0}));
    assert_eq!(value["hypervolume"], 0.375);
    assert_eq!(value["rows"][0]["crowding"], "inf");
    assert_eq!(value["rows"][1]["crowding"], 2.0);
    assert_eq!(value["rows"][1]["intervals"], serde_json::json!({"reward": [0.25, 0.75]}));
    assert_eq!(value["rows"][1]["params"]["alpha"], "0.5");
    assert_eq!(value["rejected"][0]["reason"], "missing");
}

#[test]
fn parquet_comes_back() {
    let front = front();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("front.parquet");
    front.write(&path).unwrap();
    let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), front.rows.len());
    for (found, row) in rows.iter().zip(&front.rows) {
        let cells: BTreeMap<&String, &Field> = found.get_column_iter().collect();
        let cell = |name: &str| cells[&name.to_owned()].clone();
        assert_eq!(cell("checkpoint"), Field::Str(row.checkpoint.clone()));
        assert_eq!(cell("max.reward"), Field::Double(row.values[0]));
        assert_eq!(cell("min.tax"), Field::Double(row.values[1]));
        assert_eq!(cell("low.reward"), row.intervals[0].map_or(Field::Null, |i| Field::Double(i.0)));
        assert_eq!(cell("is_pareto"), Field::Bool(row.is_pareto));
        assert_eq!(cell("rank"), Field::Long(i64::from(row.rank)));
        assert_eq!(cell("crowding"), Field::Double(row.crowding));
        assert_eq!(cell("param.alpha"), row.params.get("alpha").map_or(Field::Null, |p| Field::Str(p.clone())));
        assert_eq!(cell("param.k,\"3\""), row.params.get("k,\"3\"").map_or(Field::Null, |p| Field::Str(p.clone())));
        assert_eq!(cell("family"), row.family.clone().map_or(Field::Null, Field::Str));
        assert_eq!(cell("hypervolume"), Field::Double(0.375));
    }
}

/// Pixels of a PNG of ours, with its size.
fn pixels(file: &[u8]) -> (usize, usize, Vec<u8>) {
    assert_eq!(&file[..8], b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let (width, height, length) = (number(16), number(20), number(33));
    let lines = fdeflate::decompress_to_vec(&file[41..41 + length]).unwrap();
    assert_eq!(lines.len(), height * (width * 3 + 1));
    let mut pixels: Vec<u8> = Vec::new();
    let mut above = vec![0_u8; width * 3];
    for line in lines.chunks_exact(width * 3 + 1) {
        above.iter_mut().zip(&line[1..]).for_each(|(a, d)| *a = a.wrapping_add(*d));
        pixels.extend(&above);
    }
    (width, height, pixels)
}

#[test]
fn a_plot_shows_every_point_and_the_staircase() {
    let svg = String::from_utf8(front().encode(Format::Svg).unwrap()).unwrap();
    // Four points with an edge each, and two entries of the legend.
    assert_eq!(svg.matches("<circle").count(), 4 * 2 + 2);
    assert!(svg.contains("reward (↑ maximise)") && svg.contains("tax (↓ minimise)"));
    assert!(svg.contains("hypervolume 0.375 up to the worst of each: (0, 1); 1 rejected"));
    // Three points, two corners between them, two ends at the panel's edge.
    let line = svg.split("points=\"").filter(|l| l.split('"').next().unwrap().split_whitespace().count() == 7);
    assert_eq!(line.count(), 1);
    let (width, height, pixels) = pixels(&front().encode(Format::Png).unwrap());
    assert!(svg.contains(&format!("width=\"{}\" height=\"{}\"", width / 2, height / 2)));
    let n_of = |colour: [u8; 3]| pixels.chunks_exact(3).filter(|p| *p == colour).count();
    // The family's blue: a dot on the front and one of the legend. Text is neither white nor empty.
    assert!((200..800).contains(&n_of([0, 114, 178])), "{}", n_of([0, 114, 178]));
    assert!(n_of([40, 40, 40]) > 1_000 && n_of([255, 255, 255]) > width * height * 3 / 4);
}

#[test]
fn pairs_of_objectives_fill_a_matrix() {
    for m in 1..=6 {
        let objectives = (0..m).map(|k| Objective::minimise(&format!("o{k}"))).collect();
        let candidates = (0..7).map(|i| candidate("x", &vec![f64::from(i); m])).collect();
        let svg = Front::new(objectives, candidates, Options::default()).unwrap().encode(Format::Svg).unwrap();
        let n_panels = (m * (m - 1) / 2).max(1);
        assert_eq!(String::from_utf8(svg).unwrap().matches("<circle").count(), n_panels * 7 * 2);
    }
}

#[test]
fn hostile_text_stays_text() {
    let mut hostile = candidate(HOSTILE, &[0.0, 0.0]);
    hostile.run = HOSTILE.to_owned();
    hostile.family = Some(HOSTILE.to_owned());
    hostile.params = BTreeMap::from([(HOSTILE.to_owned(), HOSTILE.to_owned())]);
    let objectives = vec![Objective::maximise(HOSTILE), Objective::minimise("tax")];
    let front = Front::new(objectives, vec![hostile], Options::default()).unwrap();
    for format in [Format::Svg, Format::Html] {
        let text = String::from_utf8(front.encode(format).unwrap()).unwrap();
        assert!(!text.contains("<img") && !text.contains('\u{0}'), "{text}");
        assert!(text.contains("&lt;/script&gt;"));
    }
    let page = String::from_utf8(front.encode(Format::Html).unwrap()).unwrap();
    assert_eq!(page.matches("</script>").count(), 2);
    let data = page.split("id=\"front\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["rows"][0][0], HOSTILE);
    // Nothing is loaded: the one address is the name of the SVG language.
    assert_eq!(page.matches("://").count(), page.matches("\"http://www.w3.org/2000/svg\"").count());
    assert!(page.contains("default-src 'none'"));
    let bytes = front.encode(Format::Csv).unwrap();
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    assert_eq!(&reader.headers().unwrap()[2], format!("max.{HOSTILE}"));
    assert_eq!(&reader.records().next().unwrap().unwrap()[1], HOSTILE);
}

#[test]
fn a_page_holds_every_column_and_place_of_every_point() {
    let candidates =
        (0..5_000).map(|i| candidate(&format!("c{i}"), &[f64::from(i), f64::from(i * 7 % 5_000)])).collect();
    let front = Front::new(objectives(), candidates, Options::default()).unwrap();
    let page = String::from_utf8(front.encode(Format::Html).unwrap()).unwrap();
    let data = page.split("id=\"front\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["rows"].as_array().unwrap().len(), 5_000);
    assert_eq!(data["places"][0].as_array().unwrap().len(), 10_000);
    assert!(data["rows"].as_array().unwrap().iter().all(|r| r.as_array().unwrap().len() == 14));
    assert!(page.len() < 4_000_000, "{}", page.len());
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let front = front();
    for name in ["f.csv", "f.json", "f.parquet", "f.svg", "f.png", "F.HTML"] {
        let path = folder.path().join(name);
        std::fs::write(&path, "earlier").unwrap();
        front.write(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), front.encode(Format::of(&path).unwrap()).unwrap());
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 6);
    let unknown = front.write(&folder.path().join("f.xlsx")).unwrap_err().to_string();
    assert!(unknown.starts_with("expected a file name ending in .csv, .json, .parquet, .svg, .png, .html, got `"));
    assert!(front.write(&folder.path().join("csv")).is_err());
    // A name that is taken by a folder, and a folder that is not there.
    std::fs::create_dir(folder.path().join("d.csv")).unwrap();
    assert!(matches!(front.write(&folder.path().join("d.csv")), Err(Error::Io { action: "name", .. })));
    assert!(matches!(front.write(Path::new("/nowhere/at/all.csv")), Err(Error::Io { action: "create", .. })));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 7);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any numbers at all, with gaps, intervals and names: every format holds them, the same bytes each time.
    #[test]
    fn any_front_is_written_the_same_twice(
        (m, rows) in (1..=6_usize).prop_flat_map(|m| (Just(m), prop::collection::vec(
            (".{0,20}", prop::collection::vec(prop::option::weighted(0.95, any::<f64>()), m), any::<(f64, f64)>()), 0..12)))
    ) {
        let objectives: Vec<Objective> =
            (0..m).map(|k| if k % 2 == 0 { Objective::maximise(&format!("o{k}")) } else { Objective::minimise(&format!("o{k}")) }).collect();
        let candidates: Vec<Candidate> = rows.iter().map(|(name, values, (a, b))| Candidate {
            checkpoint: name.clone(),
            family: name.chars().next().map(String::from),
            values: values.clone(),
            intervals: vec![(!a.is_nan() && !b.is_nan()).then_some((a.min(*b), a.max(*b))); m],
            ..Candidate::default()
        }).collect();
        let make = || Front::new(objectives.clone(), candidates.clone(), Options::default()).unwrap();
        let n_rejected = rows.iter().filter(|r| r.1.iter().any(|v| v.is_none_or(f64::is_nan))).count();
        prop_assert_eq!(make().rejected.len(), n_rejected);
        prop_assert_eq!(make().rows.len(), rows.len() - n_rejected);
        for format in ALL {
            // Two pictures of every case take long.
            let is_slow = format == Format::Png && m > 2;
            let bytes = make().encode(format).unwrap();
            prop_assert!(is_slow || bytes == make().encode(format).unwrap());
        }
    }
}
