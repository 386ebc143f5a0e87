"""Train by a Config: build the run folder, data, module and Trainer, and run them."""

from __future__ import annotations

import json
import logging
import math
import os
import shlex
import signal
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy

from hear_ssl.checkpoint import find_checkpoint
from hear_ssl.data.stream.batch_stream import check_ranks
from hear_ssl.distributed.batch_norm import normalise_over_ranks
from hear_ssl.files import atomic_write
from hear_ssl.machine import lacks_to_compile, started_by_srun
from hear_ssl.model.encoders.vit import Attention
from hear_ssl.objectives.weighted_sum import term_weights
from hear_ssl.progress import report, warn
from hear_ssl.training.batch_datamodule import BatchDataModule, process_rank
from hear_ssl.training.callbacks import Progress, StopCleanly, resume_line
from hear_ssl.training.checkpoints import CheckpointFile, SaveCheckpoints
from hear_ssl.training.dataset_datamodule import DatasetDataModule, check_given
from hear_ssl.training.environment import environment
from hear_ssl.training.initial_model import InitialModel, initial_model
from hear_ssl.training.module import PretrainingModule
from hear_ssl.training.places import whole_paths, without_credentials
from hear_ssl.training.profiler import ProfileSteps
from hear_ssl.training.resume import KeepConfig, check_state, resume_checkpoint
from hear_ssl.training.run_folder import check_new, held_run_folder
from hear_ssl.training.run_state import RecordState, record_end, recorded_state
from hear_ssl.training.settings import Config, TrainerConfig
from hear_ssl.training.speed import Choices, Machine, choose, cpu_bfloat16, keep_memory, usable_cores
from hear_ssl.training.start_checks import (
    check_folders,
    check_shared_memory,
    cluster_plugins,
    machine_failure,
    repeated_clips,
    unlicensed,
)
from hear_ssl.training.stream_datamodule import data_module
from hear_ssl.training.throughput import Throughput, audio_seconds, count_operations, peak_of
from hear_ssl.training.wandb_record import RepeatEarlierRows, build_logger, finish_record

PROGRESS = (
    "below, rank: effective rank of the embeddings, near 1 when they collapse; MFU: share of the processor's peak speed; data wait, logging"
    " and checkpoint: shares of the time"
)


def fit(config: Config, resume: bool, resumed_file: Path | None = None, dataset: Any = None) -> int:
    """Train by a config and return the exit status: 0 when done, 128 + signal number when stopped; see `fit_run`."""
    _, stopped_by = fit_run(config, resume, resumed_file, dataset=dataset)
    return 128 + stopped_by if stopped_by else 0


def fit_run(
    config: Config, resume: bool, resumed_file: Path | None = None, own_process: bool = True, dataset: Any = None
) -> tuple[Path, int]:
    """Train by a config and return the run folder and the number of the signal that stopped the run, 0 for none.

    A resumed run starts from `resumed_file`, by default from its last checkpoint. own_process: see StopCleanly. dataset: a map-style
    torch dataset or a Hugging Face dataset to train on instead of data.shards, also to be given when the run resumes.
    Raises ValueError for mistakes in data, checkpoint or folder, OSError when the disk is full.
    """
    config, ranks = whole_paths(config), processes(config.trainer)
    check_ranks(config.data.batch_size, math.prod(ranks))
    term_weights(config.objective)  # raises for a config without an objective, before anything is opened
    checkpoint, saved = resume_checkpoint(Path(config.run), config, resumed_file) if resume else (None, {})
    if config.probe.every and process_rank() == 0:
        from hear_ssl.training.online_probe import check_probe  # loads scikit-learn

        with tempfile.TemporaryDirectory() as spare:  # the run folder does not exist yet
            check_probe(config.probe, config.frontend.sample_rate, config.seed, Path(config.run or spare))
    check_shared_memory(config.data, config.frontend.sample_rate, math.prod(ranks), ranks[0])
    check_folders(config)
    cluster_plugins(*ranks)  # raises when SLURM's variables contradict the config, before a run folder exists
    check_given(dataset, saved)
    source = config.data, config.frontend.sample_rate, config.seed
    data: BatchDataModule = data_module(*source) if dataset is None else DatasetDataModule(*source, dataset)
    choices = choose(config, machine(config.trainer))
    initial = initial_model(config) if config.init and not resume else None
    with held_run_folder(config) as run:
        if not resume:
            start_run_folder(run, choices)
        with recorded_state(run, resume) as record:
            stop = StopCleanly(own_process)
            return run, record_end(record, train(replace(config, run=str(run)), data, choices, checkpoint, saved, stop, record, initial))


def train(
    config: Config,
    data: BatchDataModule,
    choices: Choices,
    checkpoint: Path | None,
    saved: dict[str, Any],
    stop: StopCleanly,
    record: RecordState,
    initial: InitialModel | None = None,
) -> int:
    """Train in a locked run folder, from the checkpoint `saved` that was read from the file `checkpoint`, or from `initial`.

    Return the number of the signal that stopped the run before its last step, 0 for none.
    """
    run = Path(config.run)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    pl.seed_everything(config.seed, verbose=False)
    config = without_credentials(config)  # everything that is stored comes from this config
    module = new_module(config, data, checkpoint, saved, initial)
    apply_counted(config, choices, module)
    trainer = build_trainer(config, run, stop, data, choices.precision, checkpoint, [record])
    if trainer.world_size == 1:  # with several ranks, one rank alone cannot skip a step
        data.stopping = stop.requested
    if trainer.is_global_zero:
        announce(config, run, data, choices, module.views.notes())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")
        try:
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:  # what Lightning makes of Ctrl-C, and of KeyboardInterrupt by a second signal
            if stop.at_once and stop.signal != signal.SIGINT:
                warn(f"ended at once by a second signal, not saved; resume with: hear-ssl fit --resume {shlex.quote(str(run))}")
                return stop.signal or 0
            raise KeyboardInterrupt from None
        except RuntimeError as error:
            raise machine_failure(error) or error from None
        finally:
            stop.second.close()
            finish_record()
    losses = data.unreadable.everywhere()
    if trainer.is_global_zero:
        shards = f", in shards: {losses.summary()}" if losses.lost else ""
        report(f"clips read {losses.clips_read}, unreadable {losses.lost.total()}{shards}")
        finished = trainer.global_step >= config.trainer.steps
        report(f"done: {find_checkpoint(run)}" if finished else resume_line(run, stop))
    return stop.signal if stop.signal and trainer.global_step < config.trainer.steps else 0


def new_module(
    config: Config, data: BatchDataModule, checkpoint: Path | None, saved: dict[str, Any], initial: InitialModel | None
) -> PretrainingModule:
    """Return the module to train; the content of `saved` is checked and freed. Raises ValueError when it or `initial` does not fit."""
    module = PretrainingModule(config, data.data_card())
    if initial:
        module.start_from(initial)
        if process_rank() == 0:
            report(f"starts from the encoder of {initial.name}")
    if checkpoint:
        module.initial = saved.get("initial") or {}
        check_state(checkpoint, saved, module)
        data.check_kind(saved)
        saved.clear()
    if config.trainer.sync_batch_norm:
        normalise_over_ranks(module)
    return module


def announce(config: Config, run: Path, data: BatchDataModule, choices: Choices, notes: list[str]) -> None:
    """Report a run's folder and length, objective and encoder, choices for speed, notes on views, and warnings about data."""
    terms = ", ".join(f"{weight:g} * {name}" for name, weight in term_weights(config.objective).items())
    report(f"run folder {run}: {config.trainer.steps} steps of {config.data.batch_size} clips; {data.pass_line()}")
    report(f"objective {terms}; encoder {config.encoder.name}")
    for line in (choices.line(config.performance), *notes, PROGRESS):
        report(line)
    sounds = data.different_sounds()
    repeated = repeated_clips(config.data, sounds) if sounds else []
    for line in (*repeated, *unlicensed(data.data_card())):
        warn(line)


def start_run_folder(run: Path, choices: Choices) -> None:
    """Write the environment into the run folder.

    Raises ValueError when it contains a run already; a run that ended before its first checkpoint is restarted.
    """
    if process_rank() == 0:
        check_new(run)
        atomic_write(run / "environment.json", json.dumps({**environment(), "performance": choices.record()}, indent=1))


def processes(options: TrainerConfig) -> tuple[int, int]:
    """Return the number of processes of a run on each machine, and of machines."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return options.devices, options.nodes
    devices = int(os.environ["LOCAL_WORLD_SIZE"])  # torchrun has decided already
    return devices, int(os.environ["WORLD_SIZE"]) // devices


def machine(options: TrainerConfig) -> Machine:
    """Return the properties of this machine for each process of a run. Raises ValueError when it has fewer GPUs than configured."""
    (devices, _), gpus = processes(options), torch.cuda.device_count()
    divided = started_by_srun(math.prod(processes(options)))
    cores = usable_cores() if divided else max(1, usable_cores() // devices)
    if options.accelerator == "cpu" or (options.accelerator == "auto" and not gpus):
        return Machine("cpu", cores, cpu_bfloat16(), lacks_to_compile(gpu=False))
    if devices > gpus:
        raise ValueError(f"trainer.devices is {devices}, torch finds {gpus} GPUs here; give that many, or trainer.accelerator=cpu")
    fast = torch.cuda.get_device_capability() >= (8, 0)
    return Machine("gpu", cores, torch.cuda.get_device_name() if fast else "", lacks_to_compile(gpu=True))


def apply(choices: Choices, module: PretrainingModule) -> None:
    """Apply the choices to process and module; the Trainer applies the precision."""
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


def apply_counted(config: Config, choices: Choices, module: PretrainingModule) -> None:
    """Apply the choices; in the reporting process, count a step's operations before compilation, and measure the peak."""
    if process_rank():
        return apply(choices, module)
    operations = count_operations(module, config.data.batch_size // math.prod(processes(config.trainer)))
    apply(choices, module)
    device = torch.device("cuda" if machine(config.trainer).device == "gpu" else "cpu")
    module.rates = Throughput(operations, peak_of(device, choices.precision), audio_seconds(config)).columns


def build_trainer(
    config: Config,
    run: Path,
    stop: StopCleanly,
    data: BatchDataModule,
    precision: str,
    resumed: Path | None = None,
    callbacks: Sequence[pl.Callback] = (),
) -> pl.Trainer:
    """Return the Trainer, with steps as its unit and our callbacks for checkpoints, progress and stop; it resumes from file `resumed`."""
    options = config.trainer
    progress = Progress(run, options.log_every, data, options.collapse_rank)
    probe: list[pl.Callback] = []
    if config.probe.every:
        from hear_ssl.training.online_probe import OnlineProbe  # loads scikit-learn

        probe = [OnlineProbe(run, config.probe, config.seed, progress, stop)]
    timing = [ProfileSteps(run)] if config.profile else []
    devices, nodes = processes(options)
    logger = build_logger(config, run)
    record = [RepeatEarlierRows(run)] if logger else []
    saving = SaveCheckpoints(run, options.checkpoint_every, options.keep_checkpoints, options.keep_every)
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
        logger=logger,
        callbacks=[stop, progress, saving, KeepConfig(run, config, resumed), *callbacks, *record, *probe, *timing],
        plugins=[CheckpointFile(), *cluster_plugins(devices, nodes)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=str(run),
    )
