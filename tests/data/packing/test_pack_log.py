"""The log of a packing: what was appended is read again, a torn end is cut off, and any other damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hear_ssl.data.packing.clips import PackOptions
from hear_ssl.data.packing.inputs import list_items
from hear_ssl.data.packing.item import Item
from hear_ssl.data.packing.pack import pack
from hear_ssl.data.packing.pack_log import LOG_NAME, OLD_NAME, Entry, append, cut_torn_line, entries, read_state, start_log
from tests.data.packing.test_pack import content
from tests.data.sounds import tone, write

HEADER = {"fingerprint": "f", "split": "train"}


def entry(number: int, clips: int = 2) -> Entry:
    record = {"name": f"train-{number:06d}.tar", "clips": clips, "bytes": 1024, "sha256": "0" * 64, "seconds": 1.0}
    hashes = "".join(f"{number * 1000 + clip:040x}" for clip in range(clips))
    row = ["a.wav", "s", 0.0, "unreadable: no sound"]
    return Entry(number + 1, number % 3, [record], {"s\tCC0": {"seconds": 1.0, "clips": clips}}, [row], hashes)


def test_entries_add_up(tmp_path: Path) -> None:
    start_log(tmp_path, HEADER)
    for number in range(5):
        append(tmp_path, entry(number))
    assert list(entries(tmp_path)) == [entry(number) for number in range(5)]
    state = read_state(tmp_path)
    assert (state.header, state.next_item, state.inside, state.finished) == (HEADER, 5, 1, False)
    assert [shard.name for shard in state.shards] == [f"train-{number:06d}.tar" for number in range(5)]
    assert state.sources == {"s\tCC0": {"seconds": 5.0, "clips": 10}}
    assert state.reasons == {"unreadable": 5}
    assert len(state.hashes) == 10


def test_an_entry_costs_the_same_after_many(tmp_path: Path) -> None:
    start_log(tmp_path, HEADER)
    sizes = [0]
    for number in range(200):
        append(tmp_path, entry(number))
        sizes.append((tmp_path / LOG_NAME).stat().st_size)
    assert sizes[-1] - sizes[-2] <= sizes[2] - sizes[1] + 10  # digits of its number


@pytest.mark.parametrize("lost", [1, 5, 40])
def test_a_line_that_a_kill_left_half_written_is_cut_off(tmp_path: Path, lost: int) -> None:
    start_log(tmp_path, HEADER)
    append(tmp_path, entry(0))
    whole = (tmp_path / LOG_NAME).read_bytes()
    append(tmp_path, entry(1))
    (tmp_path / LOG_NAME).write_bytes((tmp_path / LOG_NAME).read_bytes()[:-lost])
    assert list(entries(tmp_path)) == [entry(0)]
    cut_torn_line(tmp_path)
    assert (tmp_path / LOG_NAME).read_bytes() == whole
    append(tmp_path, entry(1))
    assert list(entries(tmp_path)) == [entry(0), entry(1)]


def test_damage_before_the_last_line_is_named(tmp_path: Path) -> None:
    start_log(tmp_path, HEADER)
    for number in range(3):
        append(tmp_path, entry(number))
    whole = (tmp_path / LOG_NAME).read_bytes()
    places = [0, 12, whole.index(b"\n") + 30, whole.index(b"train-000001")]
    for place in places:
        (tmp_path / LOG_NAME).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"\.pack\.log is damaged; remove .* and pack again"):
            read_state(tmp_path)


@pytest.mark.parametrize(
    "change", [{"next_item": "1"}, {"hashes": "00"}, {"rejected": [["a"]]}, {"shards": [{"name": "../x.tar"}]}, {"unknown": 1}]
)
def test_an_entry_that_cannot_be_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    start_log(tmp_path, HEADER)
    wrong = entry(0)
    wrong.__dict__.update(change)
    append(tmp_path, wrong)
    append(tmp_path, entry(1))
    with pytest.raises(ValueError, match="is damaged; remove"):
        read_state(tmp_path)


def sounds(folder: Path) -> list[Item]:
    for number in range(10):
        write(folder / f"{number}.wav", tone(0.3, 300.0 + 10 * number), subtype="PCM_16")
    (folder / "no.wav").write_bytes(b"no sound")
    return list_items([str(folder)], "CC0-1.0", "train")


def test_a_packing_that_an_older_version_saved_resumes(tmp_path: Path) -> None:
    items, out = sounds(tmp_path / "in"), tmp_path / "out"
    pack(items, out, PackOptions(), 4)
    whole, state = content(out), read_state(out)
    old = {"fingerprint": state.header["fingerprint"], "next_item": 0, "sources": {}, "rejected": [], "hashes": [], "shards": []}
    for one in list(entries(out))[:1]:
        hashes = [one.hashes[start : start + 40] for start in range(0, len(one.hashes), 40)]
        old |= {"next_item": one.next_item, "sources": one.sources, "rejected": one.rejected, "hashes": hashes, "shards": one.shards}
    for name in (LOG_NAME, "index.json", "rejected.csv", "train-000001.tar", "train-000002.tar"):
        (out / name).unlink()
    (out / OLD_NAME).write_text(json.dumps({**old, "finished": False}))
    times = (out / "train-000000.tar").stat().st_mtime_ns
    pack(items, out, PackOptions(), 4)
    assert (out / "train-000000.tar").stat().st_mtime_ns == times
    after = content(out)
    del after[LOG_NAME], whole[LOG_NAME]
    assert after == whole
    assert len(whole) == 8
