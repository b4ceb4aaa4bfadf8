//! Zero-shot classifiers: prompts of every class, embedded, normalised, averaged, normalised again.
//!
//! Source: Radford et al. 2021, section 3.1.4, as `open_clip` builds it. A text's embedding is normalised before it is averaged: otherwise prompts
//! weigh by their lengths.

use crate::error::{Error, Result};

/// Where the class stands in a template.
pub const PLACE: &str = "{}";

/// Templates that each have a place for the class.
///
/// # Errors
/// `Input` for one without, by its file and line.
pub fn check_templates(path: &str, templates: &[String]) -> Result<()> {
    match templates.iter().position(|template| !template.contains(PLACE)) {
        None => Ok(()),
        Some(at) => Err(Error::Input {
            what: format!(
                "{path}, template {}: expected `{PLACE}` where the class stands, got `{}`",
                at + 1,
                templates[at]
            ),
            hint: None,
        }),
    }
}

/// The prompts of a class.
pub fn prompts<'a>(templates: &'a [String], class: &'a str) -> impl Iterator<Item = String> + 'a {
    templates.iter().map(move |template| template.replace(PLACE, class))
}

/// A row of length one; as it is if it is all zeros.
#[must_use]
pub fn unit(row: &[f32]) -> Vec<f32> {
    let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 { row.iter().map(|x| (f64::from(*x) / length) as f32).collect() } else { row.to_vec() }
}

/// The weights of a class, of embeddings of its prompts of whatever length: each of length one, their mean, of length one.
#[must_use]
pub fn ensemble(embeddings: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0.0; embeddings.first().map_or(0, Vec::len)];
    for embedding in embeddings {
        sum.iter_mut().zip(unit(embedding)).for_each(|(sum, x)| *sum += x);
    }
    let n = embeddings.len().max(1) as f32;
    unit(&sum.iter().map(|x| x / n).collect::<Vec<f32>>())
}

/// Cosines of an image with every class.
#[must_use]
pub fn cosines(image: &[f32], classes: &[Vec<f32>]) -> Vec<f32> {
    let image = unit(image);
    let dot =
        |class: &Vec<f32>| image.iter().zip(class).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32;
    classes.iter().map(dot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prompt_weighs_the_same_however_long_its_embedding_is() {
        let found = ensemble(&[vec![30.0, 0.0], vec![0.0, 0.1]]);
        let expected = std::f32::consts::FRAC_1_SQRT_2;
        assert!(found.iter().all(|x| (x - expected).abs() < 1e-6), "{found:?}");
        assert_eq!(ensemble(&[vec![0.0, -2.0]]), [0.0, -1.0]);
        assert_eq!(cosines(&[3.0, 0.0], &[vec![1.0, 0.0], vec![0.0, 1.0]]), [1.0, 0.0]);
        assert_eq!(ensemble(&[vec![0.0, 0.0]]), [0.0, 0.0]);
    }

    #[test]
    fn templates_have_a_place_and_classes_go_there() {
        let templates = vec!["a photo of a {}.".to_owned(), "itap of my {}.".to_owned()];
        assert!(check_templates("t.txt", &templates).is_ok());
        assert_eq!(
            prompts(&templates, "red fox").collect::<Vec<_>>(),
            ["a photo of a red fox.", "itap of my red fox."]
        );
        let error = check_templates("t.txt", &["a {}".into(), "a photo".into()]).unwrap_err().to_string();
        assert!(error.contains("t.txt, template 2") && error.contains("`a photo`"), "{error}");
    }
}
