"""Runs that share a cache lose no clip to each other, and a damaged copy is fetched again."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from hear_ssl.data.options import CropConfig, DataConfig
from hear_ssl.data.shards.cache import ShardCache, locked
from hear_ssl.data.shards.clip_offsets import SUFFIX
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.shards.shard_index import read_index
from hear_ssl.data.stream.batch_stream import BatchStream
from tests.conftest import ROOT
from tests.data.shards.test_cache import Flaky, many

__all__ = ["many"]

READ = """
import sys
from hear_ssl.data.options import CropConfig, DataConfig
from hear_ssl.training.datamodule import ShardDataModule
address, cache, bound, seed = sys.argv[1:]
config = DataConfig([address], cache=cache, cache_gb=float(bound), window_shards=1, batch_size=10, crops=[CropConfig(0.05)], workers=0)
data = ShardDataModule(config, 16000, int(seed))
for step in range(200):
    batch = data.stream.batch(step)
    assert not batch.lost, batch.lost
"""


@pytest.mark.slow
def test_processes_that_share_a_bounded_cache_lose_no_clip(many: tuple[str, type[Flaky], Path], tmp_path: Path) -> None:
    address, _, folder = many
    size = max(record.bytes for record in read_index(folder).shards)
    arguments = [address, str(tmp_path / "cache"), str(2.1 * size / 1e9)]
    running = [
        subprocess.Popen([sys.executable, "-c", READ, *arguments, str(seed)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for seed in range(3)
    ]
    for process in running:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors[-2000:]


def test_a_shard_that_is_being_opened_does_not_give_way(many: tuple[str, type[Flaky], Path], tmp_path: Path) -> None:
    address, _, folder = many
    first, second = read_index(folder).shards[:2]
    cache = ShardCache(address, tmp_path / "cache", 1.5 * max(first.bytes, second.bytes) / 1e9)
    with cache.held(first) as path:
        other = threading.Thread(target=cache.path, args=(second,))
        other.start()
        other.join(0.5)
        assert other.is_alive()
        assert path.is_file()
    other.join(20)
    assert [found.name for found in cache.folder.glob("*.tar")] == [second.name]


@pytest.mark.parametrize("vanish", ["tar", "both"])
def test_a_shard_that_gives_way_before_its_clip_offsets_are_read_is_fetched_again(
    many: tuple[str, type[Flaky], Path], tmp_path: Path, vanish: str
) -> None:
    address, handler, folder = many
    shards, local = ShardSet([address], tmp_path / "cache"), ShardSet([str(folder)])
    (source,) = shards.sources
    path = source.path(shards.shards[0][1])
    path.unlink()
    if vanish == "both":
        path.with_suffix(SUFFIX).unlink()
    assert shards.audio(shards.clip(3)) == local.audio(local.clip(3))
    assert sum(served.endswith(".tar") for served in handler.served) == 2


@pytest.mark.slow
def test_a_cached_shard_with_flipped_bytes_is_fetched_again(
    many: tuple[str, type[Flaky], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flip in the part of a long recording that no crop contains changes nothing and is not met."""
    address, _, folder = many
    config = DataConfig([address], cache=str(tmp_path / "cache"), batch_size=10, crops=[CropConfig(0.2)], workers=0)
    local = BatchStream(ShardSet([str(folder)]), config, 16000, 0)
    expected = [local.batch(step) for step in range(20)]  # all clips
    cache = ShardCache(address, config.cache)
    cache.fetch_all(cache.index())
    generator, mended = random.Random(0), 0
    for _ in range(20):
        path = generator.choice(sorted(cache.folder.glob("*.tar")))
        content = bytearray(path.read_bytes())
        clip = generator.choice([clip for clip in ShardSet([str(folder)]).clips if Path(clip.shard).name == path.name])
        content[clip.offset + generator.randrange(clip.size)] ^= 1 << generator.randrange(8)
        path.write_bytes(content)
        capsys.readouterr()
        stream = BatchStream(ShardSet([address], config.cache), config, 16000, 0)
        for step, batch in enumerate(expected):
            found = stream.batch(step)
            assert found.lost == []
            assert torch.equal(found.waveform, batch.waveform)
        mended += f"{path} is damaged: it is fetched again" in capsys.readouterr().err
        path.write_bytes((folder / path.name).read_bytes())
    assert mended > 10


def test_a_damaged_copy_that_cannot_be_replaced_loses_one_clip_alone(many: tuple[str, type[Flaky], Path], tmp_path: Path) -> None:
    address, handler, _ = many
    shards = ShardSet([address], tmp_path / "cache")
    clips = [shards.clip(number) for number in range(3)]
    content = bytearray(Path(clips[0].shard).read_bytes())
    content[clips[0].offset + 5] ^= 1
    Path(clips[0].shard).write_bytes(content)
    handler.gone = {Path(clips[0].shard).name}
    assert not shards.mend(clips[0])
    with pytest.raises(ValueError, match="its bytes are not those that were packed"):
        shards.audio(clips[0])
    assert shards.audio(clips[1])


def test_a_lock_in_the_cache_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("kept")
    (tmp_path / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match=r"\.lock"), locked(tmp_path / ".lock"):
        pass
    assert (tmp_path / "victim").read_text() == "kept"
