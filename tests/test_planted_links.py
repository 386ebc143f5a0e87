"""Links planted in folders that are shared neither empty nor overwrite nor remove what they lead to."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from hear_ssl.data.shards.cache import ShardCache, locked
from hear_ssl.data.shards.shard_index import ShardRecord
from hear_ssl.evaluation.tasks.archive import ZenodoRecord, fetch_folder
from hear_ssl.evaluation.tasks.download import Remote, download_archive
from hear_ssl.evaluation.tasks.official_tasks import official_tasks
from hear_ssl.packaging.publish import upload
from hear_ssl.safe_open import open_own, own_folder

RECORD = ShardRecord("train-000000.tar", 1, 10240, "0" * 64, 1.0)
PLANTS = {"symbolic": os.symlink, "hard": os.link}


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    path = tmp_path / "home" / "thesis.txt"
    path.write_text("years of work")
    return path


def folder_of(address: str, root: Path) -> Path:
    return root / hashlib.sha256(address.encode()).hexdigest()[:24]


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("name", [".lock", ".train-000000.tar.lock"])
def test_a_lock_that_is_a_link_is_refused(tmp_path: Path, victim: Path, plant: str, name: str) -> None:
    PLANTS[plant](victim, tmp_path / name)
    with pytest.raises(OSError, match="is a link or no regular file"), locked(tmp_path / name):
        raise AssertionError
    assert victim.read_text() == "years of work"


def test_a_lock_that_leads_to_nothing_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / ".lock").symlink_to(tmp_path / "new")
    with pytest.raises(OSError, match="link"), locked(tmp_path / ".lock"):
        raise AssertionError
    assert not (tmp_path / "new").exists()


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".lock")
    for flags in (os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_CREAT | os.O_APPEND):
        with pytest.raises(OSError, match="no regular file"):
            open_own(tmp_path / ".lock", flags)


def test_reserved_space_is_not_made_through_a_link(tmp_path: Path, victim: Path) -> None:
    cache = ShardCache("http://127.0.0.1:9/a", tmp_path / "cache", 1.0)
    kept = cache.folder / f".{RECORD.name}.room.part"
    kept.symlink_to(victim)
    with cache.room(RECORD):
        assert not kept.is_symlink()
    assert victim.read_text() == "years of work"


def test_a_cache_folder_that_is_a_link_is_refused(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "cache").mkdir()
    folder_of("http://127.0.0.1:9/a", tmp_path / "cache").symlink_to(victim.parent)
    with pytest.raises(OSError, match="is a link"):
        ShardCache("http://127.0.0.1:9/a", tmp_path / "cache")
    assert list(victim.parent.iterdir()) == [victim]


@pytest.mark.parametrize("linked", [True, False])
def test_a_bounded_cache_removes_shards_of_its_own_alone(tmp_path: Path, victim: Path, linked: bool) -> None:
    """Neither behind a link with the name of a cache folder, nor in a folder of the user's under the same root."""
    cache = ShardCache("http://127.0.0.1:9/a", tmp_path / "cache", 20e-6)
    mine = tmp_path / "cache" / ("0" * 24 if linked else "fsd50k")
    if linked:
        mine.symlink_to(victim.parent)
    else:
        mine.mkdir()
    (mine / "corpus.tar").write_bytes(bytes(50_000))
    (mine / ".x.tar.1.00000000.part").write_bytes(b"x")
    (cache.folder / "old.tar").write_bytes(bytes(15_000))
    with cache.room(RECORD):
        assert not (cache.folder / "old.tar").exists()
    assert sorted(path.name for path in mine.iterdir() if path != victim and path.name != victim.name) == [
        ".x.tar.1.00000000.part",
        "corpus.tar",
    ]


@pytest.mark.parametrize("plant", PLANTS)
def test_a_task_is_not_downloaded_through_a_link(tmp_path: Path, victim: Path, plant: str) -> None:
    PLANTS[plant](victim, tmp_path / ".a.tar.gz.part")
    with pytest.raises(OSError, match="is a link or no regular file"):
        download_archive(Remote("http://127.0.0.1:9/a.tar.gz"), tmp_path / "a.tar.gz")
    assert victim.read_text() == "years of work"


def test_a_task_is_not_unpacked_through_a_link(tmp_path: Path, victim: Path) -> None:
    task = official_tasks()[1]
    folder, out = task.folders[0], tmp_path / "out"
    out.mkdir()
    record = ZenodoRecord("http://127.0.0.1:9", {})
    (out / record.archive(folder).name).write_bytes(b"")
    (out / f".{folder}.unpacking").symlink_to(victim.parent)
    with pytest.raises(OSError, match="is a link"):
        fetch_folder(task, folder, out, record)
    assert list(victim.parent.iterdir()) == [victim]


def test_weights_are_not_uploaded_through_a_link(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "w").write_bytes(b"weights")
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "w.safetensors.part").symlink_to(victim)
    upload(tmp_path / "w", str(tmp_path / "to"), "w.safetensors")
    assert victim.read_text() == "years of work"
    assert (tmp_path / "to" / "w.safetensors").read_bytes() == b"weights"


def test_a_folder_that_is_there_is_accepted(tmp_path: Path) -> None:
    own_folder(tmp_path / "a" / "b")
    own_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="link or no regular file"):
        own_folder(tmp_path / "file")
