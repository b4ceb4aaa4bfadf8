//! Fronts as one JSON object.

use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::table::Front;

pub(super) fn encode(front: &Front) -> Result<Vec<u8>> {
    let names: Vec<&String> = front.objectives.iter().map(|o| &o.name).collect();
    let by_name = |values: &[f64]| -> Value {
        Value::Object(names.iter().zip(values).map(|(name, v)| ((*name).clone(), number(*v))).collect())
    };
    let rows: Vec<Value> = front
        .rows
        .iter()
        .map(|row| {
            let intervals: Map<String, Value> = names
                .iter()
                .zip(&row.intervals)
                .filter_map(|(name, i)| i.map(|(low, high)| ((*name).clone(), json!([number(low), number(high)]))))
                .collect();
            let mut object = json!({
                "run": row.run,
                "checkpoint": row.checkpoint,
                "values": by_name(&row.values),
                "intervals": intervals,
                "is_pareto": row.is_pareto,
                "rank": row.rank,
                "crowding": number(row.crowding),
                "params": row.params,
                "artifact_digest": row.artifact_digest,
                "lineage_root": row.lineage_root,
                "family": row.family,
            });
            if let (Some(is_kept), Some(object)) = (row.is_kept, object.as_object_mut()) {
                object.insert("is_kept".to_owned(), Value::Bool(is_kept));
            }
            object
        })
        .collect();
    let whole = json!({
        "objectives": front.objectives.iter()
            .map(|o| json!({"name": o.name, "direction": o.direction.as_str()})).collect::<Vec<_>>(),
        "reference": front.reference.as_deref().map(by_name),
        "is_default_reference": front.is_default_reference,
        "hypervolume": front.hypervolume.map(number),
        "epsilon": front.epsilon.as_deref().map(by_name),
        "rows": rows,
        "rejected": front.rejected.iter().map(|r| json!({
            "run": r.run, "checkpoint": r.checkpoint, "objective": r.objective, "reason": r.reason.as_str(),
        })).collect::<Vec<_>>(),
    });
    let mut text = serde_json::to_vec_pretty(&whole)?;
    text.push(b'\n');
    Ok(text)
}

/// A number, or the text `inf` or `-inf`, which JSON has no numbers for.
fn number(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or_else(|| Value::String(value.to_string()), Value::Number)
}
