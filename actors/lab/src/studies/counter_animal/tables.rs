//! Tables as they are published: cells that look wrong, lines through families, prompt sets against each other.

use tracker_store::{Claim, Figure, NodeId, Recording};

use super::families::{Census, Member, families};
use super::models::Model;
use super::settings::CounterAnimal;
use crate::error::Result;
use crate::lab::Lab;
use crate::parts::record::{FileRow, put_figure, put_file_rows};
use crate::parts::robustness::{Cells, Kind, Suspect, suspects};
use crate::parts::rows::{self, Fault, Fields, Format, Options};

type Found = (Claim, Vec<NodeId>);

/// Half of the last digit that is printed, as a share.
const LEAST: f64 = 0.5e-4;
const PERCENT: f64 = 100.0;

/// A row of a published table, in percent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PublishedRow {
    table: String,
    setup: String,
    prompts: String,
    model: Model,
    accuracy: [f64; 2],
    drop: Option<f64>,
}

/// `{table, setup, prompts, family, backbone, [pretrain], [curated], common, counter, [drop]}`.
pub(super) struct PublishedRows;

impl Format for PublishedRows {
    const NAME: &'static str = "published table";
    type Row = PublishedRow;

    fn read(&self, _id: String, fields: &Fields<'_>) -> std::result::Result<PublishedRow, Fault> {
        const COLUMNS: [&str; 10] =
            ["table", "setup", "prompts", "family", "backbone", "pretrain", "curated", "common", "counter", "drop"];
        if let Some(other) = fields.keys().find(|key| !COLUMNS.contains(key)) {
            return Err(fields.fault(other, format!("expected one of {}, got another column", COLUMNS.join(", "))));
        }
        let percent = |field: &str| match fields.optional_number(field, 0.0, PERCENT)? {
            Some(value) => Ok(value),
            None => Err(fields.fault(field, "expected a number from 0 to 100, got nothing")),
        };
        let (family, backbone) = (fields.text("family")?, fields.text("backbone")?);
        let pretrain = fields.optional_text("pretrain")?.unwrap_or_default();
        let parts = [family.as_str(), &backbone, &pretrain];
        let name = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        Ok(PublishedRow {
            table: fields.id("table")?,
            setup: fields.text("setup")?,
            prompts: fields.text("prompts")?,
            accuracy: [percent("common")?, percent("counter")?],
            drop: fields.optional_number("drop", -PERCENT, PERCENT)?,
            model: Model { name, family, backbone, pretrain },
        })
    }
}

impl PublishedRow {
    fn cells(&self) -> Cells {
        let Self { table, setup, prompts, model, accuracy, drop } = self;
        let key = format!("{}, {setup}, {prompts}", model.name);
        Cells { place: format!("table {table}"), key, accuracy: *accuracy, drop: *drop, more: vec![] }
    }

    fn line(&self) -> String {
        let Self { table, setup, prompts, model, accuracy: [common, counter], drop } = self;
        let Model { family, backbone, pretrain, .. } = model;
        serde_json::json!({"table": table, "setup": setup, "prompts": prompts, "family": family, "backbone": backbone,
            "pretrain": pretrain, "common": common, "counter": counter, "drop": drop})
        .to_string()
    }
}

/// Reads, records and compares what is published.
///
/// # Errors
/// `Input` for a wrong row, by its place; those of recording.
pub(super) async fn tables(lab: &Lab, study: &CounterAnimal, discovery: NodeId) -> Result<Vec<Found>> {
    if study.data.tables.is_empty() {
        return Ok(vec![]);
    }
    let options = Options::new("", study.data.skip_bad);
    let all = rows::read(lab, "tables", PublishedRows, &study.data.tables, options).await?;
    let file: Vec<FileRow> = all.iter().map(|row| FileRow { line: row.line(), source: None }).collect();
    let mut recording = Recording::new();
    let table = put_file_rows(lab, &mut recording, "published tables", &file, &[discovery])?;
    let stage = lab.stage("accuracy tables", all.len()).await?;
    let mut nodes = Vec::with_capacity(all.len());
    for (item, row) in (0..).zip(&all) {
        let used = [table, row.model.put(lab, &mut recording)?];
        let [common, counter] = row.accuracy.map(|percent| percent / PERCENT);
        let mut three = Vec::with_capacity(3);
        for (k, (name, value)) in (0..).zip([("common", common), ("counter", counter), ("drop", common - counter)]) {
            let figure = Figure {
                name: name.to_owned(),
                value,
                low: None,
                high: None,
                n: 1,
                unit: String::new(),
                split: format!("{}, {}, {}, table {}", row.model.name, row.prompts, row.setup, row.table),
            };
            three.push(put_figure(lab, &mut recording, stage.row(item, k), &figure, &used)?);
        }
        nodes.push([three[0], three[1], three[2]]);
    }
    lab.record(recording).await?;
    let cells: Vec<Cells> = all.iter().map(PublishedRow::cells).collect();
    let wrong = suspects(&cells, study.robustness.drop_tolerance);
    let mut found = vec![soundness(lab, "tables", &wrong, &nodes).await?];

    // Fractions among percents would be models that get nothing right.
    let is_fraction = |at: usize| wrong.iter().any(|of| of.kind == Kind::Fraction && of.rows == [at]);
    let kept: Vec<usize> = (0..all.len()).filter(|at| !is_fraction(*at)).collect();
    let member = |at: &usize| Member {
        model: all[*at].model.name.clone(),
        family: all[*at].model.family.clone(),
        prompts: all[*at].prompts.clone(),
        space: all[*at].setup.clone(),
        is_near: all[*at].model.is_near(&study.discovery),
        nodes: nodes[*at],
    };
    let members: Vec<Member> = kept.iter().map(member).collect();
    let accuracies: Vec<[f64; 2]> = kept.iter().map(|at| all[*at].accuracy.map(|percent| percent / PERCENT)).collect();
    let census = Census { name: "tables", members: &members, accuracies: &accuracies, least: LEAST, grid: None };
    found.extend(families(lab, study, &census).await?);
    Ok(found)
}

/// Records what looks wrong, a figure each, and claims that nothing does.
///
/// # Errors
/// Those of recording.
pub(super) async fn soundness(lab: &Lab, name: &str, wrong: &[Suspect], nodes: &[[NodeId; 3]]) -> Result<Found> {
    let stage = lab.stage(&format!("suspects {name}"), wrong.len()).await?;
    let mut recording = Recording::new();
    let mut of = Vec::new();
    for (item, suspect) in (1..).zip(wrong) {
        let used: Vec<NodeId> = suspect.rows.iter().flat_map(|at| nodes[*at]).collect();
        let figure = Figure {
            name: suspect.kind.name().to_owned(),
            value: suspect.size,
            low: None,
            high: None,
            n: suspect.rows.len() as u64,
            unit: String::new(),
            split: suspect.what.clone(),
        };
        of.push(put_figure(lab, &mut recording, stage.row(item, 0), &figure, &used)?);
        lab.note(format!("{}: {}", suspect.kind.name(), suspect.what));
    }
    let figure = Figure {
        name: "suspicious cells".to_owned(),
        value: wrong.len() as f64,
        low: None,
        high: None,
        n: nodes.len() as u64,
        unit: String::new(),
        split: name.to_owned(),
    };
    let used: Vec<NodeId> = nodes.iter().flatten().copied().collect();
    let all = put_figure(lab, &mut recording, stage.row(0, 0), &figure, &used)?;
    lab.record(recording).await?;
    of.insert(0, all);
    let claim = Claim {
        id: format!("sound: {name}"),
        statement: format!(
            "{name}: no two keys have the same numbers and no key two results, each drop is the difference it is said to be, no fraction stands among percents"
        ),
        holds: wrong.is_empty(),
        value: wrong.len() as f64,
        low: None,
        high: None,
        bound: Some(0.0),
    };
    Ok((claim, of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::bootstrap::Resampler;
    use crate::parts::robustness::{Comparison, Line, Scale, leave_one_out};
    use crate::parts::rows::Reader;

    /// Tables 3, 4, 5, 10, 13 and 14 as printed, where the folder of data is there.
    #[allow(clippy::print_stderr, reason = "a skip is printed")]
    fn published() -> Option<Vec<PublishedRow>> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/counter_animal");
        let path = folder.join("published_tables.csv");
        if !path.exists() {
            eprintln!("SKIP {} is not there", path.display());
            return None;
        }
        let (rows, report) =
            Reader::open(PublishedRows, &[path], Options::new("", false)).unwrap().collect_all().unwrap();
        assert_eq!(report.n_read, 121);
        Some(rows)
    }

    fn of(rows: &[PublishedRow], table: &str) -> Vec<usize> {
        (0..rows.len()).filter(|at| rows[*at].table == table).collect()
    }

    fn shares(rows: &[PublishedRow]) -> Vec<[f64; 2]> {
        rows.iter().map(|row| row.accuracy.map(|percent| percent / PERCENT)).collect()
    }

    fn comparison(scale: Scale, reference: Vec<usize>, against: Vec<usize>) -> Comparison {
        Comparison { scale, least: LEAST, reference, against, draws_models: true }
    }

    #[test]
    fn the_papers_tables_have_the_lines_that_are_known_of_them() {
        let Some(rows) = published() else { return };
        let (shares, clip, imagenet) = (shares(&rows), of(&rows, "3"), of(&rows, "4"));
        for (family, scale, expected) in [
            (&clip, Scale::Probit, [1.190, -0.667, 0.970]),
            (&imagenet, Scale::Probit, [1.214, -0.619, 0.991]),
            (&clip, Scale::Logit, [1.114, -1.018, 0.971]),
            (&imagenet, Scale::Logit, [1.145, -0.945, 0.993]),
        ] {
            let points = comparison(scale, family.clone(), vec![]).points(&shares);
            let line = Line::through(points.iter().copied()).unwrap();
            for (got, expected) in [line.slope, line.intercept, line.r2].into_iter().zip(expected) {
                assert!((got - expected).abs() < 0.0006, "{scale:?}: {line:?} for {expected}");
            }
            // No model alone makes the line.
            let slopes: Vec<f64> = leave_one_out(&points).into_iter().flatten().map(|line| line.slope).collect();
            assert!(
                slopes.len() == family.len() && slopes.iter().all(|slope| (slope - line.slope).abs() < 0.1),
                "{slopes:?}"
            );
        }
        let drop = |of: &[usize]| of.iter().map(|at| shares[*at][0] - shares[*at][1]).sum::<f64>() / of.len() as f64;
        assert!((drop(&clip) - 0.171).abs() < 0.0005 && (drop(&imagenet) - 0.140).abs() < 0.0005);
    }

    #[test]
    fn effective_robustness_of_the_papers_tables_depends_on_the_prompts() {
        let Some(rows) = published() else { return };
        let (shares, imagenet) = (shares(&rows), of(&rows, "4"));
        let resampler = Resampler::new([1; 32], 400).unwrap();
        let mean = |against: Vec<usize>| {
            let found =
                comparison(Scale::Probit, imagenet.clone(), against).compare(&shares, &resampler, |_| shares.clone());
            found.unwrap().mean.unwrap()
        };
        let discovery = super::super::settings::DiscoverySettings::default();
        let far: Vec<usize> = of(&rows, "3").into_iter().filter(|at| !rows[*at].model.is_near(&discovery)).collect();
        let single = mean(of(&rows, "3"));
        for (found, expected) in [(single, -0.0241), (mean(far), -0.0146), (mean(of(&rows, "10")), 0.0006)] {
            assert!((found.value - expected).abs() < 0.000_06, "{found:?} for {expected}");
        }
        assert!(single.high < 0.0, "{single:?}");
        let gain = comparison(Scale::Probit, imagenet.clone(), of(&rows, "3"))
            .paired(&of(&rows, "10"), &shares, &resampler, |_| shares.clone())
            .unwrap();
        assert!((gain.value - 0.0247).abs() < 0.0002 && gain.low > 0.0, "{gain:?}");
    }

    #[test]
    fn the_errors_of_the_papers_tables_are_found_and_no_others() {
        let Some(rows) = published() else { return };
        let cells: Vec<Cells> = rows.iter().map(PublishedRow::cells).collect();
        let found = suspects(&cells, 0.0151);
        let same: Vec<&Suspect> = found.iter().filter(|of| of.kind == Kind::Same).collect();
        let tables = |of: &Suspect| of.rows.iter().map(|at| rows[*at].table.as_str()).collect::<Vec<_>>();
        // All five CLIPs of table 5, and one of table 10.
        assert_eq!(same.iter().filter(|of| tables(of) == ["3", "5"]).count(), 5, "{same:#?}");
        let of_ten: Vec<&&Suspect> = same.iter().filter(|of| tables(of) == ["3", "10"]).collect();
        assert!(of_ten.len() == 1 && of_ten[0].what.contains("bigG/14") && same.len() == 6, "{same:#?}");
        let drops: Vec<String> = found
            .iter()
            .filter(|of| of.kind == Kind::Drop)
            .map(|of| format!("{} {:.2}", tables(of)[0], of.size))
            .collect();
        assert_eq!(drops, ["10 0.15", "10 1.00", "14 0.17"]);
        assert_eq!(found.len(), 9, "{found:#?}");
    }

    #[test]
    fn wrong_cells_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        let header = "table,setup,prompts,family,backbone,common,counter,drop\n";
        for (row, parts) in [
            ("3,1v1000,single,CLIP,RN50,64.02,140.70,23", &["line 2", "`counter`", "from 0 to 100"][..]),
            ("3,1v1000,single,CLIP,RN50,64.02,,23", &["`counter`", "got nothing"]),
            ("3,1v1000,single,CLIP,RN50,many,40,23", &["`common`", "finite number"]),
            ("3,1v1000,single,,RN50,64,40,23", &["`family`", "got nothing"]),
        ] {
            std::fs::write(&path, format!("{header}{row}\n")).unwrap();
            let reader = Reader::open(PublishedRows, std::slice::from_ref(&path), Options::new("", false)).unwrap();
            let error = reader.collect_all().unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "expected `{part}` in: {error}");
            }
        }
    }
}
