"""Modules that are wrong in one thing each, and the check that must find it: faults that the official validator passes, and others."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.packaging.naive import DIM, HOP, RATE, WINDOW, Naive, Right

Frames = Callable[[Tensor, Tensor, Naive], Tensor]


def variant(**methods: Callable[..., Any]) -> Right:
    """Return a Right with methods of one instance replaced; each gets the right module first."""
    right, wrong = Right(), Right()
    for name, method in methods.items():
        setattr(wrong, name, lambda *a, method=method, **k: method(right, *a, **k))
    return wrong


def on_frames(change: Frames) -> Right:
    """Return a module whose frames are changed by change(frames, audio, model)."""
    return frames_by(lambda right, audio, model: change(right.frames(audio, model), audio, model))


def frames_by(frames: Callable[[Right, Tensor, Naive], Tensor]) -> Right:
    """Return a module that makes its frames otherwise."""
    wrong, right = Right(), Right()
    wrong.frames = lambda audio, model: frames(right, audio, model)  # type: ignore[method-assign]
    return wrong


def on_timestamps(change: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Right:
    """Return a module whose frames and timestamps are changed by change(frames, times, audio)."""
    return variant(get_timestamp_embeddings=lambda right, audio, model: change(*right.get_timestamp_embeddings(audio, model), audio))


def on_times(change: Callable[[Tensor], Tensor]) -> Right:
    """Return a module whose timestamps are changed."""
    return on_timestamps(lambda frames, times, audio: (frames, change(times)))


def with_rows(rows: Callable[[int], slice]) -> Right:
    """Return a module that keeps some of its timestamps."""
    return on_timestamps(lambda frames, times, audio: (frames[:, rows(times.shape[1])], times[:, rows(times.shape[1])]))


def on_model(change: Callable[[Naive], None]) -> Right:
    """Return a module whose loaded model is changed."""

    def load(right: Right, model_file_path: str = "") -> Naive:
        model = right.load_model(model_file_path)
        change(model)
        return model

    return variant(load_model=load)


def with_attributes(**attributes: Any) -> Right:
    """Return a module whose model has other attributes."""
    return on_model(lambda model: model.__dict__.update(attributes))


def only(allowed: Callable[[Tensor], bool]) -> Right:
    """Return a module that fails where the audio is not allowed."""

    def checked(right: Right, audio: Tensor, model: Naive) -> Tensor:
        if not allowed(audio):
            raise RuntimeError("unexpected audio")
        return right.frames(audio, model)

    return frames_by(checked)


def batch_statistics(frames: Tensor, audio: Tensor, model: Naive) -> Tensor:
    """Subtract the mean of the batch, where there is more than one sound."""
    return frames - frames.mean((0, 1)) * (len(frames) > 1)


def top_db(frames: Tensor, audio: Tensor, model: Naive) -> Tensor:
    """Raise everything to 5 below the maximum of the whole batch."""
    return torch.maximum(frames, frames.amax() - 5.0)


def remembers(frames: Tensor, audio: Tensor, model: Naive) -> Tensor:
    """Add something of the calls before."""
    model.calls += 1
    return frames + 0.01 * model.calls


def changes_input(right: Right, audio: Tensor, model: Naive) -> Tensor:
    """Scale the audio in place."""
    frames = right.frames(audio, model)
    audio.mul_(0.5)
    return frames


def earlier(right: Right, audio: Tensor, model: Naive) -> Tensor:
    """Return frames of audio that comes 50 ms early."""
    return right.frames(F.pad(audio, (0, 800))[:, 800:], model)


def without_remainder(right: Right, audio: Tensor, model: Naive) -> Tensor:
    """Cut off what is left of the last hop: everything, when nothing is."""
    return right.frames(audio[:, : -(audio.shape[1] % HOP)], model)


def uneven(right: Right, audio: Tensor, model: Naive) -> Tensor:
    """Return frames of a window that begins where the frame should be centred."""
    return right.frames(F.pad(audio, (0, WINDOW // 2))[:, WINDOW // 2 :], model)


def late(frames: Tensor, times: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Report 49 ms too late, and nothing past the end."""
    inside = times[0] + 49.0 <= audio.shape[1] * 1000.0 / RATE
    inside[0] = True
    return frames[:, inside], times[:, inside] + 49.0


def padded_to_a_second(frames: Tensor, times: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Return as many timestamps as a clip of one second has, if it is shorter."""
    after = max(RATE // HOP + 1 - times.shape[1], 0)
    return F.pad(frames, (0, 0, 0, after)), (torch.arange(times.shape[1] + after) * 25.0).repeat(len(times), 1)


def padded(before: int, after: int) -> Right:
    """Return a module with frames, at right times, before the clip or after its end."""

    def change(frames: Tensor, times: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        ticks = torch.arange(-before, times.shape[1] + after) * 25.0
        return F.pad(frames, (0, 0, before, after)), ticks.repeat(len(times), 1)

    return on_timestamps(change)


def jitter(times: Tensor) -> Tensor:
    """Return times that are up to 0.9 ms early."""
    return times - 0.9 * torch.linspace(0, 40, times.shape[1]).sin() ** 2


def in_training_mode(model: Naive) -> None:
    """Leave the model in training mode, with a dropout that acts there."""
    model.train()
    plain = model.forward
    model.forward = lambda audio: model.dropout(plain(audio))  # type: ignore[method-assign]


def downloads_here(right: Right, model_file_path: str = "") -> Naive:
    """Leave a file in the working directory."""
    Path("weights.pt").write_text("downloaded")
    return right.load_model(model_file_path)


def squeezed(right: Right, audio: Tensor, model: Naive) -> Tensor:
    """Squeeze away a batch of one."""
    return right.get_scene_embeddings(audio, model).squeeze()


NAN_ON_SILENCE: Frames = lambda frames, audio, model: frames * (audio.abs().amax(1) / audio.abs().amax(1))[:, None, None]  # noqa: E731
WRONG: dict[str, tuple[Right, str]] = {
    "not a module": (variant(load_model=lambda right, path="": right.load_model(path).eval() and Plain()), "torch module"),
    "rate not allowed": (with_attributes(sample_rate=24000), "sample rate allowed"),
    "size no int": (with_attributes(scene_embedding_size=float(DIM)), "sizes are ints"),
    "path ignored": (variant(load_model=lambda right, path="": right.load_model()), "weights path is used"),
    "path only looked for": (variant(load_model=lambda right, path="": Path(path).stat() and right.load_model()), "weights path is used"),
    "scene size wrong": (with_attributes(scene_embedding_size=DIM + 1), "scene shape"),
    "timestamp size wrong": (with_attributes(timestamp_embedding_size=DIM + 1), "timestamp shape"),
    "squeezed at batch 1": (variant(get_scene_embeddings=squeezed), "batch of one"),
    "float64": (on_frames(lambda frames, audio, model: frames.double()), "embeddings are float32"),
    "int64 times": (on_times(lambda times: times.long()), "timestamps are float32"),
    "NaN": (on_frames(lambda frames, audio, model: frames * float("nan")), "finite on sound"),
    "NaN on silence": (on_frames(NAN_ON_SILENCE), "finite on silence"),
    "fails on silence": (only(lambda audio: bool(audio.abs().max() > 0)), "finite on silence"),
    "fails below 100 ms": (only(lambda audio: audio.shape[1] >= 1600), "below one second"),
    "fails below 1 s": (only(lambda audio: audio.shape[1] >= 16000), "below one second"),
    "fails above 5 s": (only(lambda audio: audio.shape[1] <= 80000), "above five seconds"),
    "remainder of 0 dropped": (frames_by(without_remainder), "multiples of the hop"),
    "training mode": (on_model(in_training_mode), "evaluation mode"),
    "random": (on_frames(lambda frames, audio, model: torch.randn_like(frames)), "same input same output"),
    "dropout left on": (on_frames(lambda frames, audio, model: F.dropout(frames, 0.5, training=True)), "same input same output"),
    "state between calls": (on_frames(remembers), "no state between calls"),
    "constant": (on_frames(lambda frames, audio, model: torch.ones_like(frames)), "depends on input"),
    "statistics over the batch": (on_frames(batch_statistics), "alone as in a batch"),
    "top_db over the batch": (on_frames(top_db), "alone as in a batch"),
    "input changed in place": (frames_by(changes_input), "input is not changed"),
    "gradient kept": (frames_by(lambda right, audio, model: model(audio)), "no gradient"),
    "a single timestamp": (with_rows(lambda count: slice(0, 1)), "several timestamps"),
    "descending": (on_times(lambda times: times.flip(1)), "timestamps ascend"),
    "seconds": (on_times(lambda times: times / 1000.0), "timestamps in milliseconds"),
    "samples": (on_times(lambda times: times * RATE / 1000.0), "timestamps in milliseconds"),
    "jitter of 0.9 ms": (
        on_times(lambda times: times - 0.9 * torch.linspace(0, 40, times.shape[1]).sin() ** 2),
        "timestamps evenly spaced",
    ),
    "times differ in a batch": (on_times(lambda times: times + 0.5 * torch.arange(len(times))[:, None]), "same timestamps in a batch"),
    "negative": (padded(1, 0), "no timestamp before zero"),
    "past the end": (padded(0, 1), "no timestamp past the end"),
    "past the end of short clips": (on_timestamps(padded_to_a_second), "no timestamp past the end"),
    "first second missing": (with_rows(lambda count: slice(min(40, count - 3), None)), "starts at the start"),
    "last second missing": (with_rows(lambda count: slice(0, max(3, count - 40))), "reaches the end"),
    "hop of 500 ms": (with_rows(lambda count: slice(0, None, 20)), "hop at most 50 ms"),
    "steps that add up": (on_times(lambda times: times + 5.0 * (times / 180000.0) ** 4), "timestamps do not drift"),
    "49 ms late": (on_timestamps(late), "bursts lie at their timestamps"),
    "49 ms early": (on_times(lambda times: times - 49.0), "bursts lie at their timestamps"),
    "content 50 ms early": (frames_by(earlier), "bursts lie at their timestamps"),
    "not centred": (frames_by(uneven), "bursts lie at their timestamps"),
    "hop rounded by 1 in 50000": (on_times(lambda times: times * (1.0 - 1.0 / 50000.0)), "late bursts lie at their timestamps"),
}
SEVERAL = {  # faults that break more than one rule whatever one does
    "49 ms early": {"no timestamp before zero", "reaches the end"},
    "steps that add up": {"late bursts lie at their timestamps"},
}


class Plain:
    """A model that is no torch Module."""

    sample_rate, scene_embedding_size, timestamp_embedding_size = RATE, DIM, DIM

    def __init__(self) -> None:
        self.model = Naive().eval()

    def __call__(self, audio: Tensor) -> Any:
        """Return frames."""
        return self.model(audio)

    def modules(self) -> Any:
        """Return the modules inside."""
        return self.model.modules()

    def eval(self) -> None:
        """Be in evaluation mode."""


def fresh(module: Right) -> Right:
    """Return a copy that shares no state with other tests."""
    return copy.copy(module)
