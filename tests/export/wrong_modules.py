"""A right HEAR module, hearbaseline's naive design written anew, and modules that are wrong in one thing each.

The right one: log-mel frames centred on every 25 ms, projected at random; the scene is their mean.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hear_ssl.runtime.frontend import mel_filters
from hear_ssl.runtime.settings import FrontendConfig

RATE, HOP, WINDOW, DIM = 16000, 400, 1024, 32


class Naive(nn.Module):
    """Log-mel and a fixed random projection."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.sample_rate: Any = RATE
        self.scene_embedding_size: Any = DIM
        self.timestamp_embedding_size: Any = DIM
        config = FrontendConfig(n_fft=WINDOW, win_length=WINDOW, hop_length=HOP, n_mels=64)
        self.register_buffer("filters", mel_filters(config))
        self.projection = nn.Parameter(torch.randn(64, DIM, generator=generator))
        self.dropout, self.norm = nn.Dropout(0.5), nn.BatchNorm1d(DIM)
        self.calls = 0

    def forward(self, audio: Tensor) -> Tensor:
        """Return frames (batch, frames, DIM) of audio (batch, time)."""
        count = audio.shape[1] // HOP + 1
        padded = F.pad(audio, (WINDOW // 2, WINDOW // 2 + HOP))
        frames = padded.unfold(1, WINDOW, HOP)[:, :count] * torch.hann_window(WINDOW)
        power = torch.fft.rfft(frames).abs().square()
        return torch.log(power @ self.filters + 1e-5) @ self.projection / 8.0


class Right:
    """The three functions of the API; wrong modules override one."""

    def load_model(self, model_file_path: str = "") -> Naive:
        """Return the model; a path that is not there raises."""
        if model_file_path:
            open(model_file_path, "rb").close()
        return Naive().eval()

    def frames(self, audio: Tensor, model: Naive) -> Tensor:
        """Return frames without gradient."""
        with torch.no_grad():
            return model(audio)

    def times(self, audio: Tensor, count: int) -> Tensor:
        """Return the centres of `count` frames in ms (batch, count)."""
        return (torch.arange(count, dtype=torch.float64) * HOP * 1000.0 / RATE).float().expand(audio.shape[0], -1).contiguous()

    def get_scene_embeddings(self, audio: Tensor, model: Naive) -> Tensor:
        """Return the mean frame."""
        return self.frames(audio, model).mean(1)

    def get_timestamp_embeddings(self, audio: Tensor, model: Naive) -> tuple[Tensor, Tensor]:
        """Return frames and their times."""
        frames = self.frames(audio, model)
        return frames, self.times(audio, frames.shape[1])


def variant(**methods: Callable[..., Any]) -> Right:
    """Return a Right with methods of one instance replaced; each gets the right module first."""
    right, wrong = Right(), Right()
    for name, method in methods.items():
        setattr(wrong, name, lambda *a, method=method, **k: method(right, *a, **k))
    return wrong


def on_frames(change: Callable[[Tensor, Tensor, Naive], Tensor]) -> Right:
    """Return a module whose frames are changed by change(frames, audio, model)."""
    return variant_with_frames(lambda right, audio, model: change(right.frames(audio, model), audio, model))


def variant_with_frames(frames: Callable[[Right, Tensor, Naive], Tensor]) -> Right:
    """Return a module that makes its frames otherwise."""
    wrong, right = Right(), Right()
    wrong.frames = lambda audio, model: frames(right, audio, model)  # type: ignore[method-assign]
    return wrong


def on_times(change: Callable[[Tensor, Tensor], Tensor]) -> Right:
    """Return a module whose timestamps are changed by change(times, audio)."""

    def stamps(right: Right, audio: Tensor, model: Naive) -> tuple[Tensor, Tensor]:
        frames, times = right.get_timestamp_embeddings(audio, model)
        return frames, change(times, audio)

    return variant(get_timestamp_embeddings=stamps)


def on_model(change: Callable[[Naive], None]) -> Right:
    """Return a module whose loaded model is changed."""

    def load(right: Right, model_file_path: str = "") -> Naive:
        model = right.load_model(model_file_path)
        change(model)
        return model

    return variant(load_model=load)


def cut(frames: Tensor, times: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
    """Return some of the frames with their times."""
    return frames[:, rows].contiguous(), times[:, rows].contiguous()


def with_cut(rows: Callable[[int], slice]) -> Right:
    """Return a module that leaves frames out."""
    return variant(
        get_timestamp_embeddings=lambda right, audio, model: cut(
            *right.get_timestamp_embeddings(audio, model), rows(right.frames(audio, model).shape[1])
        )
    )


def only(allowed: Callable[[Tensor], bool]) -> Right:
    """Return a module that fails where the audio is not allowed."""

    def checked(frames: Tensor, audio: Tensor, model: Naive) -> Tensor:
        if not allowed(audio):
            raise RuntimeError("unexpected audio")
        return frames

    return on_frames(checked)


def batch_norm_in_training(frames: Tensor, audio: Tensor, model: Naive) -> Tensor:
    """Normalise by the statistics of the batch."""
    return F.batch_norm(frames.flatten(0, 1), None, None, training=True).reshape(frames.shape)


def remembers(frames: Tensor, audio: Tensor, model: Naive) -> Tensor:
    """Add something of the calls before."""
    model.calls += 1
    return frames + 0.01 * model.calls


def changes_input(right: Right, audio: Tensor, model: Naive) -> Tensor:
    """Scale the audio in place."""
    frames = right.frames(audio, model)
    audio.mul_(0.5)
    return frames


def drifting(times: Tensor, audio: Tensor) -> Tensor:
    """Return times that gain 10 ms a minute, as a rounded hop does."""
    return times * (1.0 - 10.0 / 60000.0)


def shifted_content(right: Right, audio: Tensor, model: Naive) -> Tensor:
    """Return frames of audio that comes 50 ms early."""
    return right.frames(F.pad(audio, (0, 800))[:, 800:], model)


def dropout(frames: Tensor, audio: Tensor, model: Naive) -> Tensor:
    """Leave dropout on."""
    return F.dropout(frames, 0.5, training=True)


def nan_on_silence(frames: Tensor, audio: Tensor, model: Naive) -> Tensor:
    """Divide by the level."""
    return frames * (audio.abs().amax(1) / audio.abs().amax(1))[:, None, None]


def top_db(frames: Tensor, audio: Tensor, model: Naive) -> Tensor:
    """Raise everything to 5 below the maximum of the whole batch."""
    return torch.maximum(frames, frames.max() - 5.0)


def undo_eval(model: Naive) -> None:
    """Leave the model in training mode, with a dropout that acts there."""
    model.train()
    plain = model.forward
    model.forward = lambda audio: model.dropout(plain(audio))  # type: ignore[method-assign]


def sizes(**attributes: Any) -> Right:
    """Return a module whose model has other attributes."""
    return on_model(lambda model: model.__dict__.update(attributes))


def squeezed(right: Right, audio: Tensor, model: Naive) -> Tensor:
    """Squeeze away a batch of one."""
    return right.get_scene_embeddings(audio, model).squeeze()


WRONG: dict[str, tuple[Right, str]] = {
    "NaN on silence": (on_frames(nan_on_silence), "finite values"),
    "NaN always": (on_frames(lambda frames, audio, model: frames * float("nan")), "finite values"),
    "constant": (on_frames(lambda frames, audio, model: torch.ones_like(frames)), "depends on input"),
    "random": (on_frames(lambda frames, audio, model: torch.randn_like(frames)), "same input same output"),
    "dropout left on": (on_frames(dropout), "same input same output"),
    "training mode": (on_model(undo_eval), "evaluation mode"),
    "state between calls": (on_frames(remembers), "same input same output"),
    "statistics over the batch": (on_frames(batch_norm_in_training), "alone as in a batch"),
    "top_db over the batch": (on_frames(top_db), "alone as in a batch"),
    "squeezed at batch 1": (variant(get_scene_embeddings=squeezed), "any length"),
    "fails below 100 ms": (only(lambda audio: audio.shape[1] >= 1600), "any length"),
    "fails above 5 s": (only(lambda audio: audio.shape[1] <= 80000), "any length"),
    "fails on silence": (only(lambda audio: bool(audio.abs().max() > 0)), "finite values"),
    "input changed in place": (variant_with_frames(changes_input), "input is not changed"),
    "gradient kept": (variant_with_frames(lambda right, audio, model: model(audio)), "no gradient"),
    "path ignored": (variant(load_model=lambda right, model_file_path="": right.load_model()), "weights path is used"),
    "scene size wrong": (sizes(scene_embedding_size=DIM + 1), "scene shape"),
    "timestamp size wrong": (sizes(timestamp_embedding_size=DIM + 1), "timestamp shape"),
    "size no int": (sizes(scene_embedding_size=float(DIM)), "model attributes"),
    "rate not allowed": (sizes(sample_rate=8000), "model attributes"),
    "float64": (on_frames(lambda frames, audio, model: frames.double()), "scene shape"),
    "seconds": (on_times(lambda times, audio: times / 1000.0), "timestamps cover clip"),
    "int64 times": (on_times(lambda times, audio: times.long()), "timestamp shape"),
    "descending": (on_times(lambda times, audio: times.flip(1)), "timestamps regular"),
    "negative": (on_times(lambda times, audio: times - 49.0), "timestamps cover clip"),
    "49 ms late": (on_times(lambda times, audio: times + 49.0), "timestamps cover clip"),
    "jitter of 0.9 ms": (on_times(lambda times, audio: times + 0.9 * torch.linspace(0, 40, times.shape[1]).sin()), "timestamps regular"),
    "times differ in a batch": (on_times(lambda times, audio: times + 0.5 * torch.arange(len(times))[:, None]), "timestamps regular"),
    "drift": (on_times(drifting), "late bursts lie at their timestamps"),
    "a single timestamp": (with_cut(lambda count: slice(0, 1)), "timestamps regular"),
    "hop of 500 ms": (with_cut(lambda count: slice(0, None, 20)), "hop at most 50 ms"),
    "last second missing": (with_cut(lambda count: slice(0, max(1, count - 40))), "timestamps cover clip"),
    "first second missing": (with_cut(lambda count: slice(min(40, count - 1), None)), "timestamps cover clip"),
    "content 50 ms early": (variant_with_frames(shifted_content), "bursts lie at their timestamps"),
}


def fresh(module: Right) -> Right:
    """Return a copy that shares no state with other tests."""
    return copy.copy(module)
