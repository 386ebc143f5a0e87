"""The HEAR API: load_model, get_scene_embeddings, get_timestamp_embeddings (https://hearbenchmark.com/hear-api.html).

Embeddings are always float32 and computed without gradient, in evaluation mode, outside autocast and on the device of the
model, whatever the caller has set. The given audio is never changed.
"""

from __future__ import annotations

import warnings
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Tuple

import torch
from torch import Tensor

from .download import fetch_weights
from .embedder import Embedder
from .embedder_config import embedder_config
from .frontend import no_autocast
from .manifest import packaged_parts, read_manifest
from .weights import load_weights, weights_sha256

HERE = Path(__file__).resolve().parent
LOUDEST = 10.0  # a higher peak is not overshoot beyond [-1, 1]: the samples are unscaled integers
_warned: "weakref.WeakSet[Embedder]" = weakref.WeakSet()


def load_model(model_file_path: str = "") -> Embedder:
    """Return the model with its weights, on the CPU and in evaluation mode.

    With a path, only that file is read. Without one, the weights come from the package when it contains them, otherwise from
    the user's cache, otherwise from the URL in the manifest.

    Raises ValueError when the file is damaged or belongs to another model, OSError when it cannot be read or downloaded.
    """
    manifest = read_manifest(HERE / "manifest.json")
    if model_file_path:
        path = Path(model_file_path)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not a file; give the path of {manifest.weights.file}, or none to fetch it")
    elif (HERE / manifest.weights.file).is_file():
        path = HERE / manifest.weights.file
    else:
        path = fetch_weights(manifest.weights.url, manifest.weights.sha256, manifest.weights.bytes, manifest.name)
    found = weights_sha256(path)
    if found != manifest.weights.sha256:
        raise ValueError(
            f"{path} has SHA-256 {found[:16]}..., these weights have {manifest.weights.sha256[:16]}...: another model or damaged"
        )
    model = Embedder(embedder_config(manifest.embedder, "manifest.json.embedder", packaged_parts(manifest, __package__ or "")))
    load_weights(model, path)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions run up to twice as fast
    return model.eval()


def get_scene_embeddings(audio: Tensor, model: Embedder) -> Tensor:
    """Return one embedding per sound (n_sounds, model.scene_embedding_size) of audio (n_sounds, n_samples) in [-1, 1].

    Raises ValueError when the audio is not a tensor, has another number of dimensions, no samples or integer samples, or when the
    model is not float32. Audio far beyond [-1, 1] is embedded, with one warning per model.
    """
    with _embedding_mode(model):
        return model.scene(prepare(audio, model))


def get_timestamp_embeddings(audio: Tensor, model: Embedder) -> Tuple[Tensor, Tensor]:
    """Return embeddings (n_sounds, n_timestamps, model.timestamp_embedding_size) and their centres in ms.

    audio is (n_sounds, n_samples) in [-1, 1]. Raises ValueError and warns as `get_scene_embeddings` does.
    """
    with _embedding_mode(model):
        return model.timestamps(prepare(audio, model))


def prepare(audio: Tensor, model: Embedder) -> Tensor:
    """Return audio as float32 on the model's device. Raises ValueError and warns as `get_scene_embeddings` does."""
    if not isinstance(audio, Tensor):
        raise ValueError(f"audio is {type(audio).__module__}.{type(audio).__name__}; it must be a torch.Tensor: torch.from_numpy(array)")
    if audio.dim() != 2 or 0 in audio.shape:
        raise ValueError(f"audio has shape {tuple(audio.shape)}; it must be (n_sounds, n_samples) with at least one sample")
    if not audio.is_floating_point():
        raise ValueError(f"audio is {audio.dtype}; it must be floating point in [-1, 1]: divide 16-bit samples by 32768")
    weights = next(model.parameters())
    if weights.dtype != torch.float32:
        raise ValueError(f"the model is {weights.dtype}; embeddings are computed in torch.float32: call model.float()")
    audio = audio.detach().to(weights.device, torch.float32)
    if model not in _warned:
        peak = max(-float(audio.min()), float(audio.max()))  # without a copy of the audio
        if peak > LOUDEST:
            _warned.add(model)
            warnings.warn(f"audio has a peak of {peak:.6g}, but samples are in [-1, 1]: divide 16-bit samples by 32768", stacklevel=3)
    return audio


@contextmanager
def _embedding_mode(model: Embedder) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), no_autocast(next(model.parameters()).device):
            yield
    finally:
        for module, training in modes:
            module.training = training
