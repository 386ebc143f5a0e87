"""Before the first step: clips that repeat in a batch, licences that export will ask for, batches that shared memory cannot hold."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hear_ssl.data.options import CropConfig, DataConfig
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.shards.shard_index import read_index, write_index
from hear_ssl.data.stream.workers import plain_error
from hear_ssl.training.environment import git_revision
from hear_ssl.training.start_checks import check_shared_memory, different_sounds, machine_failure, repeated_clips
from hear_ssl.training.trainer import fit
from tests.conftest import tiny


@pytest.mark.parametrize(
    ("batch_size", "weights", "clips", "expected"),
    [
        (8, [], [8], []),
        (9, [], [8], ["but the data holds 8 clips"]),
        (64, [], [8, 30], ["but the data holds 38 clips"]),
        (64, [], [8, 56], []),
        (64, [3.0, 1.0], [48, 16], []),
        (64, [3.0, 1.0], [47, 1000], ["64, 48 of them from a, but a holds 47 clips"]),
        (64, [1.0, 1.0], [10, 20], ["32 of them from a, but a holds 10 clips", "32 of them from b, but b holds 20 clips"]),
    ],
)
def test_a_batch_that_holds_clips_twice_is_named(batch_size: int, weights: list[float], clips: list[int], expected: list[str]) -> None:
    config = DataConfig(shards=["a", "b"][: len(clips)], weights=weights, batch_size=batch_size)
    lines = repeated_clips(config, [(count, "clips") for count in clips])
    assert len(lines) == len(expected)
    for line, words in zip(lines, expected, strict=True):
        assert line.startswith(f"warning: data.batch_size is {batch_size}, ")
        assert words in line


def test_a_batch_that_holds_both_clips_of_a_pair_is_named(shards: Path, tmp_path: Path) -> None:
    """The corpus has 24 clips in 12 pairs."""
    plain = ShardSet([str(shards)])
    for positives, expected in (("pairs", (12, "pairs")), ("crops", (24, "clips"))):
        assert different_sounds(plain, DataConfig(positives=positives)) == [expected]
    config = DataConfig(batch_size=13, positives="pairs", shards=[str(shards)])
    (line,) = repeated_clips(config, different_sounds(plain, config))
    assert "data.batch_size is 13, but the data holds 12 pairs" in line


def test_training_warns_at_its_start(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tiny(shards, tmp_path / "run", "trainer.steps=1"), resume=False)
    assert "warning" not in capsys.readouterr().out
    unlicensed = tmp_path / "shards"
    unlicensed.mkdir()
    for file in shards.iterdir():
        (unlicensed / file.name).symlink_to(file)
    index = read_index(shards)
    (unlicensed / "index.json").unlink()
    write_index(unlicensed, replace(index, sources=tuple(replace(one, license="see LICENSE") for one in index.sources)))
    fit(tiny(unlicensed, tmp_path / "other", "trainer.steps=1", "data.batch_size=26"), resume=False)
    printed = capsys.readouterr().out
    (name,) = [source.name for source in index.sources]
    assert f"warning: training source {name} has the licence 'see LICENSE', which is not a known one: export will refuse it" in printed
    assert f"--data-license '{name}=NAME'" in printed
    assert "warning: data.batch_size is 26, but the data holds 24 clips" in printed
    assert printed.index("warning") < printed.index("step 1/1")


@pytest.mark.parametrize(
    ("config", "ranks", "processes", "fits"),
    [
        (DataConfig(batch_size=64, workers=1, crops=[CropConfig(1.0)]), 1, 1, True),  # 4 batches of 8.2 MB
        (DataConfig(batch_size=64, workers=2, crops=[CropConfig(1.0)]), 1, 1, True),  # 6
        (DataConfig(batch_size=64, workers=4, crops=[CropConfig(1.0)]), 1, 1, False),  # 10
        (DataConfig(batch_size=64, workers=4, crops=[CropConfig(1.0, 1)]), 1, 1, True),
        (DataConfig(batch_size=4096, workers=0, crops=[CropConfig(1.0)]), 1, 1, True),
        (DataConfig(batch_size=64, workers=4, crops=[CropConfig(1.0)]), 4, 1, True),  # four machines
        (DataConfig(batch_size=64, workers=4, crops=[CropConfig(1.0)]), 4, 4, False),  # one
    ],
)
def test_shared_memory_holds_what_all_workers_of_a_machine_need(
    monkeypatch: pytest.MonkeyPatch, config: DataConfig, ranks: int, processes: int, fits: bool
) -> None:
    monkeypatch.setattr("hear_ssl.training.start_checks.free_shared_memory", lambda: 64 * 2.0**20)
    if fits:
        check_shared_memory(config, 16000, ranks, processes)
        return
    with pytest.raises(ValueError, match=r"/dev/shm has 67 MB free, .* --shm-size=1g, or set data.workers=0"):
        check_shared_memory(config, 16000, ranks, processes)


@pytest.mark.parametrize(
    "text",
    [
        "Caught RuntimeError in DataLoader worker process 0.\nTraceback ...\nRuntimeError: unable to allocate shared memory(shm) for file"
        " </torch_1_2_3>: Resource temporarily unavailable (11)",
        "unable to open shared memory object </torch_1_2> in read-write mode: Too many open files (24)",
        "DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory.",
    ],
)
def test_full_shared_memory_is_one_line_with_the_remedy(text: str) -> None:
    error = plain_error(RuntimeError(text))
    assert isinstance(error, OSError)
    assert "--shm-size" in str(error)
    assert "\n" not in str(error)


def test_other_errors_of_the_loader_keep_their_meaning() -> None:
    assert "ulimit -n" in str(plain_error(RuntimeError("Too many open files. Communication with the workers is no longer possible.")))
    assert plain_error(RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nRuntimeError: a bug")) is None
    assert machine_failure(RuntimeError("a bug")) is None
    full = "NCCL error: unhandled system error\nLast error:\nError while creating shared memory segment /dev/shm/nccl-a1 (size 9637888)"
    assert "--shm-size" in str(machine_failure(RuntimeError(full)))


def test_the_revision_is_that_of_this_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(folder: Path, *arguments: str) -> str:
        command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    revision = git(tmp_path, "rev-parse", "--short", "HEAD")
    assert git_revision(tmp_path) == revision
    (tmp_path / "inner").mkdir()
    assert git_revision(tmp_path / "inner") == "unknown"  # another project's repository
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own switch for its tests of this refusal
    refused = subprocess.run(["git", "-C", str(tmp_path), "describe", "--always"], capture_output=True, text=True)
    assert "dubious ownership" in refused.stderr
    assert git_revision(tmp_path) == revision
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision(tmp_path) == "unknown"
