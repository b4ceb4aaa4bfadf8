"""What training libraries do with the client, call by call, since they need torch to be installed: Hugging Face's `MLflowCallback` (and TRL,
which is that), Lightning's `MLFlowLogger`, Accelerate's `MLflowTracker`, verl's tracking."""

import time

import mlflow
from mlflow.entities import Metric, Param, RunTag

ARGS = {f"arg_{nth}": nth for nth in range(250)}


def slices(items, n=100):
    items = list(items)
    return [items[at : at + n] for at in range(0, len(items), n)]


def test_hugging_face(client, name):
    mlflow.set_experiment(name)
    mlflow.start_run(run_name="trainer", nested=False)
    for part in slices(ARGS.items()):
        mlflow.log_params(dict(part), synchronous=False)
    mlflow.set_tags({"framework": "transformers"})
    for step in range(50):
        mlflow.log_metrics({"loss": 1 / (step + 1), "grad_norm": 0.5, "epoch": step / 10}, step=step, synchronous=False)
    run = mlflow.active_run().info.run_id
    mlflow.flush_async_logging()
    mlflow.end_run()
    seen = client.get_run(run)
    assert len(seen.data.params) == 250 and seen.data.tags["framework"] == "transformers"
    assert [point.step for point in client.get_metric_history(run, "loss")] == list(range(50))
    assert seen.info.status == "FINISHED"


def test_lightning(client, name, tmp_path):
    assert client.get_experiment_by_name(name) is None
    experiment = client.create_experiment(name=name, artifact_location=None)
    run = client.create_run(experiment_id=experiment, tags={"mlflow.runName": "lightning"}).info.run_id
    for part in slices(ARGS.items()):
        client.log_batch(run_id=run, params=[Param(key=key, value=str(value)) for key, value in part])
    now = int(time.time() * 1000)
    for step in range(20):
        client.log_batch(run_id=run, metrics=[Metric(key="train_loss", value=0.1 * step, timestamp=now, step=step)])
    checkpoint = tmp_path / "epoch=1-step=20.ckpt"
    checkpoint.write_bytes(b"\0" * 100_000)
    client.log_artifact(run, str(checkpoint), "model/checkpoints/epoch=1-step=20")
    client.log_artifacts(run, str(tmp_path), "model/checkpoints/all")
    client.set_terminated(run, "FINISHED")
    assert client.get_run(run).data.metrics["train_loss"] == 0.1 * 19
    assert [file.path for file in client.list_artifacts(run, "model/checkpoints/all")] == [
        "model/checkpoints/all/epoch=1-step=20.ckpt"
    ]


def test_accelerate(client, name):
    found = mlflow.search_experiments(filter_string=f"name = '{name}'")
    assert len(found) == 0
    experiment = mlflow.create_experiment(name=name, artifact_location=None, tags={"by": "accelerate"})
    active = mlflow.start_run(experiment_id=experiment, run_name="tracker", nested=False, tags={"a": "b"}, description="told")
    for part in slices(ARGS.items()):
        mlflow.log_params(dict(part))
    mlflow.log_metrics({"accuracy": 0.5, "loss": 1.5}, step=3)
    mlflow.end_run()
    seen = client.get_run(active.info.run_id)
    assert seen.data.tags["mlflow.note.content"] == "told" and seen.data.metrics == {"accuracy": 0.5, "loss": 1.5}


def test_verl(client, name, tmp_path):
    mlflow.set_experiment(name)
    with mlflow.start_run(run_name="ppo") as active:
        mlflow.log_params({"trainer/n_gpus": 8, "actor/lr": 1e-6})
        for step in range(5):
            mlflow.log_metrics({"critic/rewards/mean": step, "timing_s/gen": 0.1}, step=step)
        table = tmp_path / "generations.json"
        table.write_text("[]")
        mlflow.log_artifact(str(table))
    assert client.get_run(active.info.run_id).data.metrics["critic/rewards/mean"] == 4
    assert [file.path for file in client.list_artifacts(active.info.run_id)] == ["generations.json"]


def test_a_batch_is_whole_or_not_at_all_for_every_caller(client, run):
    client.log_batch(run, params=[Param("lr", "0.1")], tags=[RunTag("t", "1")])
    try:
        client.log_batch(run, metrics=[Metric("m", 1.0, 0, 0)], params=[Param("lr", "0.2")])
        raise AssertionError("a changed param was taken")
    except mlflow.exceptions.MlflowException as error:
        assert error.error_code == "INVALID_PARAMETER_VALUE"
    assert client.get_run(run).data.params == {"lr": "0.1"}
