"""Warnings and refusals before the first step: clips that repeat in a batch, licences, shared memory, SLURM without srun."""

from __future__ import annotations

import math
import os
from typing import Any

from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]

from hear_ssl.data.options import DataConfig
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.stream.workers import MORE_SHARED_MEMORY
from hear_ssl.machine import free_shared_memory, started_by_srun
from hear_ssl.packaging.licenses import described, known_license
from hear_ssl.training.places import view_folders
from hear_ssl.training.settings import Config
from hear_ssl.views.sound_folder import sound_files


def check_folders(config: Config) -> None:
    """Raise ValueError that names the key when a folder of an augmentation does not exist or has no audio file."""
    for number, place, key, folder in view_folders(config):
        try:
            sound_files(folder)
        except ValueError as error:
            name = config.views[number].augment[place].name
            raise ValueError(f"views.{number}.augment.{place}.{name}.{key}: {error}") from None


def repeated_clips(config: DataConfig, sounds: list[tuple[int, str]]) -> list[str]:
    """Return a warning for each part of a batch that is larger than its data; `sounds` are the counts for each entry of data.shards."""
    total = sum(config.weights)
    kinds = " and ".join(sorted({kind for _, kind in sounds}))
    parts = [("", float(config.batch_size), "the data", sum(count for count, _ in sounds), kinds)]
    if total:
        rows = [config.batch_size * weight / total for weight in config.weights]
        entries = zip(config.shards, rows, sounds, strict=True)
        parts = [(f", {row:g} of them from {entry}", row, entry, count, kind) for entry, row, (count, kind) in entries]
    return [
        f"warning: data.batch_size is {config.batch_size}{part}, but {where} holds {held} {kind}: a batch has sounds more than once, and"
        " objectives with negatives push their copies apart; lower data.batch_size or pack more audio"
        for part, row, where, held, kind in parts
        if row > held
    ]


def different_sounds(shards: ShardSet, config: DataConfig) -> list[tuple[int, str]]:
    """Return the number of different sounds in each entry of data.shards: its clips, or its pairs when the views are the two of a pair."""
    found, first = [], 0
    for source in shards.sources:
        pairs = config.positives == "pairs" and source.index.clips > 0 and _has_partner(shards, first)
        found.append((source.index.clips // 2, "pairs") if pairs else (source.index.clips, "clips"))
        first += source.index.clips
    return found


def _has_partner(shards: ShardSet, clip: int) -> bool:
    try:
        return "pair" in shards.record(shards.clip(clip))
    except (ValueError, OSError):  # an unreadable clip, which training reports
        return False


def unlicensed(card: dict[str, Any]) -> list[str]:
    """Return a warning for each source in the data card whose licence is missing or unknown, since export will require it."""
    return [
        f"warning: training source {source['name']} has {described(source['license'])}: export will refuse it; pack it with"
        f" --license NAME, set data.license=NAME where it is not packed, or give"
        f" hear-ssl package --data-license {source['name'] + '=NAME'!r}"
        for source in card["sources"]
        if not known_license(source["license"])
    ]


def check_shared_memory(config: DataConfig, sample_rate: int, ranks: int, processes: int) -> None:
    """Raise ValueError when shared memory is too small for two batches of each worker and two of the training process."""
    samples = sum(crops.count * round(crops.seconds * sample_rate) for crops in config.crops)
    batch = 4 * config.batch_size // ranks * samples
    batches = processes * (2 * config.workers + 2)
    free = free_shared_memory() if config.workers else math.inf
    if batches * batch > free:
        raise ValueError(
            f"/dev/shm has {free / 1e6:.0f} MB free, {batches} batches of {batch / 1e6:.0f} MB from decoding workers need"
            f" {batches * batch / 1e6:.0f} MB: start the container with --shm-size={math.ceil(1.5 * batches * batch / 2**30)}g,"
            " or set data.workers=0 or a smaller data.batch_size"
        )


def cluster_plugins(processes: int, nodes: int) -> list[Any]:
    """Return plugins that keep Lightning from treating any SLURM job as tasks started by srun; [] leaves the detection to Lightning.

    Raises ValueError when srun started another number of tasks, or none although several machines are configured.
    """
    variables, tasks = os.environ, processes * nodes
    if "TORCHELASTIC_RUN_ID" in variables or "SLURM_NTASKS" not in variables:
        return []
    if not started_by_srun(tasks):
        if nodes > 1 and "NODE_RANK" not in variables:
            raise ValueError(f"trainer.nodes is {nodes}, but srun did not start this process; use srun, as train/slurm.sbatch does")
        return [LightningEnvironment()]
    if variables["SLURM_NTASKS"] != str(tasks):
        raise ValueError(
            f"srun started {variables['SLURM_NTASKS']} tasks, trainer.devices={processes} and trainer.nodes={nodes} ask for {tasks};"
            " set them to tasks per node and nodes, or start srun --ntasks=1"
        )
    variables.setdefault("SLURM_NTASKS_PER_NODE", str(processes))  # Lightning asks for it; srun sets it only when it was given
    return []


def machine_failure(error: RuntimeError) -> ValueError | OSError | None:
    """Return a one-line error for a failure of torch.compile, or of NCCL when shared memory is full; None for any other error."""
    if "/dev/shm/nccl" in str(error):
        return OSError(f"shared memory is full, which the GPUs of one machine communicate through; {MORE_SHARED_MEMORY}")
    if not type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
        return None
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ValueError(f"torch.compile failed ({lines[0][:200] if lines else type(error).__name__}); set speed.compile=false")
