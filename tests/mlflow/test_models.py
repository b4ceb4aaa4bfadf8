"""Logged models: made by runs, with files, params, tags and measurements."""

import pytest
from mlflow.entities import LoggedModelInput, LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException

PROXY = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture
def model(client, experiment, run):
    return client.create_logged_model(experiment, name="policy", source_run_id=run, params={"lr": "0.1"}, tags={"a": "b"}, model_type="pyfunc")


def test_a_model_is_logged_finished_tagged_and_deleted(client, call, experiment, run, model):
    assert (model.name, model.source_run_id, model.params, model.tags) == ("policy", run, {"lr": "0.1"}, {"a": "b"})
    assert model.status == LoggedModelStatus.PENDING and model.experiment_id == experiment
    root = model.artifact_location.removeprefix("mlflow-artifacts:/")
    assert call("PUT", f"{PROXY}/{root}/MLmodel", b"flavors").status == 200
    assert call("PUT", f"{PROXY}/{root}/data/weights", b"w").status == 200
    ready = client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    assert ready.status == LoggedModelStatus.READY
    assert client.finalize_logged_model(model.model_id, LoggedModelStatus.READY).status == LoggedModelStatus.READY
    client.set_logged_model_tags(model.model_id, {"x": "y"})
    client.delete_logged_model_tag(model.model_id, "a")
    assert client.get_logged_model(model.model_id).tags == {"x": "y"}
    assert [file.path for file in client.list_logged_model_artifacts(model.model_id)] == ["MLmodel", "data"]
    client.delete_logged_model(model.model_id)
    with pytest.raises(MlflowException, match="not found"):
        client.get_logged_model(model.model_id)


@pytest.mark.tracker
def test_params_of_a_model_are_set_once(client, model, refused):
    client.log_model_params(model.model_id, {"more": "1", "lr": "0.1"})
    assert client.get_logged_model(model.model_id).params == {"lr": "0.1", "more": "1"}
    refused("POST", f"/logged-models/{model.model_id}/params", {"params": [{"key": f"p{i}", "value": "1"} for i in range(101)]})


def test_runs_take_and_give_models(client, run, model, experiment):
    client.log_outputs(run, [LoggedModelOutput(model.model_id, step=3)])
    outputs = client.get_run(run).outputs.model_outputs
    assert [(output.model_id, output.step) for output in outputs] == [(model.model_id, 3)]
    other = client.create_run(experiment).info.run_id
    client.log_inputs(other, models=[LoggedModelInput(model.model_id)])
    assert [taken.model_id for taken in client.get_run(other).inputs.model_inputs] == [model.model_id]


def test_models_are_measured(client, run, model):
    client.log_metric(run, "accuracy", 0.5, model_id=model.model_id, dataset_name="d", dataset_digest="1")
    client.log_metric(run, "accuracy", 0.75, step=1, model_id=model.model_id, dataset_name="d", dataset_digest="1")
    metrics = client.get_logged_model(model.model_id).metrics
    found = sorted((metric.key, metric.value, metric.step, metric.dataset_name, metric.run_id) for metric in metrics)
    assert found == [("accuracy", 0.5, 0, "d", run), ("accuracy", 0.75, 1, "d", run)]
    assert client.get_run(run).data.metrics == {"accuracy": 0.75}


def test_models_are_searched(client, experiment, run, model):
    others = [client.create_logged_model(experiment, name=f"other{nth}", params={"lr": str(nth)}) for nth in range(3)]
    client.log_metric(run, "accuracy", 0.5, model_id=model.model_id, dataset_name="d", dataset_digest="1")
    client.log_metric(run, "accuracy", 0.9, model_id=others[0].model_id, dataset_name="e", dataset_digest="2")
    client.finalize_logged_model(others[1].model_id, LoggedModelStatus.READY)

    def find(filter=None, **more):
        return [found.name for found in client.search_logged_models([experiment], filter_string=filter, **more)]

    assert find() == ["other2", "other1", "other0", "policy"]
    assert find("name = 'policy'") == ["policy"] and find("name LIKE 'other%' AND params.lr = '1'") == ["other1"]
    assert find("metrics.accuracy > 0.6") == ["other0"]
    assert find(f"source_run_id = '{run}'") == ["policy"] and find("model_type = 'pyfunc'") == ["policy"]
    assert find("tags.a = 'b'") == ["policy"]
    assert find(f"model_id IN ('{model.model_id}')") == ["policy"]
    assert find(datasets=[{"dataset_name": "d", "dataset_digest": "1"}]) == ["policy"]
    assert find("metrics.accuracy > 0.1", datasets=[{"dataset_name": "e", "dataset_digest": "2"}]) == ["other0"]
    assert find(order_by=[{"field_name": "metrics.accuracy", "ascending": False}])[:2] == ["other0", "policy"]
    assert find(order_by=[{"field_name": "name", "ascending": True}]) == ["other0", "other1", "other2", "policy"]
    page = client.search_logged_models([experiment], max_results=3)
    assert [found.name for found in client.search_logged_models([experiment], page_token=page.token)] == ["policy"]
    with pytest.raises(MlflowException):
        find("foo = 'x'")


@pytest.mark.tracker
def test_models_are_searched_by_state(client, experiment, model):
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    for filter, n in [("status = 'READY'", 1), ("status = 'LOGGED_MODEL_READY'", 1), ("status != 'READY'", 0)]:
        assert len(client.search_logged_models([experiment], filter_string=filter)) == n, filter


def test_a_logged_model_becomes_a_version(client, call, name, run, model):
    root = model.artifact_location.removeprefix("mlflow-artifacts:/")
    call("PUT", f"{PROXY}/{root}/MLmodel", b"flavors")
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.create_registered_model(name)
    version = client.create_model_version(name, f"models:/{model.model_id}", model_id=model.model_id)
    assert version.run_id == run
    assert client.get_model_version_download_uri(name, "1") == model.artifact_location
    assert name in client.get_logged_model(model.model_id).tags["mlflow.modelVersions"]


def test_names_that_cannot_be(refused, experiment):
    for bad in ["a/b", "a:b", "a.b", "a%b"]:
        refused("POST", "/logged-models", {"experiment_id": experiment, "name": bad})
    refused("GET", "/logged-models/m-none", status=404, code="RESOURCE_DOES_NOT_EXIST")
