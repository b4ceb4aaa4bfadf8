//! Images and predictions as datasets of a run, each with its rows as a file.

use tracker_store::{Dataset, Digest, Edge, Kind, NodeId, Recording, Relation};

use super::Predictions;
use crate::error::Result;
use crate::lab::Lab;

/// Where a run keeps predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The dataset of images.
    pub images: NodeId,
    /// The dataset of predictions, which is of those images.
    pub predictions: NodeId,
}

fn put(
    lab: &Lab,
    recording: &mut Recording,
    name: &str,
    purpose: &str,
    n_rows: usize,
    rows: Vec<u8>,
) -> Result<NodeId> {
    let content = Digest::of(&rows);
    let file = lab.put_files("dataset", name, &[("rows.csv".to_owned(), rows)])?;
    let dataset = Dataset {
        name: name.to_owned(),
        purpose: purpose.to_owned(),
        n_rows: n_rows as u64,
        content,
        rows: Some(file),
    };
    let node = recording.put(lab.run(), &dataset)?;
    if let Some(files) = NodeId::content(Kind::Artifact, file) {
        recording.put_edge(lab.run(), &Edge::new(files, Relation::GeneratedBy, node))?;
    }
    Ok(node)
}

/// Records predictions and their images. `found_by`: what the images were chosen or grouped by, the discovery model; `made_of`: what the
/// predictions came from besides the images, models and prompt sets.
///
/// # Errors
/// Those of recording.
pub async fn record(
    lab: &Lab,
    name: &str,
    predictions: &Predictions,
    found_by: &[NodeId],
    made_of: &[NodeId],
) -> Result<Kept> {
    let mut recording = Recording::new();
    let n_images = predictions.images.len();
    let of_images = predictions.images_csv()?;
    let images = put(lab, &mut recording, &format!("{name} images"), "images", n_images, of_images)?;
    let rows = predictions.to_csv()?;
    let n_rows = n_images * predictions.sets.len();
    let node = put(lab, &mut recording, &format!("{name} predictions"), "predictions", n_rows, rows)?;
    for (from, to) in [(images, found_by), (node, made_of)] {
        for (order, to) in (0..).zip(to) {
            recording.put_edge(lab.run(), &Edge::new(from, Relation::DerivedFrom, *to).at(order))?;
        }
    }
    let of_images = Edge::new(node, Relation::DerivedFrom, images).at(made_of.len() as u32);
    recording.put_edge(lab.run(), &of_images)?;
    lab.record(recording).await?;
    Ok(Kept { images, predictions: node })
}

/// The predictions that this run recorded under a name already, if it did.
///
/// # Errors
/// Those of reading.
pub fn recorded(lab: &Lab, name: &str) -> Result<Option<(Kept, Predictions)>> {
    let all = lab.store().contents_of::<Dataset>(lab.run())?;
    let find = |name: String| all.iter().find(|(_, dataset)| dataset.name == name);
    let (Some((images, _)), Some((predictions, dataset))) =
        (find(format!("{name} images")), find(format!("{name} predictions")))
    else {
        return Ok(None);
    };
    let Some(rows) = dataset.rows else { return Ok(None) };
    let kept = Kept { images: *images, predictions: *predictions };
    match lab.get_files(rows)?.into_iter().next() {
        Some((_, bytes)) => Ok(Some((kept, Predictions::from_csv(&bytes)?))),
        None => Ok(None),
    }
}
