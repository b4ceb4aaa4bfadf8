//! Cells of tables that look wrong: the same numbers under different keys, differences that are none, fractions among percents.

use std::collections::BTreeMap;

/// A row of numbers as somebody published or measured it.
#[derive(Clone, Debug, PartialEq)]
pub struct Cells {
    /// Where it stands: `table 5`; may be empty.
    pub place: String,
    /// What it says the numbers are of.
    pub key: String,
    /// Accuracies on the common and the counter group.
    pub accuracy: [f64; 2],
    /// The drop, as it is stated.
    pub drop: Option<f64>,
    /// More numbers of the same row that must agree before two rows are called the same: accuracies of classes, say.
    pub more: Vec<f64>,
}

impl Cells {
    fn name(&self) -> String {
        if self.place.is_empty() { self.key.clone() } else { format!("{}: {}", self.place, self.key) }
    }
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Two keys have one result.
    Same,
    /// One key has two results.
    Conflict,
    /// The drop stated is not the difference of the accuracies.
    Drop,
    /// A fraction among percents.
    Fraction,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Same => "same numbers",
            Self::Conflict => "two results",
            Self::Drop => "drop",
            Self::Fraction => "fraction",
        }
    }
}

/// A suspicion, by the places of the rows it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspect {
    /// What is wrong.
    pub kind: Kind,
    /// The row, and the other one where two are.
    pub rows: Vec<usize>,
    /// What was found, in words.
    pub what: String,
    /// By how much: the error of a drop, the value of a fraction, the common accuracy of equal rows.
    pub size: f64,
}

/// What is suspicious, in the order of kinds, then rows. `tolerance`: the error that rounding may make in a stated drop.
#[must_use]
pub fn suspects(cells: &[Cells], tolerance: f64) -> Vec<Suspect> {
    let mut found = pairs(cells);
    for (at, row) in cells.iter().enumerate() {
        let [common, counter] = row.accuracy;
        if let Some(drop) = row.drop {
            let error = drop - (common - counter);
            if error.abs() > tolerance {
                let what = format!(
                    "{}: the drop is said to be {drop}, and {common} − {counter} is {:.2}",
                    row.name(),
                    common - counter
                );
                found.push(Suspect { kind: Kind::Drop, rows: vec![at], what, size: error });
            }
        }
    }
    let mut values: Vec<f64> = cells.iter().flat_map(|row| row.accuracy).collect();
    values.sort_by(f64::total_cmp);
    let are_percents = values.get(values.len() / 2).is_some_and(|median| *median > 1.0);
    if are_percents {
        for (at, row) in cells.iter().enumerate() {
            let all = row.accuracy.into_iter().chain(row.drop);
            if all.clone().all(|value| value.abs() <= 1.0) && row.accuracy.iter().any(|value| *value != 0.0) {
                let shown: Vec<String> = all.map(|value| value.to_string()).collect();
                let what = format!("{}: {} among percents look like fractions", row.name(), shown.join("/"));
                found.push(Suspect { kind: Kind::Fraction, rows: vec![at], what, size: row.accuracy[0] });
            }
        }
    }
    found.sort_by(|a, b| (a.kind, &a.rows).cmp(&(b.kind, &b.rows)));
    found
}

/// Rows with equal numbers under different keys, and with different numbers under one.
fn pairs(cells: &[Cells]) -> Vec<Suspect> {
    let mut found = Vec::new();
    let (mut by_numbers, mut by_key) = (BTreeMap::<Vec<u64>, Vec<usize>>::new(), BTreeMap::<&str, usize>::new());
    for (at, row) in cells.iter().enumerate() {
        let numbers: Vec<u64> = row.accuracy.iter().chain(&row.more).map(|value| value.to_bits()).collect();
        let [common, counter] = row.accuracy;
        let before = by_numbers.entry(numbers).or_default();
        // What is right, or wrong, throughout is no coincidence.
        let says_much = [common, counter].iter().any(|value| ![0.0, 1.0, 100.0].contains(value));
        for other in before.iter().filter(|other| cells[**other].key != row.key && says_much) {
            let what = format!("{} has the numbers of {}: {common} and {counter}", row.name(), cells[*other].name());
            found.push(Suspect { kind: Kind::Same, rows: vec![*other, at], what, size: common });
        }
        before.push(at);
        match by_key.get(row.key.as_str()) {
            Some(other) if cells[*other].accuracy != row.accuracy => {
                let [was_common, was_counter] = cells[*other].accuracy;
                let what = format!(
                    "{} has {common} and {counter}, and {} had {was_common} and {was_counter}",
                    row.name(),
                    cells[*other].name()
                );
                found.push(Suspect { kind: Kind::Conflict, rows: vec![*other, at], what, size: common - was_common });
            }
            Some(_) => {}
            None => drop(by_key.insert(&row.key, at)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, common: f64, counter: f64, drop: Option<f64>) -> Cells {
        Cells { place: "table 1".into(), key: key.into(), accuracy: [common, counter], drop, more: vec![] }
    }

    fn kinds(cells: &[Cells]) -> Vec<(Kind, Vec<usize>)> {
        suspects(cells, 0.0151).into_iter().map(|suspect| (suspect.kind, suspect.rows)).collect()
    }

    #[test]
    fn equal_numbers_under_other_keys_are_found_and_under_one_key_are_not() {
        let mut cells = vec![
            row("a, 1v1000", 80.90, 63.31, None),
            row("b, 1v1000", 80.90, 63.30, None),
            row("a, 1v20", 80.90, 63.31, None),
            row("a, 1v1000", 80.90, 63.31, None),
        ];
        assert_eq!(kinds(&cells), [(Kind::Same, vec![0, 2]), (Kind::Same, vec![2, 3])]);
        // Equal accuracies with other numbers beside them are a coincidence.
        cells[2].more = vec![0.5];
        assert_eq!(kinds(&cells[..3]), []);
        // And a key that has other numbers elsewhere is said.
        cells[3].accuracy[1] = 63.0;
        assert_eq!(kinds(&cells), [(Kind::Conflict, vec![0, 3])]);
        // Perfect models are alike.
        assert_eq!(kinds(&[row("a", 100.0, 100.0, None), row("b", 100.0, 100.0, None)]), []);
    }

    #[test]
    fn drops_that_are_no_differences_are_found_and_rounding_is_let_pass() {
        let cells = [
            row("G/14", 87.17, 77.20, Some(10.97)),
            row("rounded", 86.36, 73.14, Some(13.21)),
            row("right", 64.02, 40.70, Some(23.32)),
        ];
        let found = suspects(&cells, 0.0151);
        assert!(found.len() == 1 && found[0].rows == [0] && (found[0].size - 1.0).abs() < 1e-9, "{found:?}");
        assert!(found[0].what.contains("table 1: G/14") && found[0].what.contains("9.97"), "{found:?}");
    }

    #[test]
    fn fractions_among_percents_are_found_and_a_table_of_fractions_is_not() {
        let datacomp = row("DataComp-S", 0.02, 0.01, Some(0.01));
        let cells =
            [row("a", 60.0, 40.0, None), row("b", 70.0, 50.0, None), datacomp.clone(), row("0", 0.0, 0.0, None)];
        assert_eq!(kinds(&cells), [(Kind::Fraction, vec![2])]);
        assert_eq!(kinds(&[row("a", 0.6, 0.4, None), datacomp]), []);
        assert_eq!(kinds(&[]), []);
    }
}
