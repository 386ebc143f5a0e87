"""Every kind of sound is finite, audible, unclipped, repeatable and unlike the others; doppelgängers are nearer than strangers."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_predict

from hear_ssl.model.frontend import FrontendConfig, LogMel
from hear_ssl.synthesis.instruments import Corpus
from hear_ssl.synthesis.parameter_space import (
    Array,
    Coordinate,
    decode,
    held_out_region,
    is_held_out,
    perturb,
    training_region,
)
from hear_ssl.synthesis.scene import KINDS, PHRASE, PITCHED, SCORE, clip_seconds, layout_of, pattern, render, render_note
from hear_ssl.synthesis.sounds import formant_response
from hear_ssl.synthesis.tones import Note

RATE = 16000
FRONTEND = LogMel(FrontendConfig())


def log_mel_statistics(waveform: Array) -> Array:
    """Return the mean and the standard deviation of each log-mel band over time."""
    with torch.no_grad():
        features = FRONTEND(torch.from_numpy(waveform)[None], 1)[0]
    return torch.cat([features.mean(dim=1), features.std(dim=1)]).numpy()


def log_mel_texture(waveform: Array) -> Array:
    """Return what a log-mel spectrogram says of a sound whatever its level: shape, spread, change in time and across bands."""
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
    parameters = np.array([float(corners >> place & 1) for place in range(len(layout_of(kind)))])
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
        ("voice", [0.5] * 3, "takes 37 numbers"),
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


def mean_distance(delta: float, pairs: int = 24) -> tuple[float, float]:
    """Return the mean log-mel distance of doppelgängers, and of strangers."""
    corpus = Corpus(seed=2, delta=delta)
    both = np.array([[log_mel_statistics(w) for w in corpus.render(n)] for n in range(pairs)])  # (pairs, 2, features)
    between = np.linalg.norm(both[:, None, 0] - both[None, :, 1], axis=-1)
    return float(np.diag(between).mean()), float(between[~np.eye(pairs, dtype=bool)].mean())


@pytest.mark.slow
def test_doppelgangers_are_nearer_than_strangers_and_drift_apart_with_delta() -> None:
    pair, stranger = zip(*(mean_distance(delta) for delta in (0.0, 0.05, 0.25, 0.6)), strict=True)
    assert pair[0] < pair[1] < pair[2] < pair[3]
    assert pair[0] < 0.2 * stranger[0]
    assert pair[2] < 0.8 * stranger[2]


def test_perturbation_has_the_strength_delta_and_keeps_the_distribution() -> None:
    rng = np.random.default_rng(0)
    middle = np.full(20000, 0.5)
    assert np.std(perturb(middle, 0.1, rng) - middle) == pytest.approx(0.1, rel=0.03)
    moved = perturb(rng.random(100000), 0.4, rng)
    assert moved.min() >= 0.0
    assert moved.max() <= 1.0
    np.testing.assert_allclose(np.histogram(moved, 10, (0, 1))[0] / 10000, 1.0, atol=0.05)
    assert np.array_equal(perturb(middle, 0.0, rng), middle)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_no_training_coordinate_is_ever_held_out(u: float, v: float) -> None:
    assert not is_held_out(training_region(np.array([u])))[0]
    assert is_held_out(held_out_region(np.array([v])))[0]
    assert abs(float(training_region(np.array([u]))[0]) - float(held_out_region(np.array([v]))[0])) > 0.009 / 16


@pytest.mark.parametrize("coordinate", [Coordinate("a", -3.0, 9.0), Coordinate("b", 0.01, 4.0, log=True)])
def test_coordinates_map_both_ways(coordinate: Coordinate) -> None:
    assert coordinate.value(0.0) == pytest.approx(coordinate.low)
    assert coordinate.value(1.0) == pytest.approx(coordinate.high)
    assert coordinate.inverse(coordinate.value(0.3)) == pytest.approx(0.3)


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


def test_formants_move_with_the_tongue() -> None:
    frequencies = np.arange(100.0, 4000.0, 5.0)
    closed_front = formant_response(frequencies, np.array(0.0), np.array(1.0), 1.0)
    open_back = formant_response(frequencies, np.array(1.0), np.array(0.0), 1.0)
    assert frequencies[closed_front.argmax()] == pytest.approx(270.0, abs=20.0)
    assert frequencies[open_back.argmax()] == pytest.approx(830.0, abs=40.0)
    second = open_back[frequencies == 1150][0] / closed_front[frequencies == 1150][0]
    assert second > 4.0


def test_durations_and_kinds_of_the_corpus_vary() -> None:
    corpus = Corpus(seed=1)
    pairs = [corpus.pair(number) for number in range(400)]
    seconds = [clip_seconds(parameters) for pair in pairs for parameters in pair.parameters]
    assert min(seconds) < 2.2
    assert max(seconds) > 7.6
    assert {pair.kinds[0] for pair in pairs} >= set(KINDS)
    assert 0.2 < np.mean(["+" in pair.kinds[0] for pair in pairs]) < 0.4
    assert all(not is_held_out(parameters).any() for pair in pairs for parameters in pair.parameters)


def test_keeping_the_score_changes_everything_else() -> None:
    pairs = [Corpus(seed=1, keep="score").pair(number) for number in range(100)]
    for pair in pairs:
        first, second = (parameters[: len(PHRASE)] for parameters in pair.parameters)
        same = [coordinate.name for coordinate, a, b in zip(PHRASE, first, second, strict=True) if a == b]
        assert same == list(SCORE)
        assert set(pair.kinds) <= set(PITCHED)
    assert len({pair.kinds for pair in pairs}) > 15
    first, second = Corpus(seed=1, keep="score").render(3)
    assert len(first) == len(second)


def test_keeping_the_sound_changes_the_score_alone() -> None:
    for number in range(50):
        pair = Corpus(seed=1, delta=0.0, keep="sound").pair(number)
        layout = layout_of(pair.kinds[0])
        changed = [c.name for c, a, b in zip(layout, *pair.parameters, strict=True) if a != b]
        assert pair.kinds[0] == pair.kinds[1]
        assert changed
        assert set(changed) == set(SCORE)


def test_a_shared_score_is_heard_in_its_pitches() -> None:
    """The loudest pitch class of a pair's spectra agrees more often than that of strangers."""

    def chroma(waveform: Array) -> Array:
        power = np.abs(np.fft.rfft(waveform)) ** 2
        frequencies = np.fft.rfftfreq(len(waveform), 1.0 / 16000)
        heard = (frequencies > 60.0) & (frequencies < 1200.0)
        return np.bincount(np.round(12.0 * np.log2(frequencies[heard] / 440.0)).astype(int) % 12, power[heard], 12)

    corpus = Corpus(seed=2, keep="score")
    pairs = [tuple(chroma(waveform) for waveform in corpus.render(number)) for number in range(24)]
    similar = [float(np.corrcoef(*pair)[0, 1]) for pair in pairs]
    strange = [float(np.corrcoef(one[0], other[1])[0, 1]) for one, other in pairwise(pairs)]
    assert np.mean(similar) > np.mean(strange) + 0.3


def test_an_unknown_keep_is_refused() -> None:
    with pytest.raises(ValueError, match="keep is 'rhythm'; give one of all, score, sound"):
        Corpus(keep="rhythm")
