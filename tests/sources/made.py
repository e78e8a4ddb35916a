"""The sweep of `bowl.py`, logged by the real libraries; each function returns what to read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.sources.bowl import RATES, STEPS, WIDTHS, Bowl

Make = Callable[[Path, list[Bowl]], Path]


def _optuna(storage: Any, runs: Iterable[Bowl]) -> None:
    optuna: Any = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=storage, study_name="bowl")
    for run in runs:
        study.enqueue_trial({"width": run.width, "lr": run.lr})

    def objective(trial: Any) -> float:
        width = trial.suggest_categorical("width", WIDTHS)
        run = Bowl(width, trial.suggest_float("lr", RATES[-1], RATES[0], log=True))
        for step in STEPS:
            trial.report(run.loss(step), step)
        trial.set_user_attr("seed", 0)
        return run.loss()

    study.optimize(objective, n_trials=len(list(runs)))


def optuna_sqlite(folder: Path, runs: list[Bowl]) -> Path:
    """A study in a database."""
    _optuna(f"sqlite:///{folder / 'study.db'}", runs)
    return folder / "study.db"


def optuna_journal(folder: Path, runs: list[Bowl]) -> Path:
    """A study in a journal file."""
    pytest.importorskip("optuna")
    journal: Any = pytest.importorskip("optuna.storages.journal")
    storages: Any = pytest.importorskip("optuna.storages")
    backend = journal.JournalFileBackend(str(folder / "journal.log"))
    _optuna(storages.JournalStorage(backend), runs)
    return folder / "journal.log"


def _mlflow(uri: str, runs: Iterable[Bowl]) -> None:
    mlflow: Any = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("bowl")
    for run in runs:
        with mlflow.start_run(run_name=run.name):
            mlflow.log_params({"width": run.width, "lr": run.lr})
            for step in STEPS:
                mlflow.log_metric("val_loss", run.loss(step), step=step)


def mlflow_sqlite(folder: Path, runs: list[Bowl]) -> Path:
    """Runs in a database."""
    _mlflow(f"sqlite:///{folder / 'mlflow.db'}", runs)
    return folder / "mlflow.db"


def mlflow_folder(folder: Path, runs: list[Bowl]) -> Path:
    """Runs in a file store, which MLflow keeps for those who ask for it."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    _mlflow((folder / "mlruns").as_uri(), runs)
    return folder / "mlruns"


def ray_tune(folder: Path, runs: list[Bowl]) -> Path:
    """An experiment whose trials report three times."""
    ray: Any = pytest.importorskip("ray")
    tune: Any = pytest.importorskip("ray.tune")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)

    def trial(config: dict[str, Any]) -> None:
        for step in config["losses"]:
            tune.report({"val_loss": config["losses"][step], "step": int(step)})

    settings = [
        {
            "width": run.width,
            "optim": {"lr": run.lr},
            "losses": {str(step): run.loss(step) for step in STEPS},
        }
        for run in runs
    ]
    configured = tune.RunConfig(storage_path=str(folder), name="bowl", verbose=0)
    space = tune.grid_search(settings)

    def chosen(config: dict[str, Any]) -> None:
        trial(config["run"])

    options = tune.TuneConfig(reuse_actors=True)
    tune.Tuner(chosen, param_space={"run": space}, run_config=configured, tune_config=options).fit()
    ray.shutdown()
    return folder / "bowl"


def tensorboard_hparams(folder: Path, runs: list[Bowl]) -> Path:
    """Event files of torch, with hyperparameters."""
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    for run in runs:
        with SummaryWriter(str(folder / run.name)) as writer:  # type: ignore[no-untyped-call]
            for step in STEPS:
                writer.add_scalar("val_loss", run.loss(step), step)  # type: ignore[no-untyped-call]
            values = {"width": run.width, "lr": run.lr, "optimizer": "adam"}
            writer.add_hparams(values, {"final_loss": run.loss()}, run_name="hparams")  # type: ignore[no-untyped-call]
    return folder


def tensorboard_names(folder: Path, runs: list[Bowl]) -> Path:
    """Event files in folders whose names hold the values."""
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    for run in runs:
        name = f"width{run.width}_lr{run.lr}"
        with SummaryWriter(str(folder / name)) as writer:  # type: ignore[no-untyped-call]
            for step in STEPS:
                writer.add_scalar("val_loss", run.loss(step), step)  # type: ignore[no-untyped-call]
    return folder


def lightning(folder: Path, runs: list[Bowl]) -> Path:
    """Lightning's Trainer with a CSVLogger; the module logs the losses of the bowl."""
    outer: Any = pytest.importorskip("lightning")
    loggers: Any = pytest.importorskip("lightning.pytorch.loggers")
    import torch

    class Module(outer.LightningModule):  # type: ignore[misc]
        def __init__(self, width: int, lr: float) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer, self.run = torch.nn.Linear(1, 1), Bowl(width, lr)

        def training_step(self, batch: Any, _: int) -> Any:
            self.log("train_loss", self.run.loss(self._now()) - 0.1)
            return self.layer(batch[0]).square().mean()

        def validation_step(self, _: Any, __: int) -> None:
            self.log("val_loss", self.run.loss(self._now()))

        def _now(self) -> int:
            return STEPS[min(self.current_epoch, len(STEPS) - 1)]

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(2, 1)))
    for run in runs:
        trainer = outer.Trainer(
            max_epochs=len(STEPS),
            logger=loggers.CSVLogger(str(folder), name="bowl"),
            log_every_n_steps=1,
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(Module(run.width, run.lr), data, data)
    return folder / "bowl"


def trainer_state(folder: Path, runs: list[Bowl]) -> Path:
    """Checkpoints of transformers' Trainer, in folders whose names hold the values."""
    transformers: Any = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    import torch

    class Model(torch.nn.Module):
        def __init__(self, run: Bowl) -> None:
            super().__init__()
            self.weight, self.run, self.calls = torch.nn.Parameter(torch.ones(1)), run, 0

        def forward(self, x: torch.Tensor, labels: Any = None) -> dict[str, torch.Tensor]:
            if not self.training:
                self.calls += 1
            step = STEPS[max(0, min(self.calls, len(STEPS)) - 1)]
            return {"loss": self.weight.sum() * 0 + self.run.loss(step), "logits": x}

    data = [{"x": torch.ones(1), "labels": torch.ones(1)}] * 2
    for run in runs:
        options = transformers.TrainingArguments(
            output_dir=str(folder / f"width{run.width}_lr{run.lr}"),
            learning_rate=run.lr,
            num_train_epochs=len(STEPS),
            per_device_train_batch_size=2,
            per_device_eval_batch_size=2,
            logging_steps=1,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=2,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        transformers.Trainer(Model(run), options, train_dataset=data, eval_dataset=data).train()
    return folder


def wandb(folder: Path, runs: list[Bowl]) -> Path:
    """Runs that were never online."""
    module: Any = pytest.importorskip("wandb")
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    for run in runs:
        config = {"width": run.width, "optim": {"lr": run.lr}}
        logged = module.init(project="bowl", name=run.name, dir=str(folder), config=config)
        for step in STEPS:
            logged.log({"val_loss": run.loss(step)}, step=step)
        logged.finish()
    return folder / "wandb"


def trackio(folder: Path, runs: list[Bowl]) -> Path:
    """A project whose runs log their final loss; it is a process of its own, for its settings."""
    pytest.importorskip("trackio")
    program = """
import json, sys, trackio
for name, config, losses in json.loads(sys.argv[1]):
    trackio.init(project="bowl", name=name, config=config)
    for step, loss in losses.items():
        trackio.log({"val_loss": loss}, step=int(step))
    trackio.finish()
"""
    logged = [
        (run.name, {"width": run.width, "optim": {"lr": run.lr}}, {STEPS[-1]: run.loss()})
        for run in runs
    ]
    environment = os.environ | {"TRACKIO_DIR": str(folder), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", program, json.dumps(logged)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return folder / "bowl.db"


def hydra(folder: Path, runs: list[Bowl]) -> Path:
    """A multirun of a program that writes `metrics.json` into the folder of its job."""
    pytest.importorskip("hydra")
    (folder / "main.py").write_text(
        "import json, sys\n"
        "from pathlib import Path\n"
        "import hydra\n"
        "from hydra.core.hydra_config import HydraConfig\n"
        "from tests.sources.bowl import Bowl\n"
        "@hydra.main(version_base=None, config_path='.', config_name='config')\n"
        "def main(config):\n"
        "    run = Bowl(config.model.width, config.optim.lr)\n"
        "    folder = Path(HydraConfig.get().runtime.output_dir)\n"
        "    (folder / 'metrics.json').write_text(json.dumps({'val_loss': run.loss()}))\n"
        "main()\n"
    )
    (folder / "config.yaml").write_text("model: {width: 64}\noptim: {lr: 0.1}\nseed: 0\n")
    widths = sorted({run.width for run in runs})
    rates = sorted({run.lr for run in runs})
    grid = [f"model.width={','.join(map(str, widths))}", f"optim.lr={','.join(map(str, rates))}"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "main.py", "--multirun", *grid]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return folder / "multirun"


def excel(folder: Path, runs: list[Bowl]) -> Path:
    """A workbook by openpyxl."""
    pytest.importorskip("openpyxl")
    import pandas as pd

    rows = [{"width": run.width, "lr": run.lr, "val_loss": run.loss()} for run in runs]
    pd.DataFrame(rows).to_excel(folder / "runs.xlsx", index=False)
    return folder / "runs.xlsx"


def parquet(folder: Path, runs: list[Bowl]) -> Path:
    """A table with a struct of settings by pyarrow."""
    pytest.importorskip("pyarrow")
    import pandas as pd

    rows = [{"config": {"width": run.width, "lr": run.lr}, "val_loss": run.loss()} for run in runs]
    pd.DataFrame(rows).to_parquet(folder / "runs.parquet")
    return folder / "runs.parquet"


MADE: dict[str, Make] = {
    make.__name__: make
    for make in (
        optuna_sqlite,
        optuna_journal,
        mlflow_sqlite,
        mlflow_folder,
        ray_tune,
        tensorboard_hparams,
        tensorboard_names,
        lightning,
        trainer_state,
        wandb,
        trackio,
        hydra,
        excel,
        parquet,
    )
}
BY_NAME = ("tensorboard_names", "trainer_state")  # folders whose names hold the values
