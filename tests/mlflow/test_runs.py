"""Experiments and runs: made, logged to, changed, deleted and restored."""

import math
import threading

import mlflow
import pytest
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException


def test_the_fluent_interface_logs_a_run(client, name):
    mlflow.set_experiment(name)
    with mlflow.start_run(run_name="first", tags={"a": "b"}) as run:
        mlflow.log_param("lr", 0.1)
        mlflow.log_params({f"p{i}": i for i in range(101)})
        mlflow.log_metric("loss", 1.5, step=1)
        mlflow.log_metrics({"loss": 0.5, "accuracy": 0.75}, step=2)
        mlflow.set_tags({"x": "y"})
        with mlflow.start_run(nested=True) as child:
            mlflow.log_metric("inner", 1)
    stored = client.get_run(run.info.run_id)
    assert stored.info.status == "FINISHED" and stored.info.end_time >= stored.info.start_time
    assert stored.info.run_name == "first" and stored.data.tags["a"] == "b" and stored.data.tags["x"] == "y"
    assert stored.data.params["lr"] == "0.1" and len(stored.data.params) == 102
    assert stored.data.metrics == {"loss": 0.5, "accuracy": 0.75}
    assert client.get_run(child.info.run_id).data.tags["mlflow.parentRunId"] == run.info.run_id
    with mlflow.start_run(run_id=run.info.run_id):
        mlflow.log_metric("loss", 0.25, step=3)
    assert [point.value for point in client.get_metric_history(run.info.run_id, "loss")] == [1.5, 0.5, 0.25]


def test_a_run_that_fails_says_so(client, name):
    mlflow.set_experiment(name)
    with pytest.raises(ZeroDivisionError):
        with mlflow.start_run() as run:
            1 / 0
    assert client.get_run(run.info.run_id).info.status == "FAILED"


@pytest.mark.parametrize("status", ["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"])
def test_every_status_is_kept(client, run, status):
    client.set_terminated(run, status=status) if status != "RUNNING" else client.update_run(run, status=status)
    assert client.get_run(run).info.status == status


def test_asynchronous_logging_arrives(client, name):
    mlflow.set_experiment(name)
    with mlflow.start_run() as run:
        for step in range(50):
            mlflow.log_metric("loss", step, step=step, synchronous=False)
        mlflow.log_params({"a": 1}, synchronous=False)
        mlflow.flush_async_logging()
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 50
    assert client.get_run(run.info.run_id).data.params == {"a": "1"}


def test_times_users_and_names_are_those_the_client_gives(client, experiment):
    run = client.create_run(experiment, start_time=1_000, tags={"mlflow.user": "me"}, run_name="old")
    assert (run.info.start_time, run.info.run_name, run.data.tags["mlflow.runName"]) == (1_000, "old", "old")
    client.set_terminated(run.info.run_id, end_time=2_000)
    assert client.get_run(run.info.run_id).info.end_time == 2_000
    client.update_run(run.info.run_id, name="new")
    assert client.get_run(run.info.run_id).data.tags["mlflow.runName"] == "new"
    client.set_tag(run.info.run_id, "mlflow.runName", "newer")
    assert client.get_run(run.info.run_id).info.run_name == "newer"
    assert client.create_run(experiment).info.run_name != ""


def test_params_are_set_once(client, run, refused):
    client.log_param(run, "lr", "0.1")
    client.log_param(run, "lr", "0.1")
    with pytest.raises(MlflowException, match="Changing param values is not allowed"):
        client.log_param(run, "lr", "0.2")
    message = refused("POST", "/runs/log-batch", {"run_id": run, "params": [{"key": "lr", "value": "0.3"}, {"key": "new", "value": "1"}]})
    assert "Changing param values is not allowed. Params were already logged=" in message
    assert "'key': 'lr', 'old_value': '0.1', 'new_value': '0.3'" in message
    twice = [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]
    assert "Duplicate parameter keys have been submitted" in refused("POST", "/runs/log-batch", {"run_id": run, "params": twice})


@pytest.mark.tracker
def test_a_batch_is_written_whole_or_not_at_all(client, run, refused):
    client.log_param(run, "lr", "0.1")
    batch = {
        "run_id": run,
        "metrics": [{"key": "m", "value": 1, "timestamp": 1, "step": 1}],
        "tags": [{"key": "t", "value": "v"}],
        "params": [{"key": "fresh", "value": "1"}, {"key": "lr", "value": "0.2"}],
    }
    refused("POST", "/runs/log-batch", batch)
    batch["params"], batch["metrics"] = [], batch["metrics"] + [{"key": "bad;key", "value": 1, "timestamp": 1}]
    refused("POST", "/runs/log-batch", batch)
    data = client.get_run(run).data
    assert data.metrics == {} and data.params == {"lr": "0.1"} and "t" not in data.tags


def test_metrics_are_a_set_and_the_latest_is_the_greatest(client, run):
    points = [(1, 5, 0.1), (3, 1, 0.2), (3, 1, 0.3), (2, 9, 0.4), (3, 0, 0.9)]
    for _ in range(2):
        for step, time, value in points:
            client.log_metric(run, "m", value, timestamp=time, step=step)
    assert client.get_run(run).data.metrics["m"] == 0.3
    history = client.get_metric_history(run, "m")
    assert sorted((point.step, point.timestamp, point.value) for point in history) == sorted(points)


def test_nan_and_infinities(client, run):
    for key, value in [("nan", math.nan), ("inf", math.inf), ("ninf", -math.inf)]:
        client.log_metric(run, key, value)
    metrics = client.get_run(run).data.metrics
    assert math.isnan(metrics["nan"]) and metrics["inf"] > 1e308 and metrics["ninf"] < -1e308
    client.log_metric(run, "nan", 1.0, step=-5)
    assert math.isnan(client.get_run(run).data.metrics["nan"])


def test_thousands_of_metrics_and_their_pages(client, run):
    for start in range(0, 3_000, 1_000):
        client.log_batch(run, metrics=[Metric("b", float(i), 1_000 + i, i) for i in range(start, start + 1_000)])
    history = client.get_metric_history(run, "b")
    assert [point.step for point in history] == list(range(3_000))


def test_limits_of_a_batch(run, refused):
    metric = {"key": "m", "value": 1, "timestamp": 1, "step": 1}
    for body in [
        {"metrics": [metric] * 1_001},
        {"params": [{"key": f"p{i}", "value": "1"} for i in range(101)]},
        {"tags": [{"key": f"t{i}", "value": "1"} for i in range(101)]},
        {"metrics": [metric] * 950, "params": [{"key": f"p{i}", "value": "1"} for i in range(60)]},
    ]:
        refused("POST", "/runs/log-batch", {"run_id": run, **body})


def test_long_values_are_cut_and_long_keys_refused(client, run):
    client.log_batch(run, params=[Param("p", "x" * 6_500)], tags=[RunTag("t", "y" * 8_500)])
    data = client.get_run(run).data
    assert len(data.params["p"]) == 6_000 and len(data.tags["t"]) == 8_000
    for key in ["x" * 251, "a//b", "../a", "/a", "a;b", ""]:
        with pytest.raises(MlflowException):
            client.log_param(run, key, "1")
        with pytest.raises(MlflowException):
            client.log_metric(run, key, 1)
    client.log_metric(run, "a/b.c-d_e f:g ü", 1)
    client.log_param(run, "empty", "")
    assert client.get_run(run).data.params["empty"] == ""


def test_tags_are_set_and_taken_away(client, run):
    client.set_tag(run, "t", "1")
    client.set_tag(run, "t", "2")
    assert client.get_run(run).data.tags["t"] == "2"
    client.delete_tag(run, "t")
    assert "t" not in client.get_run(run).data.tags
    with pytest.raises(MlflowException, match="No tag with name: t"):
        client.delete_tag(run, "t")


def test_a_deleted_run_is_hidden_and_takes_nothing(client, experiment, run, refused):
    client.delete_run(run)
    client.delete_run(run)
    assert client.get_run(run).info.lifecycle_stage == "deleted"
    assert client.search_runs([experiment]) == []
    for path, body in [
        ("log-metric", {"key": "m", "value": 1, "timestamp": 1}),
        ("log-parameter", {"key": "p", "value": "1"}),
        ("set-tag", {"key": "t", "value": "1"}),
        ("log-batch", {}),
        ("update", {"status": "FINISHED"}),
    ]:
        message = refused("POST", f"/runs/{path}", {"run_id": run, **body})
        assert message == f"The run {run} must be in the 'active' state. Current state is deleted."
    client.restore_run(run)
    client.log_metric(run, "m", 1)
    assert [found.info.run_id for found in client.search_runs([experiment])] == [run]


def test_runs_and_experiments_that_are_not_there(client, refused):
    for id in ["nope", "0" * 32]:
        message = refused("GET", f"/runs/get?run_id={id}", status=404, code="RESOURCE_DOES_NOT_EXIST")
        assert message == f"Run with id={id} not found"
    assert client.get_experiment_by_name("there is no such") is None
    refused("GET", "/experiments/get?experiment_id=999999", status=404, code="RESOURCE_DOES_NOT_EXIST")
    refused("POST", "/runs/create", {"experiment_id": "999999"}, status=404, code="RESOURCE_DOES_NOT_EXIST")


def test_experiments_are_made_renamed_tagged_deleted_and_restored(client, name):
    experiment = client.create_experiment(name, tags={"k": "v"})
    assert isinstance(experiment, str)
    with pytest.raises(MlflowException, match="already exists"):
        client.create_experiment(name)
    client.set_experiment_tag(experiment, "x", "1")
    client.delete_experiment_tag(experiment, "k")
    client.rename_experiment(experiment, name + "-new")
    stored = client.get_experiment(experiment)
    assert (stored.name, stored.tags, stored.lifecycle_stage) == (name + "-new", {"x": "1"}, "active")
    assert stored.artifact_location.startswith("mlflow-artifacts:/")
    run = client.create_run(experiment).info.run_id
    client.delete_experiment(experiment)
    assert client.get_experiment(experiment).lifecycle_stage == "deleted"
    assert client.get_run(run).info.lifecycle_stage == "deleted"
    with pytest.raises(MlflowException):
        client.create_run(experiment)
    client.restore_experiment(experiment)
    assert client.get_run(run).info.lifecycle_stage == "active"
    assert client.get_experiment_by_name(name) is None


def test_the_default_experiment_is_0(client):
    assert client.get_experiment("0").name == "Default"


def test_datasets_are_inputs(client, experiment, run):
    dataset = Dataset("squad", "abc123", "hugging_face", '{"path": "squad"}', '{"columns": []}', '{"num_rows": 7}')
    for _ in range(2):
        client.log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    stored = client.get_run(run).inputs.dataset_inputs
    assert len(stored) == 1 and stored[0].dataset.to_dictionary() == dataset.to_dictionary()
    assert [(tag.key, tag.value) for tag in stored[0].tags] == [("mlflow.data.context", "training")]
    for filter in ["dataset.name = 'squad'", "datasets.digest = 'abc123'", "dataset.context LIKE 'train%'", "dataset.name IN ('x', 'squad')"]:
        assert len(client.search_runs([experiment], filter)) == 1, filter
    assert client.search_runs([experiment], "dataset.name = 'other'") == []


def test_writers_beside_each_other_lose_nothing(client, run):
    def write(writer):
        for step in range(25):
            client.log_metric(run, f"m{writer % 2}", writer, timestamp=writer, step=step)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for key in ["m0", "m1"]:
        assert len(client.get_metric_history(run, key)) == 100
