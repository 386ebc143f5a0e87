"""From a Config to a finished run: folder, data, module and Trainer put together."""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import subprocess
import sys
import uuid
import warnings
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.strategies import DDPStrategy

from hear_ssl.addresses import redacted, redacted_arguments, redacted_text
from hear_ssl.checkpoint import find_checkpoint
from hear_ssl.data.stream.batch_stream import check_ranks
from hear_ssl.distributed.batch_norm import normalise_over_ranks
from hear_ssl.files import atomic_write
from hear_ssl.model.encoders.vit import Attention
from hear_ssl.model.options import to_mapping
from hear_ssl.objectives.weighted_sum import term_weights
from hear_ssl.training.callbacks import Progress, SaveCheckpoints, StopCleanly, resume_line
from hear_ssl.training.datamodule import ShardDataModule, process_rank
from hear_ssl.training.module import PretrainingModule
from hear_ssl.training.online_probe import OnlineProbe, check_probe
from hear_ssl.training.profiler import ProfileSteps
from hear_ssl.training.resume import KeepConfig, check_state, resume_checkpoint
from hear_ssl.training.settings import Config, TrainerConfig
from hear_ssl.training.speed import Choices, Machine, choose, cpu_bfloat16, keep_memory, usable_cores


def fit(config: Config, resume: bool) -> int:
    """Train as the config says and return the exit status: 0 when done, 128 + signal number when stopped.

    Raises ValueError for data, checkpoint or folder mistakes, OSError when the disk is full.
    """
    run = Path(config.run)
    check_ranks(config.data.batch_size, math.prod(processes(config.trainer)))
    weights = term_weights(config.objective)  # refuses a config without an objective before anything is opened
    checkpoint, saved = resume_checkpoint(run, config) if resume else (None, {})
    if config.probe.every and process_rank() == 0:
        check_probe(config.probe, config.frontend.sample_rate, config.seed)
    data = ShardDataModule(config.data, config.frontend.sample_rate, config.seed)
    choices = choose(config, machine(config.trainer))
    if not resume:
        start_run_folder(run, choices)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    pl.seed_everything(config.seed, verbose=False)
    config = without_credentials(config)  # all that is stored follows from this one
    module = PretrainingModule(config, data.data_card())
    if checkpoint:
        check_state(checkpoint, saved, module)
        saved.clear()
    if config.trainer.sync_batch_norm:
        normalise_over_ranks(module)
    apply(choices, module)
    stop = StopCleanly()
    trainer = build_trainer(config, run, stop, data, choices.precision)
    if trainer.is_global_zero:
        print(f"run folder {run}: {config.trainer.steps} steps of {config.data.batch_size} clips; {data.pass_line()}", flush=True)
        terms = ", ".join(f"{weight:g} * {name}" for name, weight in weights.items())
        print(f"objective {terms}; encoder {config.encoder.name}", flush=True)
        print(choices.line(config.performance), flush=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        try:
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from None
    losses = data.unreadable.everywhere()
    if trainer.is_global_zero:
        print(f"clips read {losses.clips_read}, lost {losses.lost.total()}: {losses.summary()}", flush=True)
        finished = trainer.global_step >= config.trainer.steps
        print(f"done: {find_checkpoint(run)}" if finished else resume_line(run, stop), flush=True)
    return 128 + stop.signal if stop.signal and trainer.global_step < config.trainer.steps else 0


def without_credentials(config: Config) -> Config:
    """Return the config as it is stored: no address in it has a user, a password or a signature."""
    data = replace(config.data, shards=[redacted(entry) for entry in config.data.shards], cache=redacted_text(config.data.cache))
    return replace(config, data=data, name=redacted_text(config.name), run=redacted_text(config.run), output=redacted_text(config.output))


def start_run_folder(run: Path, choices: Choices) -> None:
    """Make the run folder with the environment.

    Raises ValueError when it holds a run already; one that ended before its first checkpoint is started anew.
    """
    if (run / "checkpoints" / "last.ckpt").exists() and process_rank() == 0:
        raise ValueError(f"{run} holds a run already; resume it with --resume {run}, or give another folder with run=FOLDER")
    if process_rank() == 0:
        atomic_write(run / "environment.json", json.dumps({**environment(), "performance": choices.record()}, indent=1))


def environment() -> dict[str, Any]:
    """Return versions, git revision and hardware, as recorded in the run folder."""
    packages = ("torch", "torchaudio", "pytorch-lightning", "webdataset", "wandb", "omegaconf", "numpy", "soundfile")
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=Path(__file__).parent)
    return {
        "command": redacted_arguments(sys.argv),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
        "git_revision": git.stdout.strip() or "unknown",
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }


def processes(options: TrainerConfig) -> tuple[int, int]:
    """Return the processes of a run on each machine, and its machines."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return options.devices, options.nodes
    devices = int(os.environ["LOCAL_WORLD_SIZE"])  # torchrun has decided already
    return devices, int(os.environ["WORLD_SIZE"]) // devices


def machine(options: TrainerConfig) -> Machine:
    """Return what this machine offers to each process of a run. Raises ValueError when it has fewer GPUs than are asked for."""
    (devices, _), gpus = processes(options), torch.cuda.device_count()
    cores = usable_cores() if "SLURM_PROCID" in os.environ else max(1, usable_cores() // devices)  # SLURM has divided them
    if options.accelerator == "cpu" or (options.accelerator == "auto" and not gpus):
        return Machine("cpu", cores, cpu_bfloat16())
    if devices > gpus:
        raise ValueError(f"trainer.devices is {devices}, torch finds {gpus} GPUs here; give that many, or trainer.accelerator=cpu")
    fast = torch.cuda.get_device_capability() >= (8, 0)
    return Machine("gpu", cores, torch.cuda.get_device_name() if fast else "")


def apply(choices: Choices, module: PretrainingModule) -> None:
    """Do to process and module what was chosen; precision is the Trainer's."""
    if choices.allocator:
        keep_memory()
    torch.set_num_threads(choices.threads)
    if choices.channels_last:
        module.to(memory_format=torch.channels_last)
    if not choices.explicit_attention:
        for part in module.modules():
            if isinstance(part, Attention):
                part.explicit_tokens = 0
    module.fused_optimizer = choices.fused_optimizer
    if choices.compile:
        module.compile_parts()


def build_trainer(config: Config, run: Path, stop: StopCleanly, data: ShardDataModule, precision: str) -> pl.Trainer:
    """Return the Trainer: steps as the unit, our own checkpoints, progress and stop."""
    options = config.trainer
    progress = Progress(run, options.log_every, data, options.collapse_rank)
    probe = [OnlineProbe(run, config.probe, config.seed, progress, stop)] if config.probe.every else []
    timing = [ProfileSteps(run)] if config.profile else []
    devices, nodes = processes(options)
    return pl.Trainer(
        accelerator=options.accelerator,
        devices=devices,
        num_nodes=nodes,
        # statistics over all ranks are equal on all of them already, and so is the memory of mixup
        strategy=DDPStrategy(broadcast_buffers=not options.sync_batch_norm) if devices * nodes > 1 else "auto",
        max_steps=options.steps,
        max_epochs=-1,
        precision="bf16-mixed" if precision == "bf16" else "32-true",
        use_distributed_sampler=False,
        logger=build_logger(config, run),
        callbacks=[stop, progress, SaveCheckpoints(run, options.checkpoint_every), KeepConfig(run, config), *probe, *timing],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(run),
    )


def build_logger(config: Config, run: Path) -> WandbLogger | bool:
    """Return the wandb logger into the run folder; offline needs no account. `disabled` leaves wandb out."""
    if config.wandb == "disabled" or process_rank():
        return False
    kept = run / "wandb_id"
    if not kept.is_file():
        atomic_write(kept, uuid.uuid4().hex[:8])
    try:
        record = wandb.init(
            project="hear_ssl",
            name=config.name,
            id=kept.read_text(),
            resume="allow",
            dir=str(run),
            mode="online" if config.wandb == "online" else "offline",
            config=to_mapping(config),
            # wandb's own record of the command line, the git remote and the environment may hold credentials; environment.json has ours
            settings=wandb.Settings(silent=True, x_disable_meta=True, disable_git=True, save_code=False),
        )
    except wandb.Error as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"wandb=online cannot start ({reason}); run `wandb login` first, or set wandb=offline") from None
    return WandbLogger(experiment=record)
