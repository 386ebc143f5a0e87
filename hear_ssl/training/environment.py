"""The record of a run's machine: versions, revision of the source, hardware."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from hear_ssl.addresses import redacted_arguments
from hear_ssl.machine import usable_cores

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "torchaudio", "pytorch-lightning", "webdataset", "wandb", "omegaconf", "numpy", "soundfile")


def environment() -> dict[str, Any]:
    """Return versions, git revision and hardware, as recorded in the run folder."""
    return {
        "command": redacted_arguments(sys.argv),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "git_revision": git_revision(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "usable_cores": usable_cores(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }


def git_revision(root: Path = ROOT) -> str:
    """Return the revision of a checkout, with -dirty when files have changed; 'unknown' without a checkout or git.

    git reads another user's checkout only when it is declared safe; that is acceptable, since its code is already running.
    """
    if not (root / ".git").exists():  # a repository in a parent folder belongs to another project
        return "unknown"
    command = ["git", "-c", f"safe.directory={root}", "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, cwd=root)
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"
