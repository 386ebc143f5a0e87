"""The model under evaluation: a HEAR module by name, or the embedder of a run folder or checkpoint."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from hear_ssl.addresses import redacted
from hear_ssl.checkpoint import embedder_from_checkpoint, exported_manifest, find_checkpoint
from hear_ssl.evaluation import baselines
from hear_ssl.files import sha256_of
from hear_ssl.model import hear
from hear_ssl.model.embedder import Embedder
from hear_ssl.model.embedder_config import embedder_config, without_maps
from hear_ssl.model.manifest import Manifest, packaged_parts
from hear_ssl.model.options import to_mapping
from hear_ssl.old_versions import SEVERAL
from hear_ssl.progress import warn

FUNCTIONS = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
CPU = torch.device("cpu")
UNTRAINED_SEED = 0
UNTRAINED, LOG_MEL = BASELINES = ("untrained", "log-mel")  # names of the baselines of a model


class Sized:
    """Sample rate and embedding sizes of the HEAR model in the attribute `model`."""

    model: Any

    @property
    def sample_rate(self) -> int:
        """Sample rate of its input waveforms in Hz."""
        return int(self.model.sample_rate)

    @property
    def scene_embedding_size(self) -> int:
        """Dimensions of a scene embedding."""
        return int(self.model.scene_embedding_size)

    @property
    def timestamp_embedding_size(self) -> int:
        """Dimensions of a timestamp embedding."""
        return int(self.model.timestamp_embedding_size)


@dataclass
class ModelUnderTest(Sized):
    """A loaded model and the functions that embed with it.

    key: identifies model and weights. weights: their origin, an absolute path or an address, the file's SHA-256, and a hash of the
    loaded weights if there is one. device: of the model and of the audio given to it; the key does not depend on it. fall_back: move
    the model to the CPU when it fails on another device. threadsafe: several threads may embed at once, as with models of this framework.
    """

    name: str
    key: str
    module: Any
    model: Any
    weights: dict[str, str] = field(default_factory=dict)
    device: torch.device = CPU
    fall_back: bool = False
    threadsafe: bool = False

    def move(self, device: torch.device, fall_back: bool = False) -> None:
        """Move the model to a device; a model without the method `to` of torch.nn.Module stays and gets its audio on the CPU.

        Raises ValueError when it cannot be moved, unless it may fall back to its present device.
        """
        moves = getattr(self.model, "to", None)
        if not callable(moves):
            return
        try:
            with foreign(f"moving the model to {device}"):
                moved = moves(device)
        except ValueError as error:
            if not fall_back or device.type == "cpu":
                raise
            self._return_to_cpu(error)
            return
        self.model, self.device, self.fall_back = self.model if moved is None else moved, device, fall_back

    def _return_to_cpu(self, error: ValueError) -> None:
        warn(f"{self.name}: on the CPU from here, because {error}", aside=True)
        self.move(CPU)

    def _call(self, function: str, audio: Tensor) -> Any:
        """Call a function of the module with audio on the model's device and return its result."""
        try:
            with foreign(function):
                return getattr(self.module, function)(audio.to(self.device), self.model)
        except ValueError as error:
            if self.device.type == "cpu":
                raise
            if not self.fall_back:
                raise ValueError(f"{error} (on {self.device}; --device cpu may do)") from None
            self._return_to_cpu(error)
            return self._call(function, audio)

    @torch.no_grad()
    def scene(self, audio: Tensor) -> Tensor:
        """Return scene embeddings (batch, scene_embedding_size), on the CPU. Raises ValueError when the module fails."""
        embeddings = self._call("get_scene_embeddings", audio)
        with foreign("get_scene_embeddings"):
            return on_cpu(embeddings).float()

    @torch.no_grad()
    def timestamps(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Return timestamp embeddings (batch, frames, timestamp_embedding_size) and times in ms (batch, frames), on the CPU.

        Raises ValueError when the module fails.
        """
        returned = self._call("get_timestamp_embeddings", audio)
        with foreign("get_timestamp_embeddings"):
            embeddings, timestamps_ms = returned
            return on_cpu(embeddings).float(), on_cpu(timestamps_ms)


@contextmanager
def foreign(call: str) -> Iterator[None]:
    """Convert any error of a foreign module to a ValueError of one line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise ValueError(f"{call} failed: {type(error).__name__}: {str(error)[:200]}") from None


def on_cpu(returned: Any) -> Tensor:
    """Return the result of a module on the CPU. Raises TypeError when it is not a tensor."""
    if not isinstance(returned, Tensor):
        raise TypeError(f"it returned {type(returned).__name__}, not a torch.Tensor")
    return returned.detach().cpu()


def load_model_under_test(name: str, weights: str = "") -> ModelUnderTest:
    """Load a run folder, a checkpoint file, or a HEAR module by its name.

    Raises ValueError when nothing has that name, a module lacks the HEAR functions, or the weights do not load or are given for a run
    or checkpoint, which has its own.
    """
    if is_ours(name):
        if weights:
            raise ValueError(f"--weights {weights} is for modules; {name} holds its own weights: leave --weights out")
        return from_checkpoint(Path(name))
    if not name or name.startswith(".") or "/" in name:
        raise ValueError(
            f"{name!r} is neither a run folder or checkpoint that is there nor the name of a module; mend the path or the name"
        )
    if weights and not Path(weights).is_file():
        raise ValueError(f"--weights {weights} is not a file; give the one that load_model() of {name} takes")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"{name} is neither a run folder nor a module to import ({error}); install it or give its path") from None
    except (Exception, SystemExit) as error:  # a foreign module may raise anything
        raise ValueError(f"module {name} does not import: {type(error).__name__}: {str(error)[:120]}; mend it") from None
    missing = [function for function in FUNCTIONS if not callable(getattr(module, function, None))]
    if missing:
        raise ValueError(f"module {name} has no {missing[0]}; it does not follow the HEAR API (https://hearbenchmark.com/hear-api.html)")
    with foreign(f"load_model of {name}"):
        model = module.load_model(weights) if weights else module.load_model()
        state = state_hash(model)
    wanted = ("sample_rate", "scene_embedding_size", "timestamp_embedding_size")
    absent = next((attribute for attribute in wanted if not isinstance(getattr(model, attribute, None), int)), None)
    if absent:
        raise ValueError(f"the model of {name} has no int {absent}; it does not follow the HEAR API")
    manifest = manifest_of(module)
    place = (
        {"place": os.path.abspath(weights), "sha256": sha256_of(weights)}
        if weights
        else {"place": redacted(manifest.weights.url)}
        if manifest
        else {}
    )
    key = f"{name}-{module_hash(module, place.get('sha256', ''))}-{state}"
    return ModelUnderTest(
        model_name(name, weights), key, module, model, {**place, "state": state}, threadsafe=manifest is not None or module is baselines
    )


def is_ours(name: str) -> bool:
    """Return whether a name is the path of a run folder or a file; any other name is that of a module."""
    try:
        return find_checkpoint(name).is_file()
    except ValueError:
        return False


def model_name(name: str, weights: str = "") -> str:
    """Return the name of a model in tables: a path without a trailing slash, or a module with its given weights file."""
    return str(Path(name)) if is_ours(name) else name + (f" ({Path(weights).name})" if weights else "")


def state_hash(model: Any) -> str:
    """Return a hash of a model's weights, whatever their origin; the hash of nothing if it is not a torch.nn.Module."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items() if isinstance(model, torch.nn.Module) else ():
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def from_checkpoint(path: Path, trained: bool = True) -> ModelUnderTest:
    """Load the embedder of a checkpoint or run folder; trained=False: its architecture with random weights.

    Raises ValueError when it is damaged or not a checkpoint of hear_ssl.
    """
    torch.manual_seed(UNTRAINED_SEED)
    model, _ = embedder_from_checkpoint(path, trained)
    if trained:
        file = find_checkpoint(path)
        weights = {"place": os.path.abspath(file), "sha256": sha256_of(file)}
        return ModelUnderTest(
            model_name(str(path)), f"{path.resolve().name}-{weights['sha256'][:12]}", hear, model, weights, threadsafe=True
        )
    return _untrained(model)


def untrained(name: str) -> ModelUnderTest | None:
    """Return the same architecture with random weights, for runs and for modules exported by this framework; otherwise None.

    It is also None for a module of several encoders of version 0.1.0 or 0.2.0, which only its own package can build.
    """
    if is_ours(name):
        return from_checkpoint(Path(name), trained=False)
    manifest = manifest_of(importlib.import_module(name))
    return untrained_of(manifest, packaged_parts(manifest, name)) if manifest else None


def untrained_of(manifest: Manifest, parts: dict[str, type[Any]]) -> ModelUnderTest | None:
    """Return the architecture of a manifest, with the user's classes in it, with random weights; None as in `untrained`."""
    if SEVERAL in manifest.embedder:
        return None
    torch.manual_seed(UNTRAINED_SEED)
    return _untrained(Embedder(without_maps(embedder_config(manifest.embedder, "manifest.json.embedder", parts))).eval())


def _untrained(model: Embedder) -> ModelUnderTest:
    """Return an embedder with random weights as a model under test; its key covers weights, config and files of the user's classes."""
    config = model.config
    files = [part.sha256 for part in (config.encoder, *config.scene, *config.timestamp)]
    key = f"{UNTRAINED}-{_config_hash([to_mapping(config), files, state_hash(model)])}"
    return ModelUnderTest(UNTRAINED, key, hear, model, threadsafe=True)


def log_mel() -> ModelUnderTest:
    """Return the log-mel statistics."""
    key = f"{LOG_MEL}-{module_hash(baselines)}"
    return ModelUnderTest(LOG_MEL, key, baselines, baselines.load_model(), threadsafe=True)


def manifest_of(module: ModuleType) -> Manifest | None:
    """Return the manifest of a module exported by this framework, None for any other."""
    return manifest_at(Path(module.__file__ or "").parent)


def manifest_at(folder: Path) -> Manifest | None:
    """Return the manifest in the folder of a package exported by this framework, None for any other."""
    try:
        return exported_manifest((folder / "manifest.json").read_bytes(), "manifest.json")
    except (OSError, ValueError):  # missing, or of another tool
        return None


def _config_hash(config: Any) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


def module_hash(module: ModuleType, weights: str = "") -> str:
    """Return a hash of a module's files and of the SHA-256 of the weights file given with it."""
    file = Path(module.__file__ or "")
    files = (
        sorted(path for path in file.parent.rglob("*") if path.is_file() and path.suffix != ".pyc")
        if file.name == "__init__.py"
        else [file]
    )
    digest = hashlib.sha256()
    for path in files:
        digest.update(sha256_of(path).encode())
    digest.update(weights.encode())
    return digest.hexdigest()[:12]
