"""Load a model for embedding: a run, a checkpoint, an installed wheel, or published weights with their manifest.

Only data is loaded from an address: a manifest and tensors. A user's own class is imported only from a file that the caller gives and
that has the SHA-256 in the manifest.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from hear_ssl.addresses import joined, redacted
from hear_ssl.checkpoint import embedder_from_checkpoint, exported_manifest
from hear_ssl.data.shards.fetch import open_address, open_index
from hear_ssl.download import NOT_STORED, retry, transfer
from hear_ssl.errors import one_line, verb
from hear_ssl.evaluation.device import choose_device
from hear_ssl.evaluation.model_under_test import Sized, is_ours, load_model_under_test, manifest_of
from hear_ssl.files import atomic_path
from hear_ssl.model import __main__ as our_command
from hear_ssl.model import hear
from hear_ssl.model.download import cache_folder
from hear_ssl.model.embedder import Embedder
from hear_ssl.model.embedder_config import embedder_config
from hear_ssl.model.manifest import Manifest
from hear_ssl.model.weights import load_weights, weights_sha256
from hear_ssl.old_versions import SEVERAL
from hear_ssl.part_files import load_part

SCHEMES = ("https", "http", "hf", "s3", "gs")
MANIFEST_LIMIT = 4 << 20  # bytes
WEIGHTS, MANIFEST = ".safetensors", ".json"


@dataclass
class Model(Sized):
    """A model that embeds waveforms; embeddings are float32, computed without gradient in evaluation mode.

    model: the torch.nn.Module. module: the Python module with the functions of the HEAR API.
    """

    model: Any
    module: Any = hear

    def scene(self, waveform: Tensor) -> Tensor:
        """Return an embedding of each clip (batch, scene_embedding_size) of waveforms (batch, time) in [-1, 1] at `sample_rate`.

        Raises ValueError when the waveform is not a floating-point tensor with two dimensions and at least one sample.
        """
        embeddings: Tensor = self.module.get_scene_embeddings(waveform, self.model)
        return embeddings

    def timestamps(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings (batch, timestamps, timestamp_embedding_size) and their centres in ms (batch, timestamps).

        The input are waveforms (batch, time) in [-1, 1] at `sample_rate`. Raises ValueError as `scene` does.
        """
        embeddings, timestamps_ms = self.module.get_timestamp_embeddings(waveform, self.model)
        return embeddings, timestamps_ms

    def to(self, device: str | torch.device) -> Model:
        """Move the model to a device, such as cpu, cuda or auto, and return it. Raises ValueError when there is no such device."""
        self.model = self.model.to(choose_device(str(device), "the device"))
        return self

    def embed_files(self, files: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], timestamps: bool = False) -> int:
        """Write the embeddings of audio files of any format and rate to a numpy archive; return 0, or 1 when a file was left out.

        The archive has `files` and `scene_embeddings`, and with `timestamps` also timestamp_embeddings_I and timestamps_ms_I of each
        row I. Raises ValueError when no file can be read or the module cannot embed files, OSError when `out` cannot be written.
        """
        command: Any = our_command
        if self.module is not hear:
            if manifest_of(self.module) is None:
                raise ValueError(
                    f"{self.module.__name__} is not a wheel of hear_ssl, so it does not embed files; embed with its own functions"
                )
            command = import_module(f"{self.module.__name__}.__main__")
        status: int = command.embed(self.model, [os.fspath(file) for file in files], Path(out), timestamps)
        return status


@verb
def load(
    source: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] = "",
    parts: Sequence[str | os.PathLike[str]] = (),
    device: str = "cpu",
) -> Model:
    """Return the model of a run, a checkpoint, an installed wheel, or of exported weights with their manifest.

    source: a run (its last checkpoint) or a checkpoint file; the name of an installed wheel or of another module with the HEAR API; or
    an hf://, https://, http://, s3:// or gs:// address of weights, NAME.safetensors with the manifest NAME.json next to it, or a folder
    with manifest.json and the weights that it names; such files may also be local. The weights must have the SHA-256 in the manifest;
    they are stored in the user's cache. No code is loaded from an address.
    weights: a weights file for load_model() of a module. parts: files of your own classes to which a manifest refers.
    device: cpu, cuda, cuda:1, mps, or auto for a GPU if there is one.

    Raises ValueError when nothing has that name, it is damaged, or the file of an own class is missing or differs; OSError when an
    address cannot be reached.
    """
    name = os.fspath(source)
    if "://" in name:
        model = Model(built(*published_files(name), parts))
    elif is_ours(name) and not name.endswith((WEIGHTS, MANIFEST, ".whl")):
        model = Model(embedder_from_checkpoint(name)[0])
    elif name.endswith(".whl"):
        raise ValueError(f"{name} is a wheel: install it with pip, then give the name of its package")
    elif name.endswith((WEIGHTS, MANIFEST)) and Path(name).is_file():
        model = Model(built(*exported_files(name), parts))
    elif (Path(name) / "manifest.json").is_file():
        model = Model(built(*exported_folder(Path(name)), parts))
    else:
        loaded = load_model_under_test(name, os.fspath(weights))
        model = Model(loaded.model, loaded.module)
    return model.to(device)


def exported_files(file: str) -> tuple[Manifest, Path]:
    """Return the manifest next to a local weights file, and the weights file, after a check that they belong together; see `load`."""
    manifest_file, weights_file = (Path(file).with_suffix(suffix) for suffix in (MANIFEST, WEIGHTS))
    for path in (manifest_file, weights_file):
        if not path.is_file():
            raise ValueError(f"{path} is missing; weights are loaded with the manifest of the same name next to them")
    manifest = exported_manifest(manifest_file.read_bytes(), str(manifest_file))
    check_weights(weights_file, manifest, str(weights_file))
    return manifest, weights_file


def exported_folder(folder: Path) -> tuple[Manifest, Path]:
    """Return the manifest in a local folder and its weights, after a check that they belong together; see `load`."""
    manifest = exported_manifest((folder / "manifest.json").read_bytes(), str(folder / "manifest.json"))
    weights = folder / manifest.weights.file
    if not weights.is_file():
        raise ValueError(f"{weights} is missing, which {folder / 'manifest.json'} names; copy it there, or give another folder")
    check_weights(weights, manifest, str(weights))
    return manifest, weights


def published_files(address: str) -> tuple[Manifest, Path]:
    """Return the manifest of weights at an address and a local copy of the weights, after a check that they belong together; see `load`."""
    shown = redacted(address)
    if address.partition("://")[0] not in SCHEMES:
        raise ValueError(f"{shown} is not an address that models are loaded from; give one with {', '.join(SCHEMES)}")
    stem, mark, query = address.partition("?")
    pair = stem.endswith((WEIGHTS, MANIFEST))
    place = stem.rpartition(".")[0] if pair else ""
    manifest = fetched_manifest(f"{place}{MANIFEST}{mark}{query}" if pair else joined(address, "manifest.json"))
    weights = f"{place}{WEIGHTS}{mark}{query}" if pair else joined(address, manifest.weights.file)
    return manifest, fetched_weights(weights, manifest)


def fetched_manifest(address: str) -> Manifest:
    """Return the manifest at an address. Raises ValueError when there is none, OSError when it cannot be reached."""
    with io.BytesIO() as file:
        fetch(address, file, "the manifest", limit=MANIFEST_LIMIT)
        file.seek(0)
        return exported_manifest(file.read(), redacted(address))


def fetched_weights(address: str, manifest: Manifest) -> Path:
    """Return a local copy of the weights at an address, from the user's cache if they are there.

    Raises ValueError when the address serves other bytes than stated in the manifest, OSError when it cannot be reached.
    """
    sha256 = manifest.weights.sha256
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(f"the manifest of {redacted(address)} has no SHA-256 of the weights; export the model again")
    target = cache_folder("hear_ssl") / f"{sha256}{WEIGHTS}"
    if not (target.is_file() and weights_sha256(target) == sha256):
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            with open(temporary, "w+b") as file:
                fetch(address, file, "the weights", size=manifest.weights.bytes)
            check_weights(temporary, manifest, redacted(address))
    return target


def fetch(address: str, file: BinaryIO, what: str, size: int | None = None, limit: int | None = None) -> None:
    """Download an address to a file. Raises ValueError when it does not exist, OSError when it cannot be reached."""
    opener, shown = open_address if size is not None else open_index, redacted(address)
    try:
        retry(lambda: transfer(address, file, size=size, limit=limit, opener=opener), file)
    except FileNotFoundError:
        raise ValueError(f"{what} of the model, {shown}, is not there; give the address of NAME.safetensors with NAME.json") from None
    except OSError as error:
        raise OSError(
            f"{what} of the model, {shown}, cannot be fetched ({one_line(error)[:160]}){NOT_STORED * ('401' in str(error))}"
        ) from None


def check_weights(path: Path, manifest: Manifest, shown: str) -> None:
    """Raise ValueError unless a file has the SHA-256 in a manifest."""
    found = weights_sha256(path)
    if found != manifest.weights.sha256:
        raise ValueError(f"{shown} has SHA-256 {found[:16]}..., its manifest {manifest.weights.sha256[:16]}...: another model or damaged")


def built(manifest: Manifest, weights: Path, parts: Sequence[str | os.PathLike[str]]) -> Embedder:
    """Return the model of a manifest with its weights. Raises ValueError when they do not fit, or the file of an own class is missing."""
    if SEVERAL in manifest.embedder:
        raise ValueError(f"{manifest.name} has several encoders, as an earlier version combined them; install its wheel and give its name")
    model = Embedder(embedder_config(manifest.embedder, "manifest", own_classes(manifest, parts)))
    load_weights(model, weights)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as load_model lays it out
    return model.eval()


def own_classes(manifest: Manifest, parts: Sequence[str | os.PathLike[str]]) -> dict[str, type[Any]]:
    """Return the user's classes to which a manifest refers, imported from the given files with the SHA-256 in the manifest.

    Raises ValueError when no given file has it.
    """
    files: dict[str, Path] = {}
    for part in parts:
        path = Path(part).expanduser().absolute()
        if not path.is_file():
            raise ValueError(f"{path}, given as a part, is not a file; give the file of a class of your own")
        files[hashlib.sha256(path.read_bytes()).hexdigest()] = path
    classes: dict[str, type[Any]] = {}
    for name, record in manifest.parts.items():
        sha256 = str(record.get("sha256", "")) if isinstance(record, dict) else ""
        if sha256 not in files:
            raise ValueError(
                f"{manifest.name} has the class {name} of a file with SHA-256 {sha256[:16]}...: give that file by parts=[FILE.py] in Python"
                " or --part FILE.py, or install the model's wheel and give its name"
            )
        classes[name] = load_part(f"{files[sha256]}:{name}", nn.Module, sha256).kind
    return classes
