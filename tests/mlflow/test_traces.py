"""Traces, spans and assessments."""

import gzip
import json
import secrets
import time
import zlib

import mlflow
import pytest
from mlflow.entities import AssessmentSource
from mlflow.exceptions import MlflowException


@pytest.fixture
def traced(client, name):
    experiment = mlflow.set_experiment(name).experiment_id

    @mlflow.trace(name="outer", attributes={"model": "policy"})
    def outer(x):
        with mlflow.start_span("inner", span_type="RETRIEVER") as span:
            span.set_inputs({"x": x})
            if x < 0:
                raise ValueError("negative")
        return x + 1

    ids = []
    for x in [1, 2, -1]:
        try:
            outer(x)
        except ValueError:
            pass
        ids.append(mlflow.get_last_active_trace_id())
        time.sleep(0.005)  # they are listed by their times, which are in milliseconds
    mlflow.flush_trace_async_logging()
    deadline = time.time() + 20
    while len(client.search_traces(experiment_ids=[experiment])) < 3 and time.time() < deadline:
        time.sleep(0.1)
    return experiment, ids


def test_a_trace_comes_back_with_its_spans(client, traced):
    experiment, ids = traced
    trace = client.get_trace(ids[0])
    assert trace.info.experiment_id == experiment and trace.info.state == "OK"
    assert sorted(span.name for span in trace.data.spans) == ["inner", "outer"]
    outer = next(span for span in trace.data.spans if span.name == "outer")
    inner = next(span for span in trace.data.spans if span.name == "inner")
    assert inner.parent_id == outer.span_id and outer.parent_id is None
    assert outer.inputs == {"x": 1} and outer.outputs == 2 and outer.get_attribute("model") == "policy"
    assert client.get_trace(ids[2]).info.state == "ERROR"
    with pytest.raises(MlflowException):
        client.get_trace("tr-" + "0" * 32)


def test_traces_are_searched(client, traced):
    experiment, ids = traced

    def find(filter=None, **more):
        return [ids.index(trace.info.trace_id) for trace in client.search_traces(experiment_ids=[experiment], filter_string=filter, **more)]

    assert find() == [2, 1, 0]
    assert find(order_by=["timestamp_ms ASC"]) == [0, 1, 2]
    assert find("trace.status = 'ERROR'") == [2] and find("status = 'OK'") == [1, 0]
    assert find("name = 'outer'") == [2, 1, 0]
    client.set_trace_tag(ids[1], "k", "v")
    assert find("tags.k = 'v'") == [1] and find("tag.k != 'v'") == []
    client.delete_trace_tag(ids[1], "k")
    assert find("tags.k = 'v'") == []
    page = client.search_traces(experiment_ids=[experiment], max_results=2)
    assert len(page) == 2 and [ids.index(trace.info.trace_id) for trace in client.search_traces(experiment_ids=[experiment], page_token=page.token)] == [0]
    assert find("span.name = 'inner'") == [2, 1, 0] and find("span.type = 'RETRIEVER' AND status = 'ERROR'") == [2]
    assert find("span.name RLIKE '^inn'") == [2, 1, 0]
    with pytest.raises(MlflowException):
        find("foo = 'x'")


def test_assessments_are_made_changed_and_removed(client, traced):
    _, ids = traced
    source = AssessmentSource(source_type="HUMAN", source_id="me")
    made = mlflow.log_feedback(trace_id=ids[0], name="ok", value=True, source=source, rationale="fine")
    expected = mlflow.log_expectation(trace_id=ids[0], name="answer", value={"x": 2}, source=source)
    assessments = {assessment.name: assessment for assessment in client.get_trace(ids[0]).info.assessments}
    assert assessments["ok"].value is True and assessments["ok"].rationale == "fine" and assessments["answer"].value == {"x": 2}
    mlflow.update_assessment(ids[0], expected.assessment_id, mlflow.entities.Expectation(name="answer", value=3))
    assert mlflow.get_assessment(ids[0], expected.assessment_id).value == 3
    override = mlflow.override_feedback(trace_id=ids[0], assessment_id=made.assessment_id, value=False)
    assert mlflow.get_assessment(ids[0], made.assessment_id).valid is False
    mlflow.delete_assessment(ids[0], override.assessment_id)
    assert mlflow.get_assessment(ids[0], made.assessment_id).valid is True


def test_feedback_is_searched(client, traced):
    experiment, ids = traced
    mlflow.log_feedback(trace_id=ids[1], name="grade", value="good")
    found = client.search_traces(experiment_ids=[experiment], filter_string="feedback.grade = 'good'")
    assert [trace.info.trace_id for trace in found] == [ids[1]]


def test_traces_are_linked_to_runs(client, call, traced):
    experiment, ids = traced
    run = client.create_run(experiment).info.run_id
    assert call("POST", "/traces/link-to-run", {"trace_ids": ids[:2], "run_id": run}).status == 200


def test_traces_are_removed(client, traced):
    experiment, ids = traced
    assert client.delete_traces(experiment, trace_ids=ids[:1]) == 1
    assert len(client.search_traces(experiment_ids=[experiment])) == 2
    assert client.delete_traces(experiment, max_timestamp_millis=int(time.time() * 1000) + 10_000) == 2
    assert client.search_traces(experiment_ids=[experiment]) == []


def test_spans_that_are_none_are_refused(call):
    answer = call("POST", "/v1/traces", b"\xff\xff\xff", {"Content-Type": "application/x-protobuf", "x-mlflow-experiment-id": "0"})
    assert answer.status == 400
    assert call("POST", "/v1/traces", b"", {"Content-Type": "application/x-protobuf"}).status in (400, 422)


def spans(trace):
    """A request of OTLP with two spans, in JSON."""
    attributes = [{"key": "n", "value": {"intValue": "7"}}, {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "a"}]}}}]
    one = {"traceId": trace, "spanId": "00000000000000a1", "name": "one", "kind": 1, "startTimeUnixNano": "1767225600000000000",
           "endTimeUnixNano": "1767225601500000000", "attributes": attributes, "status": {"code": 1}}
    two = {**one, "spanId": "00000000000000b2", "parentSpanId": "00000000000000a1", "name": "two", "startTimeUnixNano": "1767225600500000000"}
    return json.dumps({"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {"name": "s"}, "spans": [one, two]}]}]}).encode()


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate", "bare"])
def test_spans_come_in_json_and_compressed(client, experiment, call, encoding):
    trace = secrets.token_hex(16)
    deflate = zlib.compressobj(wbits=-15)
    body = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress, "bare": lambda body: deflate.compress(body) + deflate.flush()}[encoding](spans(trace))
    headers = {"Content-Type": "application/json; charset=utf-8", "x-mlflow-experiment-id": experiment}
    if encoding:
        headers["Content-Encoding"] = "gzip" if encoding == "gzip" else "deflate"
    answer = call("POST", "/v1/traces", body, headers)
    assert answer.status == 200, answer.body
    found = client.get_trace(f"tr-{trace}")
    assert [span.name for span in found.data.spans] == ["one", "two"]
    assert found.data.spans[0].attributes["n"] == 7 and found.data.spans[0].attributes["list"] == ["a"]
    assert found.data.spans[1].parent_id == found.data.spans[0].span_id
    assert found.info.execution_duration == 1500


def test_spans_in_what_nobody_knows_are_refused(experiment, call):
    for kind, encoding, body in [
        ("text/plain", "", spans("0" * 31 + "1")),
        ("application/json", "br", spans("0" * 31 + "1")),
        ("application/json", "gzip", spans("0" * 31 + "1")),
        ("application/json", "gzip", gzip.compress(spans("0" * 31 + "1"))[:-20]),
        ("application/json", "deflate", b"nonsense"),
        ("application/json", "", b"{"),
        ("application/json", "", spans("xyz")),
    ]:
        headers = {"Content-Type": kind, "Content-Encoding": encoding, "x-mlflow-experiment-id": experiment}
        assert call("POST", "/v1/traces", body, headers).status == 400, (kind, encoding)
