"""The corpus of instruments: what pairs share, and shards whose bytes depend on the seed alone."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hear_ssl.data.packing import shard_writer
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.shards.shard_index import read_index
from hear_ssl.model.frontend import FrontendConfig, LogMel
from hear_ssl.synthesis.__main__ import main
from hear_ssl.synthesis.instruments import KEEPS, Corpus, write_corpus
from hear_ssl.synthesis.parameter_space import Array
from hear_ssl.synthesis.scene import KINDS, PHRASE, PITCHED, SCORE, clip_seconds, layout_of
from tests.synthesis.measure import held_out

ROOT = Path(__file__).resolve().parents[2]
FRONTEND = LogMel(FrontendConfig())


def log_mel_statistics(waveform: Array) -> Array:
    """Return the mean and the standard deviation of each log-mel band over time."""
    with torch.no_grad():
        features = FRONTEND(torch.from_numpy(waveform)[None], 1)[0]
    return torch.cat([features.mean(dim=1), features.std(dim=1)]).numpy()


def mean_distance(delta: float, pairs: int = 24) -> tuple[float, float]:
    """Return the mean log-mel distance within pairs and between pairs."""
    corpus = Corpus(seed=2, delta=delta)
    both = np.array([[log_mel_statistics(w) for w in corpus.render(n)] for n in range(pairs)])  # (pairs, 2, features)
    between = np.linalg.norm(both[:, None, 0] - both[None, :, 1], axis=-1)
    return float(np.diag(between).mean()), float(between[~np.eye(pairs, dtype=bool)].mean())


@pytest.mark.slow
def test_the_distance_within_pairs_grows_with_delta_and_is_less_than_between_pairs() -> None:
    within, between = zip(*(mean_distance(delta) for delta in (0.0, 0.05, 0.25, 0.6)), strict=True)
    assert within[0] < within[1] < within[2] < within[3]
    assert within[0] < 0.2 * between[0]
    assert within[2] < 0.8 * between[2]


def test_durations_and_kinds_of_the_corpus_vary() -> None:
    corpus = Corpus(seed=1)
    pairs = [corpus.pair(number) for number in range(400)]
    seconds = [clip_seconds(parameters) for pair in pairs for parameters in pair.parameters]
    assert min(seconds) < 2.2
    assert max(seconds) > 7.6
    assert {pair.kinds[0] for pair in pairs} >= set(KINDS)
    assert 0.2 < np.mean(["+" in pair.kinds[0] for pair in pairs]) < 0.4
    assert all(not held_out(parameters).any() for pair in pairs for parameters in pair.parameters)


@pytest.mark.parametrize("keep", KEEPS)
def test_no_pair_has_a_sound_of_the_tasks(keep: str) -> None:
    """Whatever a pair shares, no coordinate lies in the region that the tasks draw theirs from, but for the pitch of synth_pitch."""
    pairs = [Corpus(seed=0, keep=keep).pair(number) for number in range(512)]
    assert all(not held_out(parameters).any() for pair in pairs for parameters in pair.parameters)


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


def test_a_shared_score_gives_similar_pitch_classes() -> None:
    """The pitch classes of the two clips of a pair are more similar than those of clips of different pairs."""

    def chroma(waveform: Array) -> Array:
        power = np.abs(np.fft.rfft(waveform)) ** 2
        frequencies = np.fft.rfftfreq(len(waveform), 1.0 / 16000)
        audible = (frequencies > 60.0) & (frequencies < 1200.0)
        return np.bincount(np.round(12.0 * np.log2(frequencies[audible] / 440.0)).astype(int) % 12, power[audible], 12)

    corpus = Corpus(seed=2, keep="score")
    pairs = [tuple(chroma(waveform) for waveform in corpus.render(number)) for number in range(12)]
    similar = [float(np.corrcoef(*pair)[0, 1]) for pair in pairs]
    different = [float(np.corrcoef(one[0], other[1])[0, 1]) for one, other in pairwise(pairs)]
    assert np.mean(similar) > np.mean(different) + 0.3


def test_an_unknown_keep_is_refused() -> None:
    with pytest.raises(ValueError, match="keep is 'rhythm'; give one of all, score, sound"):
        Corpus(keep="rhythm")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    command = [sys.executable, "-m", "hear_ssl.synthesis", "instruments", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **environment})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small corpus in two shards."""
    out = tmp_path_factory.mktemp("corpus") / "shards"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_writer, "CLIPS_PER_SHARD", 8)
        write_corpus(out, clips=12, seed=3)
    return out


def test_the_index_describes_the_shards(folder: Path) -> None:
    index = read_index(folder)
    assert ShardSet([str(folder)]).damage() == {}
    assert (index.clips, index.sample_rate, index.codec, index.split) == (12, 16000, "flac", "train")
    assert [(shard.name, shard.clips) for shard in index.shards] == [("train-000000.tar", 8), ("train-000001.tar", 4)]
    for shard in index.shards:
        assert hashlib.sha256((folder / shard.name).read_bytes()).hexdigest() == shard.sha256
    assert index.hours == pytest.approx(sum(shard.seconds for shard in index.shards) / 3600, abs=1e-6)
    assert [(source.name, source.license, source.clips) for source in index.sources] == [("hear_ssl.synthetic", "CC0-1.0", 12)]
    assert index.rejected == {}


def test_members_are_in_order_and_pairs_are_neighbours(folder: Path) -> None:
    corpus = Corpus(seed=3)
    number = 0
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            members = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
        for start in range(0, len(members), 4):
            pair = [f"s3-{number:06d}a", f"s3-{number:06d}b"]
            assert [name for name, _ in members[start : start + 4]] == [f"{key}.{kind}" for key in pair for kind in ("flac", "json")]
            for member, (waveform, other) in enumerate(zip(corpus.render(number), reversed(pair), strict=True)):
                audio, description = members[start + 2 * member][1], json.loads(members[start + 2 * member + 1][1])
                decoded, rate = soundfile.read(io.BytesIO(audio), dtype="float32")
                assert rate == 16000
                np.testing.assert_allclose(decoded, waveform, atol=1 / 32768)
                assert description == {
                    "source": "hear_ssl.synthetic",
                    "license": "CC0-1.0",
                    "split": "train",
                    "original_sample_rate": 16000,
                    "original_channels": 1,
                    "offset_seconds": 0.0,
                    "seconds": len(waveform) / 16000,
                    "pair": other,
                }
            number += 1
    assert number == 6


@pytest.mark.slow
def test_same_seed_same_bytes_whatever_the_processes_and_threads(tmp_path: Path) -> None:
    for name, workers, threads in (("one", "1", "1"), ("two", "2", "4")):
        done = run("--out", str(tmp_path / name), "--clips", "24", "--seed", "5", "--workers", workers, OMP_NUM_THREADS=threads)
        assert done.returncode == 0, done.stderr
    first, second = ((tmp_path / name / "train-000000.tar").read_bytes() for name in ("one", "two"))
    assert first == second
    assert (tmp_path / "one" / "index.json").read_bytes() == (tmp_path / "two" / "index.json").read_bytes()
    assert Corpus(5).pair(0).seeds != Corpus(6).pair(0).seeds


def test_hours_are_reached_and_not_passed_by_a_pair(tmp_path: Path) -> None:
    hours = 40 / 3600
    index = read_index(write_corpus(tmp_path / "shards", hours=hours, seed=1, codec="wav", sample_rate=8000))
    assert hours <= index.hours <= hours + 16 / 3600
    assert index.codec == "wav"
    assert index.sample_rate == 8000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--clips", "7"], "give an even number"),
        (["--clips", "0"], "give an even number"),
        (["--clips", "1000000000000"], "give an even number"),
        (["--hours", "-1"], "give more than 0"),
        (["--hours", "nan"], "give more than 0"),
        (["--clips", "4", "--seed", "-1"], "seed -1 is negative"),
        (["--clips", "4", "--delta", "1.5"], "delta 1.5 is outside"),
        (["--clips", "4", "--delta", "nan"], "delta nan is outside"),
        (["--clips", "4", "--sample-rate", "100"], "sample rate 100 is outside"),
        (["--clips", "4", "--workers", "0"], "workers"),
        (["--clips", "four"], "invalid int value"),
        ([], "--clips --hours is required"),
    ],
)
def test_mistakes_end_with_one_line(arguments: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        main(["instruments", "--out", str(tmp_path / "shards"), "--tasks", str(tmp_path / "tasks"), *arguments])
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_corpus_is_not_overwritten(folder: Path) -> None:
    before = (folder / "index.json").read_bytes()
    done = run("--out", str(folder), "--clips", "4")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "index.json exists" in done.stderr
    assert (folder / "index.json").read_bytes() == before


def test_tars_that_it_did_not_write_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "train-000000.tar").write_bytes(b"recordings")
    with pytest.raises(FileExistsError, match=r"train-000000.tar exists: give another folder"):
        write_corpus(tmp_path, clips=2)
    assert (tmp_path / "train-000000.tar").read_bytes() == b"recordings"


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    out = tmp_path / "shards"
    out.mkdir()
    script = f"trap '' XFSZ; ulimit -f 100; exec {sys.executable} -m hear_ssl.synthesis instruments --out {out} --clips 40 --workers 1"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)  # no file above 100 kB
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr.splitlines()[-1]
    assert list(out.iterdir()) == []
