//! The routes there are, and what each is asked with: `name=kind` for each parameter, `{kind}` in paths. A path without a slash before it lies
//! below `/api/2.0/mlflow`.

/// Method, path, parameters.
pub(super) type Row = (&'static str, &'static str, &'static str);

const RUN: &str = "run_id=run";

/// Every route that takes parameters.
pub(super) const ROUTES: [Row; 77] = [
    ("GET", "experiments/get", "experiment_id=experiment"),
    ("GET", "experiments/get-by-name", "experiment_name=text"),
    ("POST", "experiments/search", "view_type=view max_results=int filter=filter order_by=orders page_token=token"),
    ("GET", "experiments/search", "view_type=view max_results=int filter=filter order_by=orders page_token=token"),
    ("POST", "experiments/create", "name=text artifact_location=uri tags=pairs"),
    ("POST", "experiments/update", "experiment_id=experiment new_name=text"),
    ("POST", "experiments/delete", "experiment_id=experiment"),
    ("POST", "experiments/restore", "experiment_id=experiment"),
    ("POST", "experiments/set-experiment-tag", "experiment_id=experiment key=key value=text"),
    ("POST", "experiments/delete-experiment-tag", "experiment_id=experiment key=key"),
    ("POST", "runs/create", "experiment_id=experiment user_id=text run_name=text start_time=millis tags=pairs"),
    ("GET", "runs/get", RUN),
    ("POST", "runs/update", "run_id=run status=status end_time=millis run_name=text"),
    ("POST", "runs/delete", RUN),
    ("POST", "runs/restore", "run_uuid=run"),
    ("POST", "runs/set-tag", "run_id=run key=key value=text"),
    ("POST", "runs/delete-tag", "run_id=run key=key"),
    (
        "POST",
        "runs/log-metric",
        "run_id=run key=key value=number timestamp=millis step=int model_id=model dataset_name=text dataset_digest=text",
    ),
    ("POST", "runs/log-parameter", "run_id=run key=key value=text"),
    ("POST", "runs/log-batch", "run_id=run metrics=points params=pairs tags=pairs"),
    ("POST", "runs/log-batch", "run_id=run metrics=points params=pairs tags=pairs"),
    ("POST", "runs/log-model", "run_id=run model_json=model_json"),
    ("POST", "runs/log-inputs", "run_id=run datasets=inputs models=links"),
    ("POST", "runs/outputs", "run_id=run models=links"),
    (
        "POST",
        "runs/search",
        "experiment_ids=experiments filter=filter run_view_type=view max_results=int order_by=orders page_token=token",
    ),
    ("GET", "artifacts/list", "run_id=run path=path page_token=token"),
    ("GET", "metrics/get-history", "run_id=run metric_key=key max_results=int page_token=token"),
    ("GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk", "run_id=runs metric_key=key max_results=int"),
    (
        "GET",
        "metrics/get-history-bulk-interval",
        "run_ids=runs metric_key=key max_results=int start_step=int end_step=int",
    ),
    ("POST", "registered-models/create", "name=registered tags=pairs description=text"),
    ("GET", "registered-models/get", "name=registered"),
    ("POST", "registered-models/rename", "name=registered new_name=registered"),
    ("PATCH", "registered-models/update", "name=registered description=text"),
    ("DELETE", "registered-models/delete", "name=registered"),
    ("GET", "registered-models/search", "max_results=int filter=filter order_by=orders page_token=token"),
    ("POST", "registered-models/get-latest-versions", "name=registered stages=stages"),
    ("POST", "registered-models/set-tag", "name=registered key=key value=text"),
    ("DELETE", "registered-models/delete-tag", "name=registered key=key"),
    ("POST", "registered-models/alias", "name=registered alias=alias version=version"),
    ("GET", "registered-models/alias", "name=registered alias=alias"),
    ("DELETE", "registered-models/alias", "name=registered alias=alias"),
    (
        "POST",
        "model-versions/create",
        "name=registered source=uri run_id=run run_link=text tags=pairs description=text model_id=model",
    ),
    ("GET", "model-versions/get", "name=registered version=version"),
    ("PATCH", "model-versions/update", "name=registered version=version description=text"),
    (
        "POST",
        "model-versions/transition-stage",
        "name=registered version=version stage=stage archive_existing_versions=bool",
    ),
    ("DELETE", "model-versions/delete", "name=registered version=version"),
    ("GET", "model-versions/search", "max_results=int filter=filter order_by=orders page_token=token"),
    ("GET", "model-versions/get-download-uri", "name=registered version=version"),
    ("POST", "model-versions/set-tag", "name=registered version=version key=key value=text"),
    ("DELETE", "model-versions/delete-tag", "name=registered version=version key=key"),
    (
        "POST",
        "logged-models",
        "experiment_id=experiment name=text model_type=text source_run_id=run params=pairs tags=pairs",
    ),
    (
        "POST",
        "logged-models/search",
        "experiment_ids=experiments filter=filter datasets=scopes max_results=int order_by=clauses page_token=token",
    ),
    ("GET", "logged-models/{model}", ""),
    ("PATCH", "logged-models/{model}", "status=status"),
    ("DELETE", "logged-models/{model}", ""),
    ("POST", "logged-models/{model}/params", "params=pairs"),
    ("PATCH", "logged-models/{model}/tags", "tags=pairs"),
    ("DELETE", "logged-models/{model}/tags/{key}", ""),
    ("GET", "logged-models/{model}/artifacts/directories", "artifact_directory_path=path page_token=token"),
    ("POST", "/api/3.0/mlflow/traces", "trace=trace_whole"),
    (
        "POST",
        "/api/3.0/mlflow/traces/search",
        "locations=locations filter=filter max_results=int order_by=orders page_token=token",
    ),
    ("GET", "/api/3.0/mlflow/traces/get", "trace_id=trace"),
    ("GET", "/api/3.0/mlflow/traces/batchGet", "trace_ids=traces"),
    ("POST", "/api/3.0/mlflow/traces/batchGetInfos", "trace_ids=traces"),
    ("POST", "/api/3.0/mlflow/traces/link-to-run", "trace_ids=traces run_id=run"),
    ("GET", "/api/3.0/mlflow/traces/{trace}", ""),
    ("POST", "/api/3.0/mlflow/traces/{trace}/assessments", "assessment=assessment"),
    ("GET", "/api/3.0/mlflow/traces/{trace}/assessments/{said}", ""),
    ("PATCH", "/api/3.0/mlflow/traces/{trace}/assessments/{said}", "assessment=assessment update_mask=text"),
    ("DELETE", "/api/3.0/mlflow/traces/{trace}/assessments/{said}", ""),
    (
        "POST",
        "traces/delete-traces",
        "experiment_id=experiment max_timestamp_millis=millis max_traces=int request_ids=traces",
    ),
    ("PATCH", "traces/{trace}/tags", "key=key value=text"),
    ("DELETE", "traces/{trace}/tags", "key=key"),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts", "path=path"),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts/{path}", ""),
    ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/{path}", ""),
    ("GET", "/get-artifact", "run_id=run path=path"),
];

/// What a kind of object has in it.
pub(super) fn parts(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "pair" => "key=key value=text",
        "point" => {
            "key=key value=number timestamp=millis step=int model_id=model dataset_name=text dataset_digest=text"
        }
        "link" => "model_id=model step=int",
        "input" => "tags=pairs dataset=dataset",
        "dataset" => "name=text digest=text source_type=text source=text schema=text profile=text",
        "scope" => "dataset_name=text dataset_digest=text",
        "clause" => "field_name=field ascending=bool dataset_name=text dataset_digest=text",
        "location" => "type=text mlflow_experiment=experiment_part",
        "experiment_part" => "experiment_id=experiment",
        "trace_whole" => "trace_info=trace_info",
        "trace_info" => {
            "trace_id=trace trace_location=location request_time=time state=status trace_metadata=map tags=map assessments=saids \
             execution_duration=duration client_request_id=text request_preview=text response_preview=text"
        }
        "assessment" => {
            "assessment_name=text source=source feedback=value overrides=said assessment_id=said valid=bool rationale=text \
             expectation=value issue=value span_id=text metadata=map create_time=time last_update_time=time"
        }
        "source" => "source_type=text source_id=text",
        "value" => "value=any",
        "export" => "resourceSpans=resource_spans",
        "resource_span" => "scopeSpans=scope_spans",
        "scope_span" => "spans=spans",
        "span" => {
            "traceId=trace_hex spanId=span_hex attributes=attributes name=text startTimeUnixNano=int endTimeUnixNano=int status=span_status \
             parentSpanId=span_hex kind=int links=spans events=spans"
        }
        "span_status" => "code=int message=text",
        "attribute" => "key=text value=any_value",
        "any_value" => {
            "stringValue=text intValue=int doubleValue=number boolValue=bool arrayValue=any_values bytesValue=text"
        }
        "any_values" => "values=any_value_list",
        _ => return None,
    })
}

/// What is in a list of a kind.
pub(super) fn of_list(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "pairs" => "pair",
        "resource_spans" => "resource_span",
        "scope_spans" => "scope_span",
        "spans" => "span",
        "attributes" => "attribute",
        "any_value_list" => "any_value",
        "points" => "point",
        "links" => "link",
        "inputs" => "input",
        "scopes" => "scope",
        "clauses" => "clause",
        "locations" => "location",
        "saids" => "assessment",
        "runs" => "run",
        "experiments" => "experiment",
        "traces" => "trace",
        "orders" => "order",
        "stages" => "stage",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_one() {
        for (method, path, _) in ROUTES {
            let path = if path.starts_with('/') { path.to_owned() } else { format!("/api/2.0/mlflow/{path}") };
            assert!(crate::routes::find(method, &path.replace(['{', '}'], "")).is_some(), "{method} {path}");
        }
    }
}
