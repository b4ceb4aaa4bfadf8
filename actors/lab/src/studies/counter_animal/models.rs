//! What models are: family, backbone, pre-training data; and the discovery model.

use std::collections::BTreeMap;

use tracker_store::{NodeId, Program, Recording};

use super::settings::{CounterAnimal, DiscoverySettings};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::rows::{self, Fault, Fields, Format, Options};

/// A model as others know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) family: String,
    pub(super) backbone: String,
    pub(super) pretrain: String,
}

impl Model {
    /// Whether it has the discovery model's backbone (`ViT/B/32-256` is `ViT/B/32` at another resolution) or pre-training data: the groups were
    /// chosen by what that one gets wrong.
    pub(super) fn is_near(&self, discovery: &DiscoverySettings) -> bool {
        let is = |of: &str, other: &str| !of.is_empty() && of == other;
        let resized = self.backbone.strip_prefix(&discovery.backbone).is_some_and(|rest| rest.starts_with('-'));
        let is_backbone = is(&self.backbone, &discovery.backbone) || resized && !discovery.backbone.is_empty();
        is_backbone || is(&self.pretrain, &discovery.pretrain)
    }

    /// What figures call it: its name, and what is known of it besides.
    pub(super) fn shown(&self) -> String {
        let known = [&self.family, &self.backbone, &self.pretrain].map(String::as_str);
        let known: Vec<&str> = known.into_iter().filter(|part| !part.is_empty()).collect();
        if known.is_empty() { self.name.clone() } else { format!("{} ({})", self.name, known.join(" ")) }
    }

    /// Puts it as a program, as which it is known whose weights are not.
    pub(super) fn put(&self, lab: &Lab, recording: &mut Recording) -> Result<NodeId> {
        let Self { name, family, backbone, pretrain } = self;
        let settings = format!("family = {family:?}\nbackbone = {backbone:?}\npretrain = {pretrain:?}\n");
        Ok(recording.put(lab.run(), &Program { name: name.clone(), version: String::new(), settings })?)
    }
}

/// `{model, family, [backbone], [pretrain]}`.
struct Models;

impl Format for Models {
    const NAME: &'static str = "model";
    type Row = Model;

    fn read(&self, id: String, fields: &Fields<'_>) -> std::result::Result<Model, Fault> {
        let optional = |field: &str| Ok(fields.optional_text(field)?.unwrap_or_default());
        let (backbone, pretrain) = (optional("backbone")?, optional("pretrain")?);
        Ok(Model { name: id, family: fields.text("family")?, backbone, pretrain })
    }
}

/// The models of the plan's file by name; none without one.
///
/// # Errors
/// `Input` for a wrong row.
pub(super) async fn models(lab: &Lab, study: &CounterAnimal) -> Result<BTreeMap<String, Model>> {
    let path = &study.data.models;
    if path.is_empty() {
        return Ok(BTreeMap::new());
    }
    let all = rows::read(lab, "models", Models, &[path], Options::new("model", false)).await?;
    Ok(all.into_iter().map(|model| (model.name.clone(), model)).collect())
}

/// What is known of a model: without a file, its name.
///
/// # Errors
/// `Input` if there is a file and it is not in it.
pub(super) fn known(study: &CounterAnimal, models: &BTreeMap<String, Model>, name: &str) -> Result<Model> {
    if models.is_empty() {
        return Ok(Model { name: name.to_owned(), ..Model::default() });
    }
    models.get(name).cloned().ok_or_else(|| Error::Input {
        what: format!("{}: expected a row of model `{name}`, which there are answers of, got none", study.data.models),
        hint: Some("every model has a row `model,family,backbone,pretrain`".into()),
    })
}

/// The discovery model with its prompt, which data sets come from.
///
/// # Errors
/// Those of recording.
pub(super) async fn discovery(lab: &Lab, study: &CounterAnimal) -> Result<NodeId> {
    let DiscoverySettings { model, backbone, pretrain, prompt, weights, .. } = &study.discovery;
    let settings =
        format!("model = {model:?}\nbackbone = {backbone:?}\npretrain = {pretrain:?}\nprompt = {prompt:?}\n");
    let mut recording = Recording::new();
    let node =
        recording.put(lab.run(), &Program { name: "discovery model".into(), version: weights.clone(), settings })?;
    lab.record(recording).await?;
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kin_of_the_discovery_model_share_its_backbone_at_any_resolution_or_its_data() {
        let discovery = DiscoverySettings::default();
        let near = |backbone: &str, pretrain: &str| {
            let (backbone, pretrain) = (backbone.to_owned(), pretrain.to_owned());
            Model { backbone, pretrain, ..Model::default() }.is_near(&discovery)
        };
        assert!(near("ViT/B/32", "OpenAI") && near("ViT/B/32-256", "DataComp1B") && near("ViT/L/14", "LAION400M"));
        assert!(!near("ViT/B/16", "OpenAI") && !near("ViT/B/320", "") && !near("", ""));
        let unknown = DiscoverySettings { backbone: String::new(), pretrain: String::new(), ..discovery };
        assert!(!Model::default().is_near(&unknown));
        assert!(!Model { backbone: "-256".into(), ..Model::default() }.is_near(&unknown));
    }
}
