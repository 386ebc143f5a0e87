"""Read training checkpoints without executing anything in them, and manifests of exported packages."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from hear_ssl.files import add_checksum, atomic_path, check_zip
from hear_ssl.model.embedder import Embedder
from hear_ssl.model.embedder_config import KINDS, EmbedderConfig, embedder_config, without_maps
from hear_ssl.model.encoders import Encoder
from hear_ssl.model.manifest import Manifest, parse_manifest
from hear_ssl.model.readouts import Readout
from hear_ssl.model.weights import check_names
from hear_ssl.old_versions import EMBEDDER, SEVERAL, current_checkpoint, current_manifest
from hear_ssl.part_files import is_reference, load_part, moved

PREFIX = "embedder."
EMA = "ema."  # prefix of the encoder's averaged tensors, see `hear_ssl.training.average`


def find_checkpoint(path: str | Path) -> Path:
    """Return the checkpoint for a run folder or a file: the file itself, or the run's last checkpoint.

    Raises ValueError when there is none.
    """
    given = Path(path)
    if given.is_file():
        return given
    for candidate in (given / "checkpoints" / "last.ckpt", given / "last.ckpt"):
        if candidate.is_file():
            return candidate
    raise ValueError(
        f"{given} is neither a checkpoint nor a run folder with checkpoints/last.ckpt; give the folder that hear-ssl fit printed"
    )


def numbered_checkpoints(folder: Path) -> list[Path]:
    """Return the files step-N.ckpt of a folder, the newest first."""
    found = [(int(name[1]), path) for path in folder.glob("step-*.ckpt") if (name := re.fullmatch(r"step-(\d+)\.ckpt", path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint of plain data and tensors to the CPU; a checkpoint of an earlier version gets the names of this version.

    Raises ValueError when a byte of the file has changed, it contains anything but plain data, or it is not a checkpoint of hear_ssl.
    """
    file = find_checkpoint(path)
    try:
        checkpoint = load_tensors(file)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{file} holds more than tensors and plain data, so it was not loaded; use a checkpoint written by hear-ssl fit"
        ) from None
    except Exception as error:  # unpickling damaged bytes may raise any error, including AttributeError and IndexError
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise ValueError(f"{file} is damaged or no checkpoint ({reason}); use an earlier one{_earlier_than(file)}") from None
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(part), dict) for part in ("state_dict", "config")):
        raise ValueError(f"{file} is not a checkpoint of this framework: it has no state_dict and config; use one written by hear-ssl fit")
    return current_checkpoint(checkpoint)


def _earlier_than(file: Path) -> str:
    earlier = next((path for path in numbered_checkpoints(file.parent) if path.name != file.name), None)
    return f", such as {earlier}" if earlier else ""


def load_tensors(file: str | Path) -> Any:
    """Return the content of a file written by `save_tensors` or torch.save, on the CPU, after a check of all its bytes.

    Raises ValueError or BadZipFile when a byte has changed, UnpicklingError when it contains more than tensors and plain data, and
    whatever torch.load raises.
    """
    check_zip(file)
    return torch.load(file, map_location="cpu", weights_only=True)


def save_tensors(content: dict[str, Any], file: str | Path) -> None:
    """Write tensors and plain data to a file with a checksum, atomically. Raises OSError that names the file when the disk is full."""
    with atomic_path(file) as temporary:
        try:
            with open(temporary, "wb") as stream:
                torch.save(content, stream)
        except RuntimeError as error:  # of torch's zip writer, after the stream has raised the cause
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        add_checksum(temporary)


def embedder_from_checkpoint(path: str | Path, trained: bool = True) -> tuple[Embedder, dict[str, Any]]:
    """Return the embedder of a checkpoint in evaluation mode, and its training config as a plain dict; see `embedder_of`."""
    checkpoint = load_checkpoint(path)
    return embedder_of(checkpoint, path, trained), checkpoint["config"]


def has_average(checkpoint: dict[str, Any]) -> bool:
    """Return whether a checkpoint has averaged weights (trainer.ema) in addition to the trained ones."""
    return any(name.startswith(EMA) for name in checkpoint["state_dict"])


def embedder_tensors(checkpoint: dict[str, Any], path: str | Path, weights: str = "") -> dict[str, Any]:
    """Return the tensors of a checkpoint's embedder by their names in the embedder.

    weights: of the encoder, `ema` for the averaged ones, `trained` for those of the last step; by default the averaged ones if there
    are any. Raises ValueError when `ema` is given and there are none.
    """
    state: dict[str, Any] = checkpoint["state_dict"]
    tensors = {name[len(PREFIX) :]: value for name, value in state.items() if name.startswith(PREFIX)}
    if weights == "trained" or not has_average(checkpoint):
        if weights == "ema":
            raise ValueError(f"{path} has no averaged weights, because it was trained without trainer.ema; leave out weights=ema")
        return tensors
    others = {name: value for name, value in tensors.items() if not name.startswith("encoder.")}
    return others | {f"encoder.{name[len(EMA) :]}": value for name, value in state.items() if name.startswith(EMA)}


def embedder_of(checkpoint: dict[str, Any], path: str | Path, trained: bool = True, weights: str = "") -> Embedder:
    """Return the embedder, in evaluation mode, of a checkpoint loaded from `path`.

    The tensors of `embedder_tensors` are loaded strictly. trained=False gives the same architecture with random weights and without
    linear maps, since a random map would only do harm.
    Raises ValueError when a tensor is missing, unknown or of another shape, or the requested `weights` are missing.
    """
    config = embedder_config_of(checkpoint)
    embedder = Embedder(config if trained else without_maps(config))
    if trained:
        state = embedder_tensors(checkpoint, path, weights)
        wanted = embedder.state_dict()
        check_names(set(state), set(wanted), str(find_checkpoint(path)))
        for name, value in wanted.items():
            if not isinstance(state[name], torch.Tensor) or state[name].shape != value.shape:
                raise ValueError(f"{path}: {name} is not the tensor of shape {list(value.shape)} that its own config asks for: damaged")
        embedder.load_state_dict(state)
    embedder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as load_model lays it out
    return embedder.eval()


def embedder_config_of(checkpoint: dict[str, Any]) -> EmbedderConfig:
    """Return the embedder's config in a checkpoint; a user's encoder and readouts are imported from their files.

    Raises ValueError when the config is incomplete, the model has several encoders, which only earlier versions combined, or a file is
    missing or has changed since the training.
    """
    config, own = checkpoint["config"], {}
    if config.get(SEVERAL):
        raise ValueError(
            "the checkpoint has several encoders, as an earlier version combined them: evaluate and package it with that version, or"
            " combine its runs again with examples/reference/combine.py"
        )
    embedder = {key: config[key] for key in EMBEDDER if key in config}

    def located(element: Any, section: str, base: type[Any]) -> Any:
        """Return {name: options} with the present path of a user's file, and add its class to `own`."""
        if not isinstance(element, dict):
            return element
        element = {moved(key) if is_reference(str(key)) else key: options for key, options in element.items()}
        for key in element:
            if is_reference(str(key)):
                kind = own_class(key, section, base, checkpoint.get("parts"))
                own[kind.__name__] = kind
        return element

    if "encoder" in embedder:
        embedder["encoder"] = located(embedder["encoder"], "encoder", Encoder)
    for section in KINDS:
        if isinstance(elements := embedder.get(section), (list, tuple)):
            embedder[section] = [located(element, section, Readout) for element in elements]
    return embedder_config(embedder, "config", own)


def own_class(key: str, section: str, base: type[Any], recorded: Any) -> type[Any]:
    """Return a user's class, imported from its file; `recorded` has the SHA-256 of the files at the time of training.

    Raises ValueError when the file is missing, has changed since the training, or its SHA-256 is not recorded.
    """
    sha256 = recorded.get(f"{section}.{key.rpartition(':')[2]}") if isinstance(recorded, dict) else None
    if not isinstance(sha256, str) or not sha256:
        raise ValueError(f"the checkpoint does not record the SHA-256 of {key}, so it was not imported; use one written by hear-ssl fit")
    return load_part(key, base, sha256).kind


def exported_manifest(content: bytes | str, where: str) -> Manifest:
    """Return the manifest of an exported package, of this version or an earlier one.

    Raises ValueError when it is not JSON, has a wrong type or an unknown key.
    """
    try:
        mapping = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({str(error)[:80]}); install the package again") from None
    manifest = parse_manifest(current_manifest(mapping), where)
    if (
        not manifest.parts and SEVERAL not in manifest.embedder
    ):  # a user's classes and several encoders can be checked only by their package
        embedder_config(manifest.embedder, f"{where}.embedder")
    return manifest
