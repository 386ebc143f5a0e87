"""The Weights & Biases record of a run: stored offline in the run folder, or sent.

wandb appends only to online records. An offline record with the id of an earlier one would replace it when both are synced. Each
offline record therefore has a new id; the records of one run share a group, and each begins with the rows of the earlier ones.
"""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import wandb
from pytorch_lightning.loggers import WandbLogger

from hear_ssl.files import atomic_write
from hear_ssl.model.options import to_mapping
from hear_ssl.progress import warn
from hear_ssl.training.batch_datamodule import process_rank
from hear_ssl.training.callbacks import read_metrics
from hear_ssl.training.settings import Config

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
VARIABLES = {"project": "WANDB_PROJECT", "name": "WANDB_NAME", "dir": "WANDB_DIR", "group": "WANDB_RUN_GROUP", "resume": "WANDB_RESUME"}


def build_logger(config: Config, run: Path) -> WandbLogger | bool:
    """Return the wandb logger into the run folder; offline needs no account. `disabled` leaves wandb out.

    Settings in wandb's environment variables, such as project and entity, are respected.
    Raises ValueError when wandb cannot start.
    """
    if config.wandb == "disabled" or process_rank():
        return False
    record, group = record_id(run / "wandb_id", config.wandb)
    options: dict[str, Any] = {"project": "hear_ssl", "name": config.name, "dir": str(run), "group": group, "resume": "allow"}
    try:
        started = wandb.init(
            **{key: value for key, value in options.items() if value and not os.environ.get(VARIABLES[key])},
            id=record,
            mode="online" if config.wandb == "online" else "offline",
            config=to_mapping(config),
            # wandb's own record of the command line, the git remote and the environment may hold credentials; environment.json has ours
            settings=wandb.Settings(silent=True, x_disable_meta=True, disable_git=True, save_code=False),
        )
    except wandb.Error as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"wandb=online cannot start ({reason}); run `wandb login` first, or set wandb=offline") from None
    return WandbLogger(experiment=started)


def finish_record() -> None:
    """Write the rest of this process's record to disk, or send it."""
    if wandb.run is not None:
        wandb.run.finish()


def record_id(kept: Path, mode: str) -> tuple[str, str]:
    """Return the id of a run's record and the group of its records, '' if it is the only one; `kept` lists them with their modes.

    An online record resumes with its id; every other record gets a new id.
    """
    lines = kept.read_bytes().decode(errors="replace").split("\n") if kept.is_file() else []
    records = [[*line.split(), mode][:2] for line in lines if line.strip() and ID.fullmatch(line.split()[0])]
    if kept.is_file() and not records:
        warn(f"{kept} holds no id of a wandb record: this run begins a new record")
    if records and records[-1][1] == mode == "online":
        return records[-1][0], records[0][0] if len(records) > 1 else ""
    first = records[0][0] if records else os.environ.get("WANDB_RUN_ID") or uuid.uuid4().hex[:8]
    records.append([f"{first}-{len(records) + 1}" if records else first, mode])
    atomic_write(kept, "".join(f"{record} {mode_of}\n" for record, mode_of in records))
    return records[-1][0], first if len(records) > 1 or mode != "online" else ""


class RepeatEarlierRows(pl.Callback):
    """Write the rows of metrics.csv from before a resume to a new record, so that it contains the whole curve."""

    def __init__(self, run: Path) -> None:
        self.metrics = run / "metrics.csv"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the rows up to the step from which training resumes, unless the record is online and has them already."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger) and logger.experiment.step == 0]
        for row in read_metrics(self.metrics)[1] if loggers else ():
            step = int(row["step"])
            if step <= trainer.global_step:
                values = {name: float(value) for name, value in row.items() if value and name != "step"}
                for logger in loggers:
                    logger.log_metrics(values, step=step)
