"""What training libraries do with the client. Hugging Face's `MLflowCallback` (and TRL, which is that) is driven itself; Lightning's
`MLFlowLogger`, Accelerate's `MLflowTracker` and verl's tracking cannot be imported without torch, and are here call by call."""

import time
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
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


def test_hugging_face_callback(client, name, monkeypatch, tmp_path):
    """The callback as a `Trainer` calls it, with a checkpoint logged as a model."""
    integrations = pytest.importorskip("transformers.integrations", reason="pip install transformers pandas")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    monkeypatch.setenv("HF_MLFLOW_LOG_ARTIFACTS", "1")
    monkeypatch.setenv("MLFLOW_TAGS", '{"release.candidate": "RC1"}')
    checkpoint = tmp_path / "checkpoint-40"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_bytes(bytes(100_000))
    args = SimpleNamespace(
        run_name="sft", output_dir=str(tmp_path), to_dict=lambda: {**ARGS, "optim": "adamw", "too_long": "x" * 6001}
    )
    model = SimpleNamespace(config=SimpleNamespace(to_dict=lambda: {"hidden_size": 64, "architectures": ["A"]}))
    state = SimpleNamespace(is_world_process_zero=True, global_step=0)
    callback = integrations.MLflowCallback()
    callback.on_train_begin(args, state, None, model=model)
    run = mlflow.active_run().info.run_id
    for state.global_step in range(50):
        logs = {"loss": 1 / (1 + state.global_step), "rewards/chosen (mean)": 0.5, "learning_rate": 1e-5}
        callback.on_log(args, state, None, logs, model=model)
        if state.global_step == 40:
            callback.on_save(args, state, None)
    mlflow.flush_async_logging()
    callback.on_train_end(args, state, None)
    seen = client.get_run(run)
    assert seen.info.status == "FINISHED" and seen.info.run_name == "sft"
    assert seen.data.params["optim"] == "adamw" and seen.data.params["hidden_size"] == "64"
    assert len(seen.data.params) == len(ARGS) + 3 and seen.data.tags["release.candidate"] == "RC1"
    assert [point.step for point in client.get_metric_history(run, "loss")] == list(range(50))
    assert seen.data.metrics["rewards/chosen _mean_"] == 0.5
    [logged] = client.search_logged_models([seen.info.experiment_id])
    assert (logged.name, logged.source_run_id, logged.status) == ("checkpoint-40", run, "READY")
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{logged.model_id}"))
    [weights] = folder.rglob("model.safetensors")
    assert weights.read_bytes() == bytes(100_000) and (folder / "MLmodel").exists()


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
