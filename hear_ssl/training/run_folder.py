"""The run folder: new for each run, and locked by one process during training."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

from hear_ssl.files import remove_parts
from hear_ssl.folder_lock import folder_lock
from hear_ssl.training.batch_datamodule import process_rank
from hear_ssl.training.settings import Config

BUSY = "wait for that run to end, or give another folder with run=FOLDER"
WAIT_SECONDS = 1.0  # for `hear-ssl runs`, which locks a folder briefly to find out whether a run holds the lock


@contextmanager
def held_run_folder(config: Config) -> Iterator[Path]:
    """Yield the run folder, locked by this process until the block ends; without `run` it is a new folder under `output`.

    With several ranks, the first one locks it for all. Raises FolderBusyError when another process has locked it.
    """
    named = Path(config.run) if config.run else None
    stem = Path(config.output) / f"{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if process_rank():
        yield named or stem
        return
    run = named or stem
    try:
        with ExitStack() as held:
            try:
                run = named or new_folder(stem)
                held.enter_context(folder_lock(run, BUSY, WAIT_SECONDS))
            except OSError as error:
                reason = error.strerror or error
                raise OSError(f"run folder {run} cannot be made: {reason}; give another with run=FOLDER or output=FOLDER") from None
            for folder in (run, run / "checkpoints", run / "probe"):
                remove_parts(folder)
            yield run
    finally:
        if not named:
            with suppress(OSError):
                run.rmdir()  # fails unless it is empty: the run was refused


def new_folder(stem: Path) -> Path:
    """Make the folder STEM, or STEM-2, STEM-3 and so on if it exists, and return it."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        folder = stem if number == 1 else stem.with_name(f"{stem.name}-{number}")
        with suppress(FileExistsError):
            os.mkdir(folder)
            return folder
    raise AssertionError


def check_new(run: Path) -> None:
    """Raise ValueError when a folder contains a run with a checkpoint, which a new run would overwrite."""
    if next((run / "checkpoints").glob("*.ckpt"), None):
        raise ValueError(f"{run} holds a run already; resume it with --resume {run}, or give another folder with run=FOLDER")
