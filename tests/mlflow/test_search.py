"""Searching runs and experiments: filters, orders, views, pages."""

import pytest
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException


@pytest.fixture
def runs(client, experiment):
    """Ten runs, the oldest first; metric m is the number, of every third one NaN, of the last absent."""
    ids = []
    for nth in range(10):
        run = client.create_run(experiment, start_time=1_000 + nth, run_name=f"run {nth}", tags={"even": str(nth % 2 == 0)})
        id = run.info.run_id
        if nth < 9:
            client.log_metric(id, "m", float("nan") if nth % 3 == 0 else nth)
        client.log_param(id, "lr", f"{nth / 10}")
        client.log_param(id, "odd key", "Ünï" if nth else "x")
        if nth >= 5:
            client.set_terminated(id, end_time=5_000 + nth)
        ids.append(id)
    return ids


def test_filters(client, experiment, runs):
    for text, expected in [
        ("", range(10)),
        ("metrics.m > 4", [5, 7, 8]),
        # NaN is unequal to every number, and neither less nor greater.
        ("metrics.m != 4", [0, 1, 2, 3, 5, 6, 7, 8]),
        ("metrics.m != 0", range(9)),
        ("metrics.m = 0", []),
        ("metrics.m < 1", []),
        ("metrics.m <= 0", []),
        ("metrics.m > -1", [1, 2, 4, 5, 7, 8]),
        ("metrics.m >= 0", [1, 2, 4, 5, 7, 8]),
        ("metric.m >= 4 and metrics.m <= 7", [4, 5, 7]),
        ("metrics.`m` = 4", [4]),
        ("params.lr = '0.3'", [3]),
        ("params.lr != '0.3'", [0, 1, 2, 4, 5, 6, 7, 8, 9]),
        ("param.`odd key` LIKE 'Ü%'", range(1, 10)),
        ('params."odd key" ILIKE \'%Nï\'', range(1, 10)),
        ("params.lr LIKE '0._'", range(10)),
        ("tags.even = 'True' AND metrics.m > 1", [2, 4, 8]),
        ("tags.none IS NULL", range(10)),
        ("tags.even IS NOT NULL and params.lr = '0.5'", [5]),
        ("params.none IS NOT NULL", []),
        ("attributes.status = 'FINISHED'", range(5, 10)),
        ("status != 'FINISHED'", range(5)),
        ("attributes.run_name = 'run 3'", [3]),
        ("run_name ILIKE 'RUN 4'", [4]),
        ("start_time >= 1008", [8, 9]),
        ("attribute.end_time < 5007", [5, 6]),
        ("created > 1008", [9]),
    ]:
        found = client.search_runs([experiment], text)
        assert sorted(runs.index(run.info.run_id) for run in found) == list(expected), text
    for text, expected in [("run_id IN ('{0}', '{2}')", [0, 2]), ("run_id = '{1}'", [1]), ("run_id NOT IN ('{0}')", range(1, 10))]:
        found = client.search_runs([experiment], text.format(*runs))
        assert sorted(runs.index(run.info.run_id) for run in found) == list(expected), text
    uri = client.get_run(runs[6]).info.artifact_uri
    assert [run.info.run_id for run in client.search_runs([experiment], f"artifact_uri = '{uri}'")] == [runs[6]]
    for text, expected in [
        (f"artifact_uri != '{uri}'", [0, 1, 2, 3, 4, 5, 7, 8, 9]),
        (f"artifact_uri LIKE '%{runs[6]}/art%'", [6]),
        (f"artifact_uri ILIKE '%{runs[6].upper()}/ART%' AND metrics.m != 4", [6]),
        (f"attributes.artifact_uri LIKE 'x{uri}'", []),
        (f"artifact_uri = 'x{uri}'", []),
        (f"artifact_uri LIKE '%/artifacts' AND params.lr = '0.3'", [3]),
    ]:
        found = client.search_runs([experiment], text)
        assert sorted(runs.index(run.info.run_id) for run in found) == expected, text


def test_orders(client, experiment, runs):
    def order(*by):
        return [runs.index(run.info.run_id) for run in client.search_runs([experiment], order_by=list(by))]

    assert order() == list(range(9, -1, -1))
    assert order("start_time ASC") == list(range(10))
    assert order("metrics.m DESC")[:6] == [8, 7, 5, 4, 2, 1]
    assert order("metrics.m")[:6] == [1, 2, 4, 5, 7, 8]
    assert order("params.lr DESC") == list(range(9, -1, -1))
    assert order("attributes.run_name ASC") == list(range(10))
    assert order("tags.even ASC", "start_time DESC") == [9, 7, 5, 3, 1, 8, 6, 4, 2, 0]
    assert order("params.`odd key`", "start_time")[:2] == [0, 1]
    by_id = sorted(range(10), key=lambda nth: runs[nth])
    assert order("artifact_uri") == by_id and order("artifact_uri DESC") == by_id[::-1]
    assert order("tags.even", "attributes.artifact_uri") == [nth for nth in by_id if nth % 2] + [nth for nth in by_id if nth % 2 == 0]


@pytest.mark.parametrize("by", [[], ["metrics.m DESC"], ["metrics.m ASC"], ["params.lr"], ["end_time DESC"], ["tags.even"],
                                ["artifact_uri DESC"], ["metrics.m", "artifact_uri"]])
@pytest.mark.parametrize("size", [1, 3, 10])
def test_pages_join_without_gap_or_repeat(client, experiment, runs, by, size):
    whole = [run.info.run_id for run in client.search_runs([experiment], order_by=by)]
    paged, token = [], None
    while True:
        page = client.search_runs([experiment], order_by=by, max_results=size, page_token=token)
        paged += [run.info.run_id for run in page]
        token = page.token
        if not token:
            break
        assert len(page) == size
    assert paged == whole and len(set(paged)) == 10


@pytest.mark.tracker
def test_pages_go_on_while_runs_come(client, experiment, runs):
    page = client.search_runs([experiment], max_results=4)
    client.create_run(experiment, start_time=9_000)
    rest = client.search_runs([experiment], max_results=50, page_token=page.token)
    assert [runs.index(run.info.run_id) for run in rest] == [5, 4, 3, 2, 1, 0]


def test_views(client, experiment, runs):
    client.delete_run(runs[0])
    found = {view: len(client.search_runs([experiment], run_view_type=view)) for view in (ViewType.ACTIVE_ONLY, ViewType.DELETED_ONLY, ViewType.ALL)}
    assert found == {ViewType.ACTIVE_ONLY: 9, ViewType.DELETED_ONLY: 1, ViewType.ALL: 10}


def test_several_experiments(client, experiment, name, runs):
    other = client.create_experiment(name + "-other")
    newest = client.create_run(other, start_time=1_005).info.run_id
    found = [run.info.run_id for run in client.search_runs([experiment, other])]
    assert len(found) == 11 and found[4:6] in ([newest, runs[5]], [runs[5], newest])
    assert client.search_runs([]) == [] and client.search_runs(["999999"]) == []


def test_filters_that_cannot_be_read(run, experiment, refused):
    for text in [
        "metricz.m > 1", "metrics.m > 'x'", "metrics.m LIKE 'x'", "params.x > 1", "params.x = 1", "foo = 'x'", "metrics.m >", "a = 'b' OR c = 'd'",
        "status > 'A'", "'x'", "tags.x = 'unclosed", "start_time LIKE 'x'", "dataset.size = 'x'",
    ]:
        refused("POST", "/runs/search", {"experiment_ids": [experiment], "filter": text})
    message = refused("POST", "/runs/search", {"experiment_ids": [experiment], "filter": "metricz.m > 1"})
    assert message.startswith("Invalid entity type 'metricz'. Valid values are ['metric', 'parameter', 'tag'")
    for order in ["metrics.m UP", "", "foo", "metricz.m"]:
        refused("POST", "/runs/search", {"experiment_ids": [experiment], "order_by": [order]})
    for size in [0, -1, 50_001]:
        refused("POST", "/runs/search", {"experiment_ids": [experiment], "max_results": size})
    refused("POST", "/runs/search", {"experiment_ids": [experiment], "page_token": "nonsense"})


@pytest.mark.tracker
def test_what_the_other_server_passes_over_is_refused(client, experiment, runs, refused):
    refused("POST", "/runs/search", {"experiment_ids": [experiment], "run_view_type": "SOME"})
    refused("POST", "/runs/search", {"experiment_ids": [experiment], "filter": "metrics.m = 1 metrics.n = 2"})


def test_experiments_are_searched(client, name):
    ids = [client.create_experiment(f"{name}-{nth}", tags={"nth": str(nth)}) for nth in range(5)]
    client.delete_experiment(ids[4])

    def find(filter, **more):
        return [ids.index(found.experiment_id) for found in client.search_experiments(filter_string=filter, **more)]

    like = f"name LIKE '{name}-%'"
    assert find(like) == [3, 2, 1, 0]
    assert find(like, order_by=["name ASC"]) == [0, 1, 2, 3]
    assert find(like, view_type=ViewType.DELETED_ONLY) == [4]
    assert find(like, view_type=ViewType.ALL, order_by=["name"]) == [0, 1, 2, 3, 4]
    assert find(f"name = '{name}-2'") == [2]
    assert find(f"name ILIKE '{name.upper()}-%' AND tags.nth = '1'") == [1]
    assert find(f"{like} AND tag.nth != '1'", order_by=["name"]) == [0, 2, 3]
    page = client.search_experiments(filter_string=like, max_results=3)
    assert len(page) == 3 and [found.experiment_id for found in client.search_experiments(filter_string=like, page_token=page.token)] == [ids[0]]
    with pytest.raises(MlflowException):
        client.search_experiments(filter_string="foo = 'x'")
