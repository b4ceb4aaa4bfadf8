"""What every test has: a client, an experiment of its own, and requests as they are on the wire."""

import json
import os
import urllib.error
import urllib.request
import uuid

import mlflow
import pytest
from mlflow import MlflowClient

URI = os.environ.get("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")


def pytest_addoption(parser):
    parser.addoption("--against", choices=["tracker", "mlflow"], default="tracker")


def pytest_configure(config):
    config.addinivalue_line("markers", "tracker: holds for tracker alone")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--against") == "mlflow":
        skip = pytest.mark.skip(reason="only tracker promises it")
        for item in items:
            if "tracker" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def _uri(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(URI)
    yield
    while mlflow.active_run():
        mlflow.end_run()


@pytest.fixture
def client():
    return MlflowClient(URI)


@pytest.fixture
def name():
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def experiment(client, name):
    return client.create_experiment(name)


@pytest.fixture
def run(client, experiment):
    return client.create_run(experiment).info.run_id


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        return self.json["error_code"]

    @property
    def message(self):
        return self.json["message"]


def request(method, path, body=None, headers=None):
    """One request; `path` is below the server, a dict is sent as JSON, and no status is an exception."""
    headers = dict(headers or {})
    data = body
    if isinstance(body, (dict, list)):
        data = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    asked = urllib.request.Request(URI + path, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


@pytest.fixture
def call():
    def call(method, path, body=None, headers=None):
        return request(method, path if path.startswith(("/api", "/ajax", "/v1")) or path.count("/") == 1 and path[1:] in
                       ("health", "version") or path.startswith("/get-artifact") else f"/api/2.0/mlflow{path}", body, headers)

    return call


@pytest.fixture
def refused(call):
    """The error of a request that must be refused."""

    def refused(method, path, body=None, status=400, code="INVALID_PARAMETER_VALUE"):
        answer = call(method, path, body)
        assert answer.status == status, (answer.status, answer.body[:300])
        assert answer.code == code, answer.body[:300]
        return answer.message

    return refused
