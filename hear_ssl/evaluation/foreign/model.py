"""A HEAR module in another Python environment as a model under test; only embeddings are computed there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from hear_ssl.addresses import redacted
from hear_ssl.errors import printable
from hear_ssl.evaluation.foreign.known import built_python, is_module_name
from hear_ssl.evaluation.foreign.process import ForeignProcess, checked_python
from hear_ssl.evaluation.model_under_test import (
    ModelUnderTest,
    is_ours,
    load_model_under_test,
    manifest_at,
    model_name,
    untrained,
    untrained_of,
)
from hear_ssl.files import sha256_of
from hear_ssl.model.manifest import Manifest
from hear_ssl.progress import report, warn

ATTRIBUTES = ("sample_rate", "scene_embedding_size", "timestamp_embedding_size")
HASHES = ("code", "state", "environment")


@dataclass
class ForeignModel(ModelUnderTest):
    """A model in a process of another environment, on a device of that process; its audio and embeddings are on the CPU here.

    manifest: that of a package exported by this framework, otherwise None.
    """

    process: ForeignProcess | None = None
    manifest: Manifest | None = None

    def move(self, device: torch.device, fall_back: bool = False) -> None:
        """Do nothing: the model stays on the device on which it was loaded."""

    def scene(self, audio: Tensor) -> Tensor:
        """Return scene embeddings (batch, scene_embedding_size). Raises ValueError when the module or its process fails."""
        (embeddings,) = self._ask("get_scene_embeddings", audio, 1)
        return embeddings

    def timestamps(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Return timestamp embeddings (batch, frames, timestamp_embedding_size) and times in ms (batch, frames).

        Raises ValueError when the module or its process fails.
        """
        embeddings, timestamps_ms = self._ask("get_timestamp_embeddings", audio, 2)
        return embeddings, timestamps_ms

    def _ask(self, function: str, audio: Tensor, count: int) -> list[Tensor]:
        assert self.process is not None
        try:
            answer, arrays = self.process.ask({"do": function, "threads": torch.get_num_threads()}, audio.numpy())
        except ValueError as error:
            raise ValueError(f"{function} failed: {error}") from None
        if len(arrays) != count:
            raise ValueError(f"{function} failed: its process sent {len(arrays)} arrays, not {count}")
        if answer.get("moved"):
            warn(printable(f"{self.name}: on the CPU from here, because of {answer['moved']}"), aside=True)
        return [torch.from_numpy(array) for array in arrays]


def load_anywhere(name: str, weights: str, python: str, log_folder: Path, device: str = "cpu") -> ModelUnderTest:
    """Load a model with the given interpreter, otherwise in its environment made by `hear-ssl foreign`, otherwise in this process.

    Raises ValueError when it cannot be loaded.
    """
    if python:
        return load_foreign(name, weights, python, log_folder, device)
    return load_known(name, weights, log_folder, device) if built_python(name) else load_model_under_test(name, weights)


def load_known(name: str, weights: str, log_folder: Path, device: str = "cpu") -> ModelUnderTest:
    """Load a module in its environment made by `hear-ssl foreign`.

    Raises ValueError when there is none, or the module no longer loads there.
    """
    if not built_python(name):
        raise ValueError(f"the baseline {name} has no environment; make it with hear-ssl foreign {name}")
    try:
        return load_foreign(name, weights, built_python(name), log_folder, device)
    except ValueError as error:
        raise ValueError(f"{error}; hear-ssl foreign {name} makes its environment again") from None


def untrained_like(model: ModelUnderTest, name: str) -> ModelUnderTest | None:
    """Return `untrained` for a model loaded by name; if it is in another environment, from its manifest.

    It is None for a package with its user's own classes in another environment, since they can be imported only there.
    """
    if not isinstance(model, ForeignModel):
        return untrained(name)
    if model.manifest is None:
        return None
    if model.manifest.parts:
        warn(f"{name} has classes of its own in the environment of --python only: there is no untrained baseline", aside=True)
        return None
    return untrained_of(model.manifest, {})


def load_foreign(name: str, weights: str, python: str, log_folder: Path, device: str = "cpu") -> ForeignModel:
    """Load a module by name in the environment of an interpreter; its output is written to NAME.log in `log_folder`.

    Raises ValueError when there is no such interpreter, or the module does not load there or does not follow the HEAR API.
    """
    if is_ours(name):
        raise ValueError(f"--python {python} is for modules; {name} is a run or checkpoint, which needs none: leave --python out")
    if not is_module_name(name):
        raise ValueError(f"{name!r} is not the name of a module; --python is for a module installed in that environment")
    if weights and not Path(weights).is_file():
        raise ValueError(f"--weights {weights} is not a file; give the one that load_model() of {name} takes")
    interpreter = checked_python(python)
    file = os.path.abspath(weights) if weights else ""
    report(f"loading {name} in {interpreter} ...", aside=True)
    load = {"do": "load", "module": name, "weights": file, "device": device}
    process = ForeignProcess(interpreter, load, log_folder / f"{name}.log")
    found = process.loaded
    sizes = {attribute: found.get(attribute) for attribute in ATTRIBUTES}
    if not all(type(size) is int for size in sizes.values()) or not all(isinstance(found.get(one), str) for one in (*HASHES, "file")):
        raise ValueError(f"{name} in {interpreter} gave a damaged answer")
    report(printable(f"{name}: {found.get('versions')}, on {found.get('device')}"), aside=True)
    if found.get("moved"):
        warn(printable(f"{name}: on the CPU, because of {found['moved']}"), aside=True)
    return _model(name, file, interpreter, process, SimpleNamespace(**sizes))


def _model(name: str, weights: str, python: str, process: ForeignProcess, sizes: Any) -> ForeignModel:
    found = process.loaded
    manifest = manifest_at(Path(found["file"]).parent)
    place = {"place": weights, "sha256": sha256_of(weights)} if weights else {"place": redacted(manifest.weights.url)} if manifest else {}
    key = "-".join([name, *(found[one][:12] for one in HASHES), *([place["sha256"][:12]] if "sha256" in place else [])])
    record = {**place, "state": found["state"], "python": python, "environment": str(found.get("versions"))}
    threadsafe = manifest is not None  # then one torch thread per batch, as for an installed package
    return ForeignModel(model_name(name, weights), key, None, sizes, record, threadsafe=threadsafe, process=process, manifest=manifest)
