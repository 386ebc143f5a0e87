"""Check the outputs of the functions: attributes, shapes, types and values, for all lengths of audio."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Dict, Sequence

import torch
from torch import Tensor, nn

from .rows import Check, RuleResult, Submission, found

SAMPLE_RATES = (16000, 22050, 32000, 44100, 48000)


def torch_module(submission: Submission) -> RuleResult:
    """load_model returns a torch.nn.Module.

    The evaluation kit calls .to(device) on it.
    """
    return found(type(submission.model).__name__, isinstance(submission.model, nn.Module))


def sample_rate_allowed(submission: Submission) -> RuleResult:
    """model.sample_rate is 16000, 22050, 32000, 44100 or 48000.

    Tasks come resampled to these; 32000 is not on the page of rules but in the official validator.
    """
    rate = getattr(submission.model, "sample_rate", None)
    return found(f"{rate} Hz", rate in SAMPLE_RATES)


def sizes_are_ints(submission: Submission) -> RuleResult:
    """model.scene_embedding_size and model.timestamp_embedding_size are positive ints.

    The evaluation kit builds its predictor with them.
    """
    sizes = [getattr(submission.model, name, None) for name in ("scene_embedding_size", "timestamp_embedding_size")]
    return found(f"{sizes[0]} and {sizes[1]}", all(type(size) is int and size > 0 for size in sizes))


def weights_path_is_used(submission: Submission) -> RuleResult:
    """load_model(path) reads that file: one that does not exist must raise, and so must one that holds no weights.

    If the path is ignored, other weights are evaluated than those submitted.
    """
    raised = []
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "weights.file"
        empty.write_bytes(bytes(64))
        for path, what in ((empty.with_name("missing"), "a missing file"), (empty, "64 zero bytes")):
            try:
                submission.module.load_model(str(path))
            except Exception as error:  # any error of the module is correct here
                raised.append(f"{type(error).__name__} for {what}")
            else:
                return found(f"loads with {what}: the path is ignored", False)
    return found(", ".join(raised), True)


def scene_shape(submission: Submission) -> RuleResult:
    """Scene embeddings have shape (n_sounds, scene_embedding_size)."""
    shape = tuple(submission.scene(submission.noise(2.74, 4)).shape)
    return found(f"{shape} for 4 x 2.74 s", shape == (4, submission.model.scene_embedding_size))


def timestamp_shape(submission: Submission) -> RuleResult:
    """Timestamp embeddings have shape (n_sounds, n_timestamps, timestamp_embedding_size), timestamps (n_sounds, n_timestamps)."""
    shapes, passed = [], True
    for seconds in (1.07, 1.98, 4.0):
        embeddings, timestamps_ms = submission.timestamps(submission.noise(seconds, 2))
        shapes.append(f"{tuple(embeddings.shape)} and {tuple(timestamps_ms.shape)}")
        passed = passed and embeddings.dim() == 3 and embeddings.shape[:2] == timestamps_ms.shape and embeddings.shape[0] == 2
        passed = passed and embeddings.shape[-1] == submission.model.timestamp_embedding_size
    return found(", ".join(shapes) + " for 2 x 1.07, 1.98, 4.0 s", passed)


def batch_of_one(submission: Submission) -> RuleResult:
    """A single sound keeps its dimension: (1, size) and (1, n_timestamps, size).

    squeeze() removes it, and the last batch of a task often has one sound.
    """
    audio = submission.noise(1.5)
    scene, (embeddings, timestamps_ms) = submission.scene(audio), submission.timestamps(audio)
    dimensions = (scene.dim(), embeddings.dim(), timestamps_ms.dim())
    return found(f"{dimensions[0]}, {dimensions[1]} and {dimensions[2]} dimensions", dimensions == (2, 3, 2))


def embeddings_are_float32(submission: Submission) -> RuleResult:
    """Embeddings are float32."""
    types = (submission.scene(submission.noise(1.5, 2)).dtype, submission.timestamps(submission.noise(1.5, 2))[0].dtype)
    return found(f"{types[0]} and {types[1]}", types == (torch.float32, torch.float32))


def timestamps_are_float32(submission: Submission) -> RuleResult:
    """Timestamps are float32: integers round a hop to a millisecond."""
    kind = submission.timestamps(submission.noise(1.5, 2))[1].dtype
    return found(str(kind), kind == torch.float32)


def lengths(submission: Submission, seconds: Sequence[float], samples: Sequence[int] = ()) -> RuleResult:
    """Embed sounds of these lengths in batches of one and return a row that names the lengths that fail."""
    rate, bad = submission.model.sample_rate, []
    for length in [*samples, *(round(time * rate) for time in seconds)]:
        audio = submission.noise(length / rate + 1.0)[:, :length]
        try:
            scene, (embeddings, timestamps_ms) = submission.scene(audio), submission.timestamps(audio)
        except Exception as error:  # the length at which a module fails is the measurement
            bad.append(f"{length} samples: {type(error).__name__}")
            continue
        whole = bool(torch.isfinite(scene).all() and torch.isfinite(embeddings).all())
        if not whole or 0 in scene.shape or timestamps_ms.numel() < 1 or embeddings.numel() % timestamps_ms.numel():
            bad.append(f"{length} samples: {'' if whole else 'not finite, '}shapes {tuple(scene.shape)}, {tuple(embeddings.shape)}")
    return found("; ".join(bad) or ", ".join([*map(str, samples), *(f"{time:g} s" for time in seconds)]), not bad)


def below_one_second(submission: Submission) -> RuleResult:
    """Sounds shorter than a second are embedded, down to one sample.

    FSD50K and the percussion tasks have clips of 0.1 to 0.8 s; the official validator tries none below 1.07 s.
    """
    return lengths(submission, (0.01, 0.05, 0.1, 0.5, 0.9), samples=(1, 2))


def above_five_seconds(submission: Submission) -> RuleResult:
    """Sounds longer than five seconds are embedded.

    Clips of 10 to 120 s are common, 10 minutes occur; the official validator tries none above 4 s.
    """
    return lengths(submission, (5.5, 12.0, 31.0))


def multiples_of_the_hop(submission: Submission) -> RuleResult:
    """Sounds whose length is a multiple of the hop are embedded to the end: one more sample gives as many timestamps, or one more.

    audio[:, :-remainder] is empty when the remainder is 0.
    """
    times_ms = submission.timestamps(submission.noise(4.0))[1].reshape(-1).cpu().double()
    hop_ms = float(times_ms[-1] - times_ms[0]) / max(len(times_ms) - 1, 1)
    hop, bad = round(hop_ms * submission.model.sample_rate / 1000.0), []
    if hop < 1:
        return found(f"a hop of {hop_ms:.4g} ms is less than a sample", None)
    count = submission.model.sample_rate // hop + 1
    for length in (count * hop, (2 * count + 1) * hop):
        audio = submission.noise(length / submission.model.sample_rate + 1.0)[:, : length + 1]
        more, exact = (submission.timestamps(audio[:, :samples])[1].numel() for samples in (length + 1, length))
        if not 0 <= more - exact <= 1:
            bad.append(f"{length} samples have {exact} timestamps, {length + 1} have {more}")
    return found("; ".join(bad) or f"{count} and {2 * count + 1} hops of {hop} samples", not bad)


def kinds_of_sound(submission: Submission) -> Dict[str, Tensor]:
    """Return sounds (1, time) of one second that often cause values that are not finite."""
    noise = submission.noise(1.1)
    click = torch.zeros_like(noise)
    click[:, 100] = 1.0
    return {
        "noise": noise,
        "full scale": noise.sign(),
        "a constant": noise * 0 + 1,
        "very quiet noise": noise * 1e-7,
        "a click in silence": click,
    }


def finite_on_sound(submission: Submission) -> RuleResult:
    """No NaN or infinity on noise, full scale, a constant, very quiet noise or a click."""
    sounds = kinds_of_sound(submission)
    bad = [
        name
        for name, audio in sounds.items()
        if not (torch.isfinite(submission.scene(audio)).all() and torch.isfinite(submission.timestamps(audio)[0]).all())
    ]
    return found(f"not finite: {', '.join(bad)}" if bad else f"finite on {', '.join(sounds)}", not bad)


def finite_on_silence(submission: Submission) -> RuleResult:
    """Silence is embedded without NaN or infinity.

    Padded clips contain digital silence, where a division by the level or its logarithm is not finite.
    """
    silence = submission.noise(1.5) * 0
    finite = torch.isfinite(submission.scene(silence)).all() and torch.isfinite(submission.timestamps(silence)[0]).all()
    return found("finite" if finite else "not finite", bool(finite))


CHECKS = [
    Check(torch_module),
    Check(sample_rate_allowed),
    Check(sizes_are_ints),
    Check(weights_path_is_used),
    Check(scene_shape, (sizes_are_ints,)),
    Check(timestamp_shape, (sizes_are_ints,)),
    Check(batch_of_one),
    Check(embeddings_are_float32),
    Check(timestamps_are_float32),
    Check(finite_on_sound),
    Check(finite_on_silence, (finite_on_sound,)),
    Check(below_one_second, (finite_on_sound,)),
    Check(above_five_seconds, (finite_on_sound,)),
    Check(multiples_of_the_hop, (finite_on_sound,)),
]
