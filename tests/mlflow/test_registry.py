"""Registered models, their versions, aliases and stages; prompts."""

import mlflow
import pytest
from mlflow.exceptions import MlflowException


@pytest.fixture
def source(client, run):
    client.log_text(run, "weights", "model/MLmodel")
    return f"runs:/{run}/model"


def test_a_model_is_registered_described_tagged_renamed_and_removed(client, name):
    made = client.create_registered_model(name, tags={"k": "v"}, description="first")
    assert (made.name, made.tags, made.description) == (name, {"k": "v"}, "first")
    with pytest.raises(MlflowException, match="already exists") as error:
        client.create_registered_model(name)
    assert error.value.error_code == "RESOURCE_ALREADY_EXISTS"
    client.update_registered_model(name, "second")
    client.set_registered_model_tag(name, "x", "1")
    client.delete_registered_model_tag(name, "k")
    stored = client.get_registered_model(name)
    assert (stored.description, stored.tags) == ("second", {"x": "1"})
    client.rename_registered_model(name, name + "-new")
    assert client.get_registered_model(name + "-new").description == "second"
    client.delete_registered_model(name + "-new")
    for gone in [name, name + "-new"]:
        with pytest.raises(MlflowException, match=f"Registered Model with name={gone} not found") as error:
            client.get_registered_model(gone)
        assert error.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_versions_count_up_and_numbers_come_once(client, name, run, source):
    client.create_registered_model(name)
    versions = [client.create_model_version(name, source, run_id=run, tags={"nth": str(nth)}) for nth in range(3)]
    assert [int(version.version) for version in versions] == [1, 2, 3]
    assert (versions[0].status, versions[0].current_stage, versions[0].run_id) == ("READY", "None", run)
    client.delete_model_version(name, "3")
    assert int(client.create_model_version(name, source, run_id=run).version) == 4
    client.update_model_version(name, "1", "described")
    client.set_model_version_tag(name, "1", "k", "v")
    client.delete_model_version_tag(name, "1", "nth")
    stored = client.get_model_version(name, "1")
    assert (stored.description, stored.tags, stored.source) == ("described", {"k": "v"}, source)
    with pytest.raises(MlflowException, match="not found"):
        client.get_model_version(name, "3")


def test_aliases_lead_to_versions(client, name, run, source):
    client.create_registered_model(name)
    for _ in range(2):
        client.create_model_version(name, source, run_id=run)
    client.set_registered_model_alias(name, "champion", "1")
    assert client.get_model_version_by_alias(name, "champion").version in ("1", 1)
    client.set_registered_model_alias(name, "champion", "2")
    assert client.get_registered_model(name).aliases == {"champion": "2"} or client.get_registered_model(name).aliases == {"champion": 2}
    assert client.get_model_version(name, "2").aliases == ["champion"] and client.get_model_version(name, "1").aliases == []
    for alias in ["latest", "v1", "V22", "a b;c"]:
        with pytest.raises(MlflowException):
            client.set_registered_model_alias(name, alias, "1")
    client.delete_registered_model_alias(name, "champion")
    with pytest.raises(MlflowException, match="alias champion not found"):
        client.get_model_version_by_alias(name, "champion")
    client.set_registered_model_alias(name, "champion", "2")
    client.delete_model_version(name, "2")
    assert client.get_registered_model(name).aliases == {}


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_stages(client, name, run, source):
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, source, run_id=run)
    client.transition_model_version_stage(name, "1", "Production")
    client.transition_model_version_stage(name, "2", "production", archive_existing_versions=True)
    stages = {int(version.version): version.current_stage for version in client.search_model_versions(f"name = '{name}'")}
    assert stages == {1: "Archived", 2: "Production", 3: "None"}
    latest = {version.current_stage: int(version.version) for version in client.get_latest_versions(name)}
    assert latest == {"Archived": 1, "Production": 2, "None": 3}
    assert [int(version.version) for version in client.get_latest_versions(name, ["Production"])] == [2]
    with pytest.raises(MlflowException, match="Invalid Model Version stage"):
        client.transition_model_version_stage(name, "1", "Attic")


def test_models_and_versions_are_searched(client, name, run, source):
    names = [f"{name}-{nth}" for nth in range(4)]
    for nth, each in enumerate(names):
        client.create_registered_model(each, tags={"nth": str(nth)})
    client.create_model_version(names[0], source, run_id=run)
    client.create_model_version(names[0], "s3://elsewhere/a/model", tags={"k": "v"})

    def models(filter, **more):
        return [found.name for found in client.search_registered_models(filter, **more)]

    assert models(f"name LIKE '{name}-%'") == names
    assert models(f"name ILIKE '{name.upper()}-%'", order_by=["name DESC"]) == names[::-1]
    assert models(f"name = '{names[2]}'") == [names[2]]
    assert models(f"name LIKE '{name}-%' AND tag.nth = '1'") == [names[1]]
    page = client.search_registered_models(f"name LIKE '{name}-%'", max_results=3)
    assert len(page) == 3 and models(f"name LIKE '{name}-%'", page_token=page.token) == names[3:]

    def versions(filter):
        return sorted(int(found.version) for found in client.search_model_versions(filter))

    assert versions(f"name = '{names[0]}'") == [1, 2]
    assert versions(f"name = '{names[0]}' AND run_id = '{run}'") == [1]
    assert versions(f"source_path LIKE 's3://else%' AND name = '{names[0]}'") == [2]
    assert versions(f"name = '{names[0]}' AND version_number > 1") == [2]
    assert versions(f"name = '{names[0]}' AND tags.k = 'v'") == [2]
    with pytest.raises(MlflowException):
        client.search_model_versions("foo = 'x'")


def test_files_of_a_version_come_down(client, name, run, source, tmp_path):
    client.create_registered_model(name)
    client.create_model_version(name, source, run_id=run)
    assert client.get_model_version_download_uri(name, "1").endswith("/model")
    path = mlflow.artifacts.download_artifacts(f"models:/{name}/1", dst_path=str(tmp_path))
    assert open(f"{path}/MLmodel").read() == "weights"


def test_prompts_are_registered_and_kept_from_models(client, name):
    prompt = mlflow.genai.register_prompt(name, "hi {{x}}") if hasattr(mlflow, "genai") else client.register_prompt(name, "hi {{x}}")
    assert prompt.version == 1
    assert client.get_prompt_version(name, "1").template == "hi {{x}}"
    assert name not in [found.name for found in client.search_registered_models()]
    assert name in [found.name for found in client.search_prompts(filter_string=f"name = '{name}'")]


def test_names_and_sources_that_cannot_be(client, name, refused, run):
    for bad in ["a/b", "a:b", ""]:
        with pytest.raises(MlflowException):
            client.create_registered_model(bad)
    client.create_registered_model(name)
    for source in ["../../etc", "/etc/passwd", "file:///etc/passwd", "mlflow-artifacts:/0/%2e%2e/%2e%2e/x"]:
        refused("POST", "/model-versions/create", {"name": name, "source": source})
    refused("POST", "/model-versions/create", {"name": "no such " + name, "source": "s3://bucket/x"}, status=404, code="RESOURCE_DOES_NOT_EXIST")
    refused("GET", f"/model-versions/get?name={name}&version=x")
