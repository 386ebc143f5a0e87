"""The corpus on disk: shards as the contract says, pairs side by side, the same seed the same bytes, mistakes in one line."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hear_ssl.data.packing import shard_writer
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.shards.shard_index import read_index
from hear_ssl.synthesis import instruments as synthetic
from hear_ssl.synthesis.instruments import Corpus, write_corpus

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a user does."""
    command = [sys.executable, "-m", "hear_ssl.synthesis.instruments", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **environment})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small corpus in two shards."""
    out = tmp_path_factory.mktemp("corpus") / "shards"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_writer, "CLIPS_PER_SHARD", 8)
        write_corpus(out, clips=12, seed=3)
    return out


def test_index_tells_the_truth(folder: Path) -> None:
    index = read_index(folder)
    assert ShardSet([str(folder)]).damage() == {}
    assert (index.clips, index.sample_rate, index.codec, index.split) == (12, 16000, "flac", "train")
    assert [(shard.name, shard.clips) for shard in index.shards] == [("train-000000.tar", 8), ("train-000001.tar", 4)]
    for shard in index.shards:
        assert hashlib.sha256((folder / shard.name).read_bytes()).hexdigest() == shard.sha256
    assert index.hours == pytest.approx(sum(shard.seconds for shard in index.shards) / 3600, abs=1e-6)
    assert [(source.name, source.license, source.clips) for source in index.sources] == [("hear_ssl.synthetic", "CC0-1.0", 12)]
    assert index.rejected == {}


def test_members_stand_in_order_and_pairs_side_by_side(folder: Path) -> None:
    corpus = Corpus(seed=3)
    number = 0
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            members = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
        for place in range(0, len(members), 4):
            pair = [f"s3-{number:06d}a", f"s3-{number:06d}b"]
            assert [name for name, _ in members[place : place + 4]] == [f"{key}.{kind}" for key in pair for kind in ("flac", "json")]
            for member, (waveform, other) in enumerate(zip(corpus.render(number), reversed(pair), strict=True)):
                audio, description = members[place + 2 * member][1], json.loads(members[place + 2 * member + 1][1])
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
def test_mistakes_end_with_one_line(arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((ValueError, SystemExit)) as caught:
        synthetic.main(["--out", str(tmp_path / "shards"), "--tasks", str(tmp_path / "tasks"), *arguments])
    said = str(caught.value) if caught.type is ValueError else capsys.readouterr().err
    assert words in said
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


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    out = tmp_path / "shards"
    out.mkdir()
    script = f"trap '' XFSZ; ulimit -f 100; exec {sys.executable} -m hear_ssl.synthesis.instruments --out {out} --clips 40 --workers 1"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)  # no file above 100 kB
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr.splitlines()[-1]
    assert list(out.iterdir()) == []


def test_help_tells_a_newcomer_what_to_type() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "Example: python -m hear_ssl.synthesis.instruments --out shards --clips 2000" in " ".join(done.stdout.split())
