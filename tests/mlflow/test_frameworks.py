"""Real training by Transformers, Lightning and Accelerate, whose own loggers write to the server. They need torch, which takes gigabytes: where
it is not installed these are skipped, and `test_callers.py` makes the same calls.

    pip install torch accelerate lightning transformers
"""

import mlflow
import pytest

torch = pytest.importorskip("torch", reason="pip install torch accelerate lightning transformers")

from conftest import URI  # noqa: E402


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", URI)
    monkeypatch.chdir(tmp_path)


def test_accelerate(client, name, tmp_path):
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(log_with="mlflow", project_dir=str(tmp_path))
    config = {f"arg_{nth}": nth for nth in range(150)}
    accelerator.init_trackers(name, config=config, init_kwargs={"mlflow": {"run_name": "accelerated"}})
    run = mlflow.active_run().info.run_id
    for step in range(20):
        accelerator.log({"loss": 1 / (step + 1)}, step=step)
    accelerator.end_training()
    seen = client.get_run(run)
    assert seen.info.status == "FINISHED" and len(seen.data.params) == 150
    assert [point.step for point in client.get_metric_history(run, "loss")] == list(range(20))


def test_lightning(client, name, tmp_path):
    lightning = pytest.importorskip("lightning")
    from lightning.pytorch.loggers import MLFlowLogger

    class Line(lightning.LightningModule):
        def __init__(self, dim=4, lr=0.1):
            super().__init__()
            self.save_hyperparameters()
            self.line = torch.nn.Linear(dim, 1)

        def training_step(self, batch, _):
            loss = (self.line(batch[0]) ** 2).mean()
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), self.hparams.lr)

    logger = MLFlowLogger(experiment_name=name, tracking_uri=URI, log_model=True)
    trainer = lightning.Trainer(
        max_epochs=3,
        logger=logger,
        log_every_n_steps=1,
        accelerator="cpu",
        enable_progress_bar=False,
        default_root_dir=str(tmp_path),
    )
    data = torch.utils.data.TensorDataset(torch.randn(64, 4))
    trainer.fit(Line(), torch.utils.data.DataLoader(data, batch_size=8))
    seen = client.get_run(logger.run_id)
    assert seen.info.status == "FINISHED" and seen.data.params == {"dim": "4", "lr": "0.1"}
    assert len(client.get_metric_history(logger.run_id, "train_loss")) == 24
    files = [file.path for file in client.list_artifacts(logger.run_id, "epoch=2-step=24")]
    assert "epoch=2-step=24/epoch=2-step=24.ckpt" in files


def test_transformers(client, name, tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    monkeypatch.setenv("HF_MLFLOW_LOG_ARTIFACTS", "1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=64, **shape))
    data = [{"input_ids": torch.randint(0, 64, (8,)), "labels": torch.randint(0, 64, (8,))} for _ in range(32)]
    args = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"),
        run_name="tiny",
        max_steps=10,
        logging_steps=1,
        save_steps=5,
        per_device_train_batch_size=4,
        report_to=["mlflow"],
        use_cpu=True,
    )
    transformers.Trainer(model=model, args=args, train_dataset=data).train()
    experiment = client.get_experiment_by_name(name).experiment_id
    [run] = client.search_runs([experiment])
    assert run.info.status == "FINISHED" and run.info.run_name == "tiny" and len(run.data.params) > 100
    assert [point.step for point in client.get_metric_history(run.info.run_id, "loss")] == list(range(1, 11))
    models = {logged.name: logged for logged in client.search_logged_models([experiment])}
    assert set(models) == {"checkpoint-5", "checkpoint-10"}
    assert all(logged.status == "READY" and logged.source_run_id == run.info.run_id for logged in models.values())
