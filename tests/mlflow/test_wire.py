"""What is on the wire: codes, messages, forms of numbers, and that bad input is told and never a 500."""

import json
import random

import pytest


def test_health_and_version(call):
    assert call("GET", "/health").body == b"OK"
    version = call("GET", "/version")
    assert version.headers.get_content_type() in ("text/plain", "text/html")
    assert tuple(int(part) for part in version.body.decode().split(".")[:2]) >= (3, 4)


def test_server_info(call):
    for prefix in ["api", "ajax-api"]:
        info = call("GET", f"/{prefix}/3.0/mlflow/server-info").json
        assert info["multipart_uploads_enabled"] is False and info["multipart_downloads_enabled"] is False
        assert not info.get("artifacts_presigned_only")


def test_a_missing_parameter_is_named(refused, run):
    for method, path, body, parameter in [
        ("POST", "/experiments/create", {}, "name"),
        ("GET", "/experiments/get-by-name", None, "experiment_name"),
        ("GET", "/runs/get", None, "run_id"),
        ("POST", "/runs/log-metric", {"run_id": run, "value": 1, "timestamp": 1}, "key"),
        ("POST", "/runs/log-metric", {"run_id": run, "key": "m", "timestamp": 1}, "value"),
        ("POST", "/runs/log-metric", {"run_id": run, "key": "m", "value": 1}, "timestamp"),
        ("POST", "/runs/log-parameter", {"run_id": run, "value": "1"}, "key"),
        ("POST", "/runs/set-tag", {"run_id": run, "value": "1"}, "key"),
        ("POST", "/runs/log-batch", {"metrics": []}, "run_id"),
        ("GET", f"/metrics/get-history?run_id={run}", None, "metric_key"),
        ("POST", "/registered-models/create", {}, "name"),
    ]:
        assert f"Missing value for required parameter '{parameter}'" in refused(method, path, body), path


def test_a_wrong_type_is_named_with_its_value(refused, run, experiment):
    for path, body, parameter, value in [
        ("/experiments/create", {"name": 5}, "name", "5"),
        ("/runs/create", {"experiment_id": experiment, "start_time": "soon"}, "start_time", '"soon"'),
        ("/runs/log-metric", {"run_id": run, "key": "m", "value": "x", "timestamp": 1}, "value", '"x"'),
        ("/runs/log-batch", {"run_id": run, "metrics": {"a": 1}}, "metrics", '{"a":1}'),
        ("/runs/search", {"experiment_ids": experiment}, "experiment_ids", f'"{experiment}"'),
    ]:
        message = refused("POST", path, body)
        assert f"Invalid value {value} for parameter '{parameter}' supplied" in message, message


@pytest.mark.tracker
def test_what_the_other_server_takes_for_something_else_is_refused(refused, run, experiment):
    assert "Missing value for required parameter 'experiment_id'" in refused("POST", "/runs/create", {})
    for path, body, parameter, value in [
        ("/runs/create", {"experiment_id": experiment, "tags": "x"}, "tags", '"x"'),
        ("/runs/log-metric", {"run_id": run, "key": "m", "value": 1, "timestamp": 1, "step": 1.5}, "step", "1.5"),
        ("/runs/update", {"run_id": run, "status": "ASLEEP"}, "status", '"ASLEEP"'),
    ]:
        message = refused("POST", path, body)
        assert f"Invalid value {value} for parameter '{parameter}' supplied" in message, message


def test_whole_numbers_come_back_as_numbers_and_may_be_sent_as_texts(call, run):
    assert call("POST", "/runs/log-metric", {"run_id": run, "key": "m", "value": "2.5", "timestamp": "7", "step": "3"}).body.strip() == b"{}"
    metric = call("GET", f"/runs/get?run_id={run}&run_uuid={run}").json["run"]["data"]["metrics"][0]
    assert metric == {"key": "m", "value": 2.5, "timestamp": 7, "step": 3}


def test_numbers_that_json_cannot_write_are_texts(call, run):
    for value in ["NaN", "Infinity", "-Infinity"]:
        call("POST", "/runs/log-metric", {"run_id": run, "key": value.strip("-"), "value": value, "timestamp": 1})
    metrics = {metric["key"]: metric["value"] for metric in call("GET", f"/runs/get?run_id={run}").json["run"]["data"]["metrics"]}
    assert metrics["NaN"] == "NaN"


@pytest.mark.tracker
def test_a_post_that_is_no_json_is_refused(call):
    for headers in [{"Content-Type": "text/plain"}, {}]:
        assert call("POST", "/experiments/create", b'{"name": "x"}', headers).status == 400
    for body in [b"{", b"[]", b"5", b"\xff\xfe", b"null"]:
        answer = call("POST", "/experiments/create", body, {"Content-Type": "application/json"})
        assert answer.status == 400 and answer.json["error_code"] in ("BAD_REQUEST", "INVALID_PARAMETER_VALUE"), body


@pytest.mark.tracker
def test_what_is_not_there_is_no_endpoint(call):
    for method, path in [
        ("GET", "/api/2.0/mlflow/webhooks"), ("POST", "/api/3.0/mlflow/gateway/secrets/create"), ("GET", "/api/3.0/mlflow/scorers/list"),
        ("POST", "/api/2.0/mlflow/nothing"), ("PUT", "/api/2.0/mlflow/runs/create"), ("GET", "/api/3.0/mlflow/workspaces"),
    ]:
        answer = call(method, path, {} if method == "POST" else None)
        assert answer.status in (404, 405), path


@pytest.mark.tracker
def test_set_c_is_endpoint_not_found(call):
    for path in ["/api/2.0/mlflow/webhooks", "/api/3.0/mlflow/scorers/list", "/api/3.0/mlflow/label-schemas/list"]:
        assert call("GET", path).code == "ENDPOINT_NOT_FOUND"


def test_every_route_has_a_twin_for_browsers(call, experiment):
    assert call("GET", f"/ajax-api/2.0/mlflow/experiments/get?experiment_id={experiment}").status == 200


def test_histories_in_pages_and_in_bulk(call, client, experiment):
    runs = [client.create_run(experiment).info.run_id for _ in range(2)]
    for run in runs:
        batch = [{"key": "m", "value": step, "timestamp": step, "step": step} for step in range(1_000)]
        for _ in range(2):
            assert call("POST", "/runs/log-batch", {"run_id": run, "metrics": batch}).status == 200
    first = call("GET", f"/metrics/get-history?run_id={runs[0]}&metric_key=m&max_results=600").json
    rest = call("GET", f"/metrics/get-history?run_id={runs[0]}&metric_key=m&max_results=600&page_token={first['next_page_token']}").json
    assert [point["step"] for point in first["metrics"] + rest["metrics"]] == list(range(1_000)) and "next_page_token" not in rest
    bulk = call("GET", f"/ajax-api/2.0/mlflow/metrics/get-history-bulk?run_id={runs[0]}&run_id={runs[1]}&metric_key=m").json["metrics"]
    assert len(bulk) == 2_000 and {point["run_id"] for point in bulk} == set(runs)
    few = call("GET", f"/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval?run_ids={runs[0]}&run_ids={runs[1]}&metric_key=m&start_step=100&end_step=899&max_results=20").json["metrics"]
    steps = [point["step"] for point in few if point["run_id"] == runs[0]]
    assert steps[0] == 100 and steps[-1] == 899 and 2 <= len(steps) <= 22 and steps == sorted(steps)


@pytest.mark.tracker
def test_bodies_without_end_are_refused(call):
    answer = call("POST", "/experiments/create", b'{"name": "' + b"x" * (20 << 20) + b'"}', {"Content-Type": "application/json"})
    assert answer.status == 400 and "maximum length" in answer.message


@pytest.mark.tracker
def test_noise_is_never_a_500(call, run, experiment):
    dice = random.Random(7)
    values = [None, True, 0, -1, 2**63, 1e400, "", "x", "\u0000", [], {}, [None], [{}], {"a": {}}, run, experiment, "0", "NaN", "a" * 9_000]
    keys = ["run_id", "key", "value", "timestamp", "step", "name", "tags", "metrics", "params", "experiment_id", "experiment_ids", "filter", "order_by",
            "max_results", "page_token", "status", "models", "datasets", "source", "version", "alias", "stage", "trace", "assessment", "trace_ids"]
    posts = ["experiments/create", "experiments/update", "experiments/search", "runs/create", "runs/update", "runs/log-metric", "runs/log-batch",
             "runs/log-inputs", "runs/outputs", "runs/search", "runs/set-tag", "registered-models/create", "model-versions/create",
             "registered-models/alias", "model-versions/transition-stage", "logged-models", "logged-models/search", "runs/log-model"]
    for nth in range(1_500):
        body = {dice.choice(keys): dice.choice(values) for _ in range(dice.randrange(6))}
        path = "/api/3.0/mlflow/traces" + dice.choice(["", "/search", "/batchGetInfos"]) if nth % 10 == 0 else "/" + dice.choice(posts)
        answer = call("POST", path, json.loads(json.dumps(body)))
        assert answer.status < 500, (path, body, answer.body)
        assert answer.status == 200 or answer.json["message"], (path, body)
