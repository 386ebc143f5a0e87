"""Training checkpoints, read without executing anything in them, and manifests of exported packages."""

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
EMA = "ema."  # begins the names of the encoder's averaged tensors, see `hear_ssl.training.average`


def find_checkpoint(path: str | Path) -> Path:
    """Return the checkpoint that a run folder or a file stands for: the file itself, or the run's last one.

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
    """Load a checkpoint of plain data and tensors onto the CPU; one of an earlier version is translated to the names of this version.

    Raises ValueError when a byte of the file has changed, it holds anything but plain data, or is not one of ours.
    """
    file = find_checkpoint(path)
    try:
        checkpoint = load_tensors(file)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{file} holds more than tensors and plain data, so it was not loaded; use a checkpoint written by hear-ssl fit"
        ) from None
    except Exception as error:  # the unpickler of damaged bytes raises nearly anything, AttributeError and IndexError included
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise ValueError(f"{file} is damaged or no checkpoint ({reason}); use an earlier one{_earlier_than(file)}") from None
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(part), dict) for part in ("state_dict", "config")):
        raise ValueError(f"{file} is not a checkpoint of this framework: it has no state_dict and config; use one written by hear-ssl fit")
    return current_checkpoint(checkpoint)


def _earlier_than(file: Path) -> str:
    earlier = next((path for path in numbered_checkpoints(file.parent) if path.name != file.name), None)
    return f", such as {earlier}" if earlier else ""


def load_tensors(file: str | Path) -> Any:
    """Return what `save_tensors` or torch.save wrote to a file, on the CPU, once all its bytes are checked.

    Raises ValueError or BadZipFile when one has changed, UnpicklingError when it holds more than tensors and plain data, and
    whatever torch.load raises.
    """
    check_zip(file)
    return torch.load(file, map_location="cpu", weights_only=True)


def save_tensors(content: dict[str, Any], file: str | Path) -> None:
    """Write tensors and plain data to a file with a checksum, whole or not at all. Raises OSError that names it when the disk is full."""
    with atomic_path(file) as temporary:
        try:
            with open(temporary, "wb") as stream:
                torch.save(content, stream)
        except RuntimeError as error:  # of torch's zip writer, after the stream has raised what is wrong
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        add_checksum(temporary)


def embedder_from_checkpoint(path: str | Path, trained: bool = True) -> tuple[Embedder, dict[str, Any]]:
    """Return the embedder of a checkpoint in evaluation mode and the config it was trained with, a plain dict; see `embedder_of`."""
    checkpoint = load_checkpoint(path)
    return embedder_of(checkpoint, path, trained), checkpoint["config"]


def has_average(checkpoint: dict[str, Any]) -> bool:
    """Return whether a checkpoint has averaged weights (trainer.ema) as well as the trained ones."""
    return any(name.startswith(EMA) for name in checkpoint["state_dict"])


def embedder_tensors(checkpoint: dict[str, Any], path: str | Path, weights: str = "") -> dict[str, Any]:
    """Return the tensors of a checkpoint's embedder by their names in it.

    weights: those of the encoder, `ema` for the averaged ones, `trained` for those of the last step; by default the averaged ones
    where there are any. Raises ValueError where `ema` is asked for and there are none.
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
    """Return the embedder in evaluation mode of a checkpoint that was loaded from `path`.

    The tensors that `embedder_tensors` returns are taken strictly; trained=False gives the same architecture with random weights,
    and without linear maps, of which a random one would be worth less than none.
    Raises ValueError when a tensor is missing, unknown or of another shape, or the `weights` asked for are not there.
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
    """Return the embedder's config of a checkpoint; a user's encoder and readouts are imported from their files.

    Raises ValueError when the config is not whole, the model has several encoders, which only earlier versions combined, or a file is
    missing or has changed since the training.
    """
    config, own = checkpoint["config"], {}
    if config.get(SEVERAL):
        raise ValueError(
            "the checkpoint has several encoders, as an earlier version combined them: evaluate and package it with that version, or"
            " combine its runs anew with examples/reference/combine.py"
        )
    embedder = {key: config[key] for key in EMBEDDER if key in config}

    def located(element: Any, section: str, base: type[Any]) -> Any:
        """Return {name: options} with the present path of a user's file, whose class goes into `own`."""
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
    """Return a user's class, imported from its file; `recorded` has the SHA-256 of the files that a run was trained with.

    Raises ValueError when the file is missing, has changed since the training, or its SHA-256 is not recorded.
    """
    sha256 = recorded.get(f"{section}.{key.rpartition(':')[2]}") if isinstance(recorded, dict) else None
    if not isinstance(sha256, str) or not sha256:
        raise ValueError(f"the checkpoint does not record the SHA-256 of {key}, so it was not imported; use one written by hear-ssl fit")
    return load_part(key, base, sha256).kind


def exported_manifest(content: bytes | str, where: str) -> Manifest:
    """Return the manifest of an exported package, of this version or an earlier one.

    Raises ValueError with one line when it is not JSON, has a wrong type or an unknown key.
    """
    try:
        mapping = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({str(error)[:80]}); install the package again") from None
    manifest = parse_manifest(current_manifest(mapping), where)
    if not manifest.parts and SEVERAL not in manifest.embedder:  # a user's classes, and several encoders, are known to their package alone
        embedder_config(manifest.embedder, f"{where}.embedder")
    return manifest
