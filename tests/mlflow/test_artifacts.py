"""Files of runs: put, listed, read in part and whole, replaced, removed; and no way out of where they are."""

import hashlib
import http.client
import os
import urllib.parse

import mlflow
import pytest
from conftest import URI

PROXY = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture
def root(client, run):
    return client.get_run(run).info.artifact_uri.removeprefix("mlflow-artifacts:/")


def test_files_and_folders_go_up_and_come_down(client, run, tmp_path):
    (tmp_path / "up/sub dir").mkdir(parents=True)
    (tmp_path / "up/a.txt").write_text("a")
    (tmp_path / "up/sub dir/ünï %.bin").write_bytes(os.urandom(300_000))
    (tmp_path / "up/empty").write_bytes(b"")
    client.log_artifacts(run, str(tmp_path / "up"), "dir")
    client.log_artifact(run, str(tmp_path / "up/a.txt"))
    client.log_text(run, "text", "note.txt")
    client.log_dict(run, {"a": 1}, "d.json")
    listed = [(file.path, file.is_dir, file.file_size) for file in client.list_artifacts(run)]
    assert listed == [("a.txt", False, 1), ("d.json", False, 12), ("dir", True, None), ("note.txt", False, 4)]
    assert [file.path for file in client.list_artifacts(run, "dir")] == ["dir/a.txt", "dir/empty", "dir/sub dir"]
    assert client.list_artifacts(run, "dir/a.txt") == []
    down = client.download_artifacts(run, "dir", str(tmp_path / "down" if (tmp_path / "down").mkdir() is None else ""))
    for path in ["a.txt", "empty", "sub dir/ünï %.bin"]:
        assert open(os.path.join(down, path), "rb").read() == (tmp_path / "up" / path).read_bytes()
    assert mlflow.artifacts.load_dict(client.get_run(run).info.artifact_uri + "/d.json") == {"a": 1}


def test_a_file_is_replaced(client, run):
    for text in ["first", "second"]:
        client.log_text(run, text, "a.txt")
    assert mlflow.artifacts.load_text(client.get_run(run).info.artifact_uri + "/a.txt") == "second"


def test_the_run_lists_its_files(call, client, run):
    client.log_text(run, "x", "dir/a.txt")
    listed = call("GET", f"/artifacts/list?run_id={run}").json
    assert listed["files"] == [{"path": "dir", "is_dir": True}] and listed["root_uri"] == client.get_run(run).info.artifact_uri
    assert call("GET", f"/artifacts/list?run_id={run}&path=dir").json["files"] == [{"path": "dir/a.txt", "is_dir": False, "file_size": 1}]
    assert call("GET", f"/get-artifact?run_id={run}&path=dir/a.txt").body == b"x"


def test_removed_files_are_gone(call, client, run, root):
    for path in ["a.txt", "dir/b.txt", "dir/c.txt"]:
        client.log_text(run, "x", path)
    assert call("DELETE", f"{PROXY}/{root}/dir").status == 200
    assert [file.path for file in client.list_artifacts(run)] == ["a.txt"]
    assert call("GET", f"{PROXY}/{root}/dir/b.txt").status == 404


@pytest.mark.tracker
def test_stretches_of_a_file(call, root):
    whole = os.urandom(3_000_000)
    assert call("PUT", f"{PROXY}/{root}/big.bin", whole).status == 200
    for header, start, stop in [("bytes=0-9", 0, 10), ("bytes=1000000-1999999", 1_000_000, 2_000_000), ("bytes=-5", 2_999_995, 3_000_000), ("bytes=2999999-", 2_999_999, 3_000_000)]:
        answer = call("GET", f"{PROXY}/{root}/big.bin", headers={"Range": header})
        assert answer.status == 206 and answer.body == whole[start:stop]
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/3000000"
    assert call("GET", f"{PROXY}/{root}/big.bin", headers={"Range": "bytes=3000000-"}).status == 416
    answer = call("GET", f"{PROXY}/{root}/big.bin")
    assert answer.body == whole and answer.headers["Content-Length"] == "3000000"


def test_a_large_file_is_what_it_was(call, root):
    whole = os.urandom(1 << 20) * 40
    assert call("PUT", f"{PROXY}/{root}/large", whole).status == 200
    assert hashlib.sha256(call("GET", f"{PROXY}/{root}/large").body).digest() == hashlib.sha256(whole).digest()


@pytest.mark.tracker
def test_a_body_that_breaks_off_leaves_what_was_there(call, root):
    call("PUT", f"{PROXY}/{root}/a", b"whole")
    host = urllib.parse.urlparse(URI)
    connection = http.client.HTTPConnection(host.hostname, host.port)
    connection.putrequest("PUT", f"{PROXY}/{root}/a")
    connection.putheader("Content-Length", "1000000")
    connection.endheaders(b"x" * 70_000)
    connection.close()
    for _ in range(50):
        assert call("GET", f"{PROXY}/{root}/a").body == b"whole"


@pytest.mark.tracker
@pytest.mark.parametrize("path", [
    "..", "../x", "a/../../x", "%2e%2e/x", "a/%2e%2e/%2e%2e/x", "..%2fx", "%252e%252e/x", "/etc/passwd", "%2fetc/passwd", "a%00b", "a%5c..%5cx", "..%5cx",
    "%ff", "a//b", "./a", "a/%E2%80%A4%E2%80%A4/b", "%ef%bc%8e%ef%bc%8e/x", "C:%5cx",
])
def test_no_path_leads_out(call, root, path):
    for method in ["PUT", "GET", "DELETE"]:
        answer = raw(method, f"{PROXY}/{root}/{path}", b"x" if method == "PUT" else None)
        assert answer in (400, 404), (method, path, answer)
    assert raw("GET", f"{PROXY}?path={urllib.parse.quote(urllib.parse.unquote(root + '/' + path, errors='surrogateescape'), errors='surrogateescape')}", None) in (200, 400, 404)


def raw(method, path, body):
    """The status of a request whose path is sent as it is."""
    host = urllib.parse.urlparse(URI)
    connection = http.client.HTTPConnection(host.hostname, host.port, timeout=30)
    connection.request(method, path, body)
    return connection.getresponse().status


def test_files_of_no_run_are_refused(call):
    assert call("PUT", f"{PROXY}/0/{'0' * 32}/artifacts/a", b"x").status in (200, 404)
    assert call("GET", f"{PROXY}/nothing").status in (400, 404)


@pytest.mark.tracker
def test_uploads_in_parts_are_not_for_this_server(call, root):
    answer = call("POST", f"/api/2.0/mlflow-artifacts/mpu/create/{root}/a", {"path": "a", "num_parts": 2})
    assert (answer.status, answer.code) == (501, "NOT_IMPLEMENTED")
