"""Every kind of sound is finite, audible, unclipped, reproducible and unlike the others; phrases and rooms have their times."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_predict

from hear_ssl.model.frontend import FrontendConfig, LogMel
from hear_ssl.synthesis.parameter_space import Array, decode
from hear_ssl.synthesis.scene import KINDS, PHRASE, layout_of, pattern, render, render_note, room_response
from hear_ssl.synthesis.tones import Note
from tests.synthesis.measure import RATE, decay_rate

FRONTEND = LogMel(FrontendConfig())


def log_mel_texture(waveform: Array) -> Array:
    """Return statistics of a log-mel spectrogram that do not depend on level: shape, spread, change in time and across bands."""
    with torch.no_grad():
        features = FRONTEND(torch.from_numpy(waveform)[None], 1)[0].numpy()  # (n_mels, frames)
    shape = features.mean(axis=1)
    motion, relief = np.abs(np.diff(features, axis=1)).mean(axis=1), np.abs(np.diff(features, axis=0)).mean(axis=1)
    return np.concatenate([shape - shape.mean(), features.std(axis=1), motion, relief])


def short(kind: str, rng: np.random.Generator) -> Array:
    """Draw a vector of a kind whose clip lasts at most 3 s."""
    parameters = rng.random(len(layout_of(kind)))
    parameters[0] *= 1 / 6
    return parameters


@cache
def sample_of(kind: str) -> list[Array]:
    """Render a few short clips of a kind."""
    rng = np.random.default_rng(11)
    return [render(kind, short(kind, rng), seed) for seed in range(16)]


@pytest.mark.parametrize("kind", [*KINDS, "voice+rain"])
def test_clips_are_finite_audible_and_unclipped(kind: str) -> None:
    for waveform in sample_of(kind):
        assert waveform.dtype == np.float32
        assert waveform.ndim == 1
        assert 2.0 <= len(waveform) / RATE <= 3.0
        assert np.isfinite(waveform).all()
        assert 10 ** (-24.01 / 20) <= np.abs(waveform).max() <= 0.9
        assert np.abs(waveform.mean()) < 0.02


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("corner", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_corners_of_the_space_render_at_any_rate(kind: str, corner: float, rate: int) -> None:
    parameters = np.full(len(layout_of(kind)), corner)
    parameters[0] = 0.0
    waveform = render(kind, parameters, 0, rate)
    assert len(waveform) == 2 * rate
    assert np.isfinite(waveform).all()
    assert 0.05 < np.abs(waveform).max() <= 0.9


@settings(max_examples=25, deadline=None)
@given(kind=st.sampled_from(list(KINDS)), corners=st.integers(0, 2**40), seed=st.integers(0, 2**62))
def test_extreme_vectors_render(kind: str, corners: int, seed: int) -> None:
    parameters = np.array([float(corners >> index & 1) for index in range(len(layout_of(kind)))])
    parameters[0] = 0.0
    waveform = render(kind, parameters, seed)
    assert np.isfinite(waveform).all()
    assert 0.05 < np.abs(waveform).max() <= 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_same_arguments_same_sound_and_another_seed_another_noise(kind: str) -> None:
    parameters = short(kind, np.random.default_rng(5))
    first = render(kind, parameters, 7)
    assert np.array_equal(first, render(kind, parameters, 7))
    assert not np.array_equal(first, render(kind, parameters, 8))


@pytest.mark.parametrize(
    ("kind", "parameters", "words"),
    [
        ("piano", [0.5], "unknown kind of sound 'piano'"),
        ("voice+voice+voice", [0.5], "unknown kind"),
        ("voice", [0.5] * 3, "has 37 parameters"),
        ("voice", [1.5] * 37, r"must lie in \[0, 1\]"),
        ("voice", [float("nan")] * 37, r"must lie in \[0, 1\]"),
    ],
)
def test_wrong_vectors_are_refused(kind: str, parameters: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        render(kind, parameters, 0)


@pytest.mark.slow
def test_kinds_differ() -> None:
    features = np.stack([log_mel_texture(waveform) for kind in KINDS for waveform in sample_of(kind)])
    labels = np.repeat(list(KINDS), len(sample_of("voice")))
    guessed = cross_val_predict(RandomForestClassifier(200, random_state=0), features, labels, cv=4)
    assert np.mean(guessed == labels) > 0.25  # chance is 0.1


@pytest.mark.slow
def test_spectra_and_levels_are_diverse() -> None:
    clips = [waveform for kind in KINDS for waveform in sample_of(kind)]
    centroids, flatness, crest, peaks = [], [], [], []
    for waveform in clips:
        power = np.square(np.abs(np.fft.rfft(waveform))) + 1e-9
        frequencies = np.fft.rfftfreq(len(waveform), 1 / RATE)
        centroids.append(float(np.sum(frequencies * power) / np.sum(power)))
        flatness.append(float(10 * np.log10(np.exp(np.log(power).mean()) / power.mean())))
        crest.append(float(20 * np.log10(np.abs(waveform).max() / waveform.std())))
        peaks.append(float(20 * np.log10(np.abs(waveform).max())))
    low, high = np.percentile(centroids, [10, 90])
    assert low < 500 < 2000 < high
    low, high = np.percentile(flatness, [10, 90])
    assert low < -35 < -10 < high
    low, high = np.percentile(crest, [10, 90])
    assert low < 12 < 22 < high
    assert min(peaks) < -20 < -4 < max(peaks)


@pytest.mark.parametrize("kind", ["string", "struck", "drum", "fm"])
def test_a_note_starts_at_its_onset(kind: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        values = {c.name: c.value(float(rng.random())) for c in KINDS[kind][0]} | {"attack": 0.005}
        sound = np.abs(render_note(kind, values, Note(60.0, 0.4, RATE, RATE, rng)))
        assert np.flatnonzero(sound > 0.05 * sound[:1600].max())[0] < 0.005 * RATE


def test_phrases_sound_on_their_grid() -> None:
    values = decode(PHRASE, np.full(len(PHRASE), 0.5)) | {"rate_hz": 4.0, "swing": 0.0, "filled": 1.0, "lead": 0.1, "seconds": 3.0}
    onsets = [onset for onset, *_ in pattern(values, continuous=False)]
    np.testing.assert_allclose(onsets, 0.1 + 0.25 * np.arange(12))
    assert len(pattern(values | {"filled": 0.5}, continuous=False)) == pytest.approx(6, abs=1)
    assert pattern(values | {"filled": 0.5}, continuous=True) == [(0.1, 0.0, 1.0, pytest.approx(2.9))]


def test_room_tail_falls_by_60_db_in_its_reverberation_time() -> None:
    tail = room_response(0.8, RATE, np.random.default_rng(4))
    low = np.fft.rfft(tail)
    low[np.fft.rfftfreq(len(tail), 1 / RATE) > 300.0] = 0.0
    assert decay_rate(np.fft.irfft(low)[: round(0.6 * RATE)]) == pytest.approx(75.0, rel=0.15)
    assert decay_rate(tail[: round(0.3 * RATE)]) > 75.0
    assert np.sum(tail**2) == pytest.approx(1.0, rel=1e-3)
