"""Shared fixtures: one small embedded corpus, and configs that train on it in seconds."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.util import get_temp_dir
from pathlib import Path

import pytest
import torch

from hear_ssl.progress import to_terminal
from hear_ssl.synthesis.instruments import write_corpus
from hear_ssl.training.config import Config, load_config

ROOT = Path(__file__).resolve().parents[1]
NT_XENT = ["objective.nt_xent.hidden_dim=32", "objective.nt_xent.projection_dim=16"]
TINY = [
    "encoder.audio_ntt.channels=4",
    "encoder.audio_ntt.dim=32",
    "data.batch_size=8",
    "data.workers=0",
    "data.crops.0.seconds=0.64",
    "optimizer.warmup_steps=2",
    "trainer.steps=6",
    "trainer.log_every=1",
    "trainer.checkpoint_every=3",
    "trainer.threads=1",
    "trainer.collapse_rank=0",
    "trainer.accelerator=cpu",
    "wandb=disabled",
]
MEMORY = ["views.0.augment.2.memory=16", "views.1.augment.3.memory=16"]  # of mixup in base, simclr and the default views
HEADS = {  # every recipe's heads, made small enough for a test
    "cola": ["objective.cola.projection_dim=16"],
    "moco_v3": ["objective.moco_v3.hidden_dim=32", "objective.moco_v3.projection_dim=16"],
    "byol_a": ["objective.byol.hidden_dim=32", "objective.byol.projection_dim=16"],
    "barlow_twins": ["objective.barlow_twins.hidden_dim=32", "objective.barlow_twins.projection_dim=16"],
    "vicreg": ["objective.vicreg.projection_dim=32"],
    "frame": ["objective.frame.hidden_dim=32", "objective.frame.projection_dim=16"],
    "clip_frame_pitch": ["objective.frame.hidden_dim=32", "objective.frame.projection_dim=16", "objective.pitch.hidden_dim=16", *NT_XENT],
    "simclr": NT_XENT,
}
SHORT = "data.crops.0.seconds=0.48"  # 256 bands take four times as long
STEADY = "optimizer.learning_rate=3e-4"  # at a higher rate rounding grows past the tolerance of the golden curves
RECIPES = {  # every file in configs/: HEADS has one recipe for each objective, the others combine these objectives
    **HEADS,
    "base": [*NT_XENT, *HEADS["frame"]],
    "quickstart": [*NT_XENT, SHORT],
    "simclr_strong": [*NT_XENT, STEADY],
    "reference": [*NT_XENT, SHORT, STEADY],
    "reference_strokes": [*NT_XENT, SHORT],
    "reference_voices": [*NT_XENT, SHORT, STEADY],
    "reference_words": [*NT_XENT, SHORT],
}


if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a shell; commands that the tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give whatever asks for a temporary folder, here and in processes started, one that goes when the tests are done."""
    tmp_path_factory.getbasetemp()  # stays outside: pytest keeps that of a failed test
    get_temp_dir()  # stays outside: multiprocessing removes its own when this process ends
    with tempfile.TemporaryDirectory(prefix="hear-", ignore_cleanup_errors=True) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        patch.setenv("HEAR_BASELINES_CACHE", f"{folder}/baselines")  # of evaluations in processes of their own
        yield


@pytest.fixture(scope="session", autouse=True)
def terminal() -> None:
    """Print what is reported, as a command does."""
    to_terminal()


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 24 clips of the embedded corpus, the two of a pair one after the other."""
    folder = tmp_path_factory.mktemp("corpus") / "shards"
    write_corpus(folder, clips=24, seed=0)
    return folder


def tiny(shards: Path, run: Path, *overrides: str, recipe: str = "") -> Config:
    """Return a config that trains a very small encoder on the corpus into `run`, with a recipe's file below the overrides."""
    torch.set_num_threads(1)
    file = ROOT / "configs" / f"{recipe}.yaml" if recipe else None
    heads = RECIPES[recipe] if recipe else NT_XENT
    memory = [] if any(override.startswith("views=") for override in overrides) else small_memory(file)
    return replace(load_config(file, [f"data.shards={shards}", *TINY, *heads, *memory, *overrides]), run=str(run))


def small_memory(file: Path | None) -> list[str]:
    """Return overrides that let the augmentations of a recipe remember 16 clips."""
    views = enumerate(load_config(file, []).views)
    places = [(number, place) for number, view in views for place, part in enumerate(view.augment) if hasattr(part.options, "memory")]
    return [f"views.{number}.augment.{place}.memory=16" for number, place in places]
