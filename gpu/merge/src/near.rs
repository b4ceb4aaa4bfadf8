//! What a name that is not known may stand for.

/// The nearest of the known names, and all of them.
pub(crate) fn instead<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let near = known.iter().map(|name| (distance(word, name), *name)).min();
    match near {
        None => "it has none".to_owned(),
        Some((edits, name)) if edits <= word.len().max(name.len()) / 2 => {
            format!("did you mean `{name}`? There are {}", known.join(", "))
        }
        Some(_) => format!("there are {}", known.join(", ")),
    }
}

/// Letters to put in, leave out or change to turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.bytes().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in b.bytes().enumerate() {
            let best = (row[j] + 1).min(row[j + 1] + 1).min(corner + usize::from(a != b));
            corner = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}
