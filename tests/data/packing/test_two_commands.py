"""Two commands that write to one folder: one line for the second, and the first data set is whole."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hear_ssl.data.packing.reindex import reindex
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.folder_lock import FolderBusyError, folder_lock
from hear_ssl.synthesis.instruments import write_corpus
from hear_ssl.synthesis.tasks import write_tasks
from tests.conftest import ROOT
from tests.data.packing.test_pack import packed
from tests.data.sounds import tone, write


def sounds(folder: Path, count: int, hertz: float) -> Path:
    for number in range(count):
        write(folder / f"{number}.wav", tone(0.5, hertz + number), subtype="PCM_16")
    return folder


def packing(source: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hear_ssl.data.pack", str(source), "--out", str(out), "--workers", "1", "--clips-per-shard", "8"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_packings_into_one_folder(tmp_path: Path) -> None:
    sources = [sounds(tmp_path / name, 40, hertz) for name, hertz in (("a", 300.0), ("b", 3000.0))]
    running = [packing(source, tmp_path / "out") for source in sources]
    ended = [(process.communicate(timeout=120)[1], process.returncode) for process in running]
    assert sorted(status for _, status in ended) == [0, 2]
    (line,) = [errors.strip().splitlines()[-1] for errors, status in ended if status == 2]
    assert line.startswith(f"error: another process is writing to {tmp_path / 'out'}") or "was packed from other files" in line
    clips = ShardSet([str(tmp_path / "out")])
    assert len({clips.record(clip)["source"] for clip in clips.clips}) == 1
    assert len(clips) == 40


@pytest.mark.slow
def test_a_killed_packing_leaves_its_folder_to_the_next(tmp_path: Path) -> None:
    source = sounds(tmp_path / "a", 200, 300.0)
    process = packing(source, tmp_path / "out")
    while not list((tmp_path / "out").glob("*.tar")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert packing(source, tmp_path / "out").wait(timeout=120) == 0
    assert len(ShardSet([str(tmp_path / "out")])) == 200
    assert not list((tmp_path / "out").glob(".*.part"))


def test_every_command_that_writes_shards_is_refused_while_another_does(tmp_path: Path) -> None:
    source, out = sounds(tmp_path / "a", 2, 300.0), tmp_path / "out"
    packed([source], tmp_path / "whole")
    (tmp_path / "whole" / "index.json").unlink()
    with folder_lock(out, ""), folder_lock(tmp_path / "whole", ""):
        with pytest.raises(FolderBusyError, match="another process is writing to"):
            packed([source], out)
        with pytest.raises(FolderBusyError, match="another process is writing to"):
            write_corpus(out, clips=2)
        with pytest.raises(FolderBusyError, match="another process is writing to"):
            reindex(tmp_path / "whole", "CC0-1.0")
    assert not list(tmp_path.glob("out/*"))
    reindex(tmp_path / "whole", "CC0-1.0")


@pytest.mark.slow
def test_folders_that_killed_commands_left_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".synth_pitch-v1-full.unfinished-abcd").mkdir()
    names = [folder.name for folder in write_tasks(tmp_path)]
    for name in names:
        (tmp_path / f".{name}.unfinished-abcd").mkdir()
    write_tasks(tmp_path)
    left = {path.name for path in tmp_path.iterdir()} - set(names)
    assert left <= {".synth_pitch-v1-full.unfinished-abcd"}
