//! What people, judges and programs say of traces and their spans.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracker_store::{Assessment, AssessmentKind, Error as StoreError, Timestamp};

use crate::api::Api;
use crate::error::{Answer, Refusal};
use crate::limits;
use crate::wire::{Request, done, json, need};

/// An assessment as clients see it.
#[derive(Debug, Serialize)]
pub(crate) struct View {
    assessment_id: String,
    assessment_name: String,
    trace_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    span_id: String,
    source: Source,
    create_time: String,
    last_update_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    feedback: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expectation: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issue: Option<Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    rationale: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    overrides: String,
    valid: bool,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
struct Source {
    source_type: String,
    source_id: String,
}

impl View {
    pub(crate) fn of(trace: &str, assessment: &Assessment) -> Self {
        let value = || serde_json::from_str(&assessment.value).ok();
        let of = |kind| (assessment.kind == kind).then(value).flatten();
        Self {
            assessment_id: assessment.id.clone(),
            assessment_name: assessment.name.clone(),
            trace_id: trace.to_owned(),
            span_id: assessment.span.clone(),
            source: Source { source_type: assessment.source_type.clone(), source_id: assessment.source_id.clone() },
            create_time: assessment.created.to_string(),
            last_update_time: assessment.updated.to_string(),
            feedback: of(AssessmentKind::Feedback),
            expectation: of(AssessmentKind::Expectation),
            issue: of(AssessmentKind::Issue),
            rationale: assessment.rationale.clone(),
            metadata: assessment.metadata.clone(),
            overrides: assessment.overrides.clone(),
            valid: assessment.is_valid,
        }
    }
}

#[derive(Serialize)]
struct One {
    assessment: View,
}

/// An assessment as clients send it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct In {
    assessment_id: Option<String>,
    assessment_name: Option<String>,
    span_id: Option<String>,
    source: Option<Source>,
    create_time: Option<Timestamp>,
    last_update_time: Option<Timestamp>,
    feedback: Option<Value>,
    expectation: Option<Value>,
    issue: Option<Value>,
    rationale: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
    overrides: Option<String>,
    valid: Option<bool>,
}

impl In {
    /// What it says, and as what.
    fn value(&self) -> Option<(AssessmentKind, String)> {
        let kinds = [
            (AssessmentKind::Feedback, &self.feedback),
            (AssessmentKind::Expectation, &self.expectation),
            (AssessmentKind::Issue, &self.issue),
        ];
        kinds.into_iter().find_map(|(kind, value)| value.as_ref().map(|value| (kind, value.to_string())))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    assessment: Option<In>,
}

pub(crate) fn create(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let trace = super::trace(api, request.arg(0))?.id;
    let made = made(asked.assessment.ok_or_else(|| Refusal::missing("assessment"))?)?;
    if !made.overrides.is_empty() {
        assessment(api, &trace, &made.overrides)?;
    }
    api.store.assess(&trace, std::slice::from_ref(&made))?;
    json(&One { assessment: View::of(&trace, &made) })
}

/// The assessment that a client makes.
pub(crate) fn made(given: In) -> Answer<Assessment> {
    let name = need(given.assessment_name.as_ref(), "assessment_name")?.to_owned();
    limits::check_length(&name, 250, "assessment_name")?;
    let (kind, value) = given.value().ok_or_else(|| Refusal::invalid("Missing value for required parameter 'assessment': one of 'feedback', 'expectation' and 'issue' is expected."))?;
    let source = given.source.ok_or_else(|| Refusal::missing("source"))?;
    let now = Timestamp::now();
    let id = given.assessment_id.filter(|id| !id.is_empty());
    let id = id.unwrap_or_else(|| format!("a-{}", uuid::Uuid::now_v7().simple()));
    limits::check_length(&id, 64, "assessment_id")?;
    Ok(Assessment {
        id,
        name,
        source_type: source.source_type,
        source_id: source.source_id,
        created: given.create_time.unwrap_or(now),
        updated: given.last_update_time.or(given.create_time).unwrap_or(now),
        kind,
        value,
        rationale: given.rationale.unwrap_or_default(),
        span: given.span_id.unwrap_or_default(),
        metadata: given.metadata.unwrap_or_default(),
        overrides: given.overrides.unwrap_or_default(),
        is_valid: given.valid.unwrap_or(true),
    })
}

fn assessment(api: &Api, trace: &str, id: &str) -> Answer<Assessment> {
    let found = api.store.assessments(trace)?.into_iter().find(|assessment| assessment.id == id);
    found.ok_or_else(|| Refusal::absent(format!("Assessment with ID '{id}' not found for trace '{trace}'")))
}

fn change(api: &Api, trace: &str, id: &str, change: impl Fn(&mut Assessment)) -> Answer<Assessment> {
    let changed = api.store.put_assessment(trace, id, |before| {
        let missing = || StoreError::NotFound { what: "assessment", name: id.to_owned(), hint: String::new() };
        let mut assessment = before.ok_or_else(missing)?;
        change(&mut assessment);
        Ok(assessment)
    });
    Ok(changed?)
}

pub(crate) fn get(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let trace = super::trace(api, request.arg(0))?.id;
    json(&One { assessment: View::of(&trace, &assessment(api, &trace, request.arg(1))?) })
}

pub(crate) fn update(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let trace = super::trace(api, request.arg(0))?.id;
    let given = asked.assessment.ok_or_else(|| Refusal::missing("assessment"))?;
    let before = assessment(api, &trace, request.arg(1))?;
    let value = given.value();
    if let Some((kind, _)) = &value
        && *kind != before.kind
    {
        return Err(Refusal::invalid(
            "Cannot change an assessment into one of another kind: 'feedback' stays feedback, 'expectation' an expectation.",
        ));
    }
    let now = Timestamp::now();
    let changed = change(api, &trace, &before.id, |assessment| {
        if let Some(name) = &given.assessment_name {
            name.clone_into(&mut assessment.name);
        }
        if let Some((_, value)) = &value {
            value.clone_into(&mut assessment.value);
        }
        if let Some(rationale) = &given.rationale {
            rationale.clone_into(&mut assessment.rationale);
        }
        if let Some(metadata) = &given.metadata {
            assessment.metadata.extend(metadata.clone());
        }
        assessment.updated = now;
    })?;
    json(&One { assessment: View::of(&trace, &changed) })
}

/// Removes an assessment; the one it took the place of is valid again.
pub(crate) fn delete(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let trace = super::trace(api, request.arg(0))?.id;
    if let Ok(gone) = assessment(api, &trace, request.arg(1)) {
        api.store.remove_assessment(&trace, &gone.id)?;
        if !gone.overrides.is_empty() && assessment(api, &trace, &gone.overrides).is_ok() {
            change(api, &trace, &gone.overrides, |assessment| assessment.is_valid = true)?;
        }
    }
    Ok(done())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_trace_is_started_with_all_that_is_said_of_it_or_not_at_all() {
        let api = Api::new(tracker_store::Store::memory().unwrap(), false).unwrap();
        let said = |id: &str, overrides: &str| {
            json!({
                "assessment_id": id, "assessment_name": "x", "source": { "source_type": "HUMAN", "source_id": "me" },
                "feedback": { "value": 1 }, "overrides": overrides,
            })
        };
        let start = |said: Value| {
            let location = json!({ "type": "MLFLOW_EXPERIMENT", "mlflow_experiment": { "experiment_id": "0" } });
            let body = json!({ "trace": { "trace_info": {
                "trace_id": "tr-1", "trace_location": location, "request_time": "2026-01-01T00:00:00Z", "assessments": said,
            } } });
            let body = body.to_string().into_bytes();
            super::super::start(&api, &Request { query: "", body: Some(&body), args: &[] })
        };
        for bad in [
            json!([said("a-1", ""), { "assessment_name": "x" }]),
            json!([said("a-1", "none")]),
            json!([said("\n", "")]),
        ] {
            assert!(start(bad).unwrap_err().status().is_client_error());
            assert!(api.store.trace("tr-1").is_err() && api.store.assessments("tr-1").unwrap().is_empty());
        }
        start(json!([said("a-1", ""), said("a-2", "a-1"), said("a-3", "")])).unwrap();
        let valid = |api: &Api| {
            let said = api.store.assessments("tr-1").unwrap();
            said.into_iter().filter(|said| said.is_valid).map(|said| said.id).collect::<Vec<_>>()
        };
        assert_eq!(valid(&api), ["a-2", "a-3"]);
        start(json!([said("a-4", "a-3")])).unwrap();
        assert_eq!(valid(&api), ["a-2", "a-4"]);
    }
}
