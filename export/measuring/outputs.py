"""Checks of what the functions return: shapes, values, and what they must not depend on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .rows import Row, Subject, found

SAMPLE_RATES = (16000, 22050, 32000, 44100, 48000)
TOLERANCE = 1e-4


def difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference relative to the largest value; infinite when shapes differ or a value is not finite."""
    if one.shape != other.shape or not (torch.isfinite(one).all() and torch.isfinite(other).all()):
        return float("inf")
    return float((one - other).abs().max() / one.abs().max().clamp_min(1e-6))


def model_attributes(subject: Subject) -> Row:
    """load_model returns a torch Module with sample_rate (16000, 22050, 32000, 44100 or 48000) and int embedding sizes."""
    model = subject.model
    sizes = [getattr(model, name, None) for name in ("scene_embedding_size", "timestamp_embedding_size")]
    passed = isinstance(model, nn.Module) and getattr(model, "sample_rate", None) in SAMPLE_RATES
    passed = passed and all(type(size) is int and size > 0 for size in sizes)
    return found(f"{type(model).__name__}, {getattr(model, 'sample_rate', 'no rate')} Hz, sizes {sizes[0]} and {sizes[1]}", passed)


def weights_path_is_used(subject: Subject) -> Row:
    """load_model(path) reads that file: a path that does not exist must raise."""
    try:
        subject.module.load_model("/nonexistent/weights.file")
    except Exception as error:  # whatever the module raises is right here
        return found(f"raises {type(error).__name__}", True)
    return found("loads without it: the path is ignored", False)


def scene_shape(subject: Subject) -> Row:
    """Scene embeddings are float32 of shape (n_sounds, scene_embedding_size)."""
    embeddings = subject.scene(subject.noise(2.74, 4))
    passed = tuple(embeddings.shape) == (4, subject.model.scene_embedding_size) and embeddings.dtype == torch.float32
    return found(f"{tuple(embeddings.shape)} {embeddings.dtype} for 4 x 2.74 s", passed)


def timestamp_shape(subject: Subject) -> Row:
    """Timestamp embeddings are float32 (n_sounds, n_timestamps, size), timestamps float32 (n_sounds, n_timestamps)."""
    shapes, passed = [], True
    for seconds in (1.07, 1.98, 4.0):
        embeddings, timestamps_ms = subject.timestamps(subject.noise(seconds, 2))
        shapes.append(f"{tuple(embeddings.shape)}")
        passed = passed and embeddings.dim() == 3 and timestamps_ms.dim() == 2 and embeddings.shape[:2] == timestamps_ms.shape
        passed = passed and embeddings.shape[0] == 2 and embeddings.shape[2] == subject.model.timestamp_embedding_size
        passed = passed and embeddings.dtype == timestamps_ms.dtype == torch.float32
    return found(", ".join(shapes) + " for 1.07, 1.98, 4.0 s", passed)


def any_length(subject: Subject) -> Row:
    """Audio of any length is taken, from one sample up, alone in its batch."""
    rate, bad = subject.model.sample_rate, []
    lengths = [1, 2, rate // 100, rate // 20, rate // 10, rate // 2, 3 * rate + 1, 12 * rate]
    for samples in lengths:
        audio = subject.noise(13.0)[:, :samples]
        try:
            scene, (embeddings, timestamps_ms) = subject.scene(audio), subject.timestamps(audio)
            fits = scene.shape == (1, subject.model.scene_embedding_size) and embeddings.shape[:2] == timestamps_ms.shape
            if not fits or embeddings.shape[1] < 1:
                bad.append(f"{samples}: shapes {tuple(scene.shape)}, {tuple(embeddings.shape)}")
        except Exception as error:  # the length at which a module breaks is the finding
            bad.append(f"{samples}: {type(error).__name__}")
    return found("; ".join(bad) or f"{lengths[0]} to {lengths[-1]} samples", not bad)


def finite_values(subject: Subject) -> Row:
    """No NaN or infinity on noise, silence, full scale, a constant or a click."""
    noise = subject.noise(1.0)
    click = torch.zeros_like(noise)
    click[:, 100] = 1.0
    sounds = {
        "noise": noise,
        "silence": noise * 0,
        "full scale": noise.sign(),
        "constant": noise * 0 + 1,
        "click": click,
        "very quiet": noise * 1e-7,
    }
    bad = []
    for name, audio in sounds.items():
        if not (torch.isfinite(subject.scene(audio)).all() and torch.isfinite(subject.timestamps(audio)[0]).all()):
            bad.append(name)
    return found(f"not finite: {', '.join(bad)}" if bad else f"finite on {', '.join(sounds)}", not bad)


def depends_on_input(subject: Subject) -> Row:
    """Different sounds have different embeddings."""
    rate = subject.model.sample_rate
    tone = torch.sin(torch.arange(rate).double() * 6.2831853 * 440.0 / rate).float()[None] * 0.5
    scene = difference(subject.scene(tone), subject.scene(subject.noise(1.0)))
    frames = difference(subject.timestamps(tone)[0], subject.timestamps(subject.noise(1.0))[0])
    return found(f"tone against noise: scene {scene:.3g}, timestamps {frames:.3g} apart (relative)", min(scene, frames) > 1e-3)


def same_input_same_output(subject: Subject) -> Row:
    """The same sound gives the same embedding each time, whatever came between: no dropout, no state."""
    audio = subject.noise(1.5, 2)
    first, first_frames = subject.scene(audio), subject.timestamps(audio)[0]
    subject.scene(subject.noise(0.7, 3, seed=5))
    apart = max(difference(first, subject.scene(audio)), difference(first_frames, subject.timestamps(audio)[0]))
    return found(f"{apart:.2g} apart (relative)", apart <= 1e-5)


def evaluation_mode(subject: Subject) -> Row:
    """Embeddings are those of evaluation mode, though the evaluation kit never calls eval()."""
    audio = subject.noise(1.5, 2)
    as_given = subject.scene(audio)
    modes = [(module, module.training) for module in subject.model.modules()]
    subject.model.eval()
    apart = difference(as_given, subject.scene(audio))
    for module, training in modes:
        module.training = training
    return found(f"{apart:.2g} apart from eval() (relative)", apart <= 1e-5)


def alone_as_in_a_batch(subject: Subject) -> Row:
    """A sound has the same embedding alone and beside others: no statistics over the batch."""
    audio = subject.noise(1.5, 4) * torch.tensor([[1.0], [0.1], [0.01], [0.5]])
    together, frames = subject.scene(audio), subject.timestamps(audio)[0]
    apart = max(difference(subject.scene(audio[row : row + 1]), together[row : row + 1]) for row in range(4))
    apart = max(apart, max(difference(subject.timestamps(audio[row : row + 1])[0], frames[row : row + 1]) for row in range(4)))
    return found(f"{apart:.2g} apart (relative), tolerance {TOLERANCE:g}", apart <= TOLERANCE)


def input_is_not_changed(subject: Subject) -> Row:
    """The audio given is never written to."""
    audio = subject.noise(1.0, 2)
    before = audio.clone()
    subject.scene(audio)
    subject.timestamps(audio)
    return found("unchanged" if torch.equal(audio, before) else "changed in place", torch.equal(audio, before))


def no_gradient(subject: Subject) -> Row:
    """Embeddings carry no gradient, with gradients enabled by the caller: 20 minutes would keep every activation."""
    with torch.enable_grad():
        scene, frames = subject.scene(subject.noise(0.5)), subject.timestamps(subject.noise(0.5))[0]
    return found(
        "none" if not (scene.requires_grad or frames.requires_grad) else "outputs require grad",
        not (scene.requires_grad or frames.requires_grad),
    )


CHECKS = [
    model_attributes,
    weights_path_is_used,
    scene_shape,
    timestamp_shape,
    any_length,
    finite_values,
    depends_on_input,
    same_input_same_output,
    evaluation_mode,
    alone_as_in_a_batch,
    input_is_not_changed,
    no_gradient,
]
