"""Packing in parts: together they contain what one packing does, and merging them finds the duplicates across parts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hear_ssl.data.merge import main
from hear_ssl.data.packing.clips import PackOptions
from hear_ssl.data.packing.inputs import list_items
from hear_ssl.data.packing.item import Item
from hear_ssl.data.packing.merge import merge
from hear_ssl.data.packing.pack import pack
from hear_ssl.data.packing.part_of import PartOf, parse_part
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.shards.shard_index import ShardIndex, read_index
from tests.conftest import ROOT
from tests.data.packing.test_pack import packed, script
from tests.data.sounds import tone, write

PARTS = 4


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 20 files: 3 are copies of others, one is silent, and one is cut into two clips."""
    folder = tmp_path_factory.mktemp("sounds") / "birds"
    for number in range(15):
        write(folder / f"{number}.wav", tone(0.3, 300.0 + 10 * number), subtype="PCM_16")
    for number in range(3):
        shutil.copy(folder / f"{number}.wav", folder / f"copy-{number}.wav")
    write(folder / "silent.wav", tone(0.3, 300.0) * 0.0, subtype="PCM_16")
    write(folder / "long.wav", tone(31.0, 350.3), subtype="PCM_16")
    return folder


@pytest.fixture(scope="module")
def all_parts(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("parts")
    pack_parts(sounds, out)
    return out


@pytest.fixture
def out(all_parts: Path, tmp_path: Path) -> Path:
    """Return a folder with all parts of the sounds."""
    return Path(shutil.copytree(all_parts, tmp_path / "out"))


def pack_parts(source: Path, out: Path, parts: int = PARTS, **options: Any) -> list[ShardIndex]:
    items = list_items([str(source)], "CC0-1.0", "train", str(out))
    return [pack(items, out, PackOptions(**options), 4, part=PartOf(number, parts)) for number in range(1, parts + 1)]


def sounds_of(folder: Path) -> Counter[tuple[bytes, str]]:
    shards = ShardSet([str(folder)])
    return Counter((shards.audio(clip), shards.record(clip)["source"]) for clip in shards.clips)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def rejected(folder: Path) -> list[str]:
    return sorted(line.rpartition(",")[2] for line in (folder / "rejected.csv").read_text().splitlines()[1:])


def test_parts_together_contain_what_one_packing_does(sounds: Path, out: Path, tmp_path: Path) -> None:
    packed([sounds], tmp_path / "whole", clips_per_shard=4)
    parts = [read_index(part) for part in sorted(out.iterdir())]
    assert sum(index.rejected.get("duplicate", 0) for index in parts) < 3
    assert min(index.clips for index in parts) >= 4
    index, whole = merge(out), read_index(tmp_path / "whole")
    assert (index.clips, index.hours, index.rejected, index.sources) == (whole.clips, whole.hours, whole.rejected, whole.sources)
    assert index.rejected == {"duplicate": 3, "silent": 1}
    assert index.clips == 17
    assert sounds_of(out) == sounds_of(tmp_path / "whole")
    assert rejected(out) == rejected(tmp_path / "whole")
    assert [shard.name for shard in index.shards] == [f"train-{number:06d}.tar" for number in range(len(index.shards))]


def test_merged_shards_are_links_unless_a_duplicate_is_left_out(out: Path) -> None:
    index = merge(out)
    whole = {path.stat().st_ino for path in out.glob("part-*/*.tar")}
    linked = [(out / shard.name).stat().st_ino in whole for shard in index.shards]
    assert linked.count(True) >= 2
    assert 1 <= linked.count(False) <= 3


def test_a_merge_that_was_stopped_starts_again(out: Path) -> None:
    merge(out)
    before = files(out)
    (out / "index.json").unlink()
    (out / "train-000001.tar").unlink()
    (out / f".train-000001.tar.{2**22}.0123abcd.part").write_bytes(b"half")
    assert main([str(out)]) == 0
    assert files(out) == before


def test_parts_that_are_missing_or_not_whole_are_named(out: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist; give the folder"):
        merge(tmp_path / "none")
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="has no parts; pack them first"):
        merge(tmp_path / "none")
    log = out / "part-3-of-4" / ".pack.log"
    whole = log.read_bytes()
    log.write_bytes(whole[:-5])  # killed as it noted its end
    (out / "part-2-of-4" / ".pack.log").unlink()
    shutil.rmtree(out / "part-4-of-4")
    with pytest.raises(ValueError, match=r"parts missing or not finished in .*: 2/4, 3/4, 4/4; run pack --part for each"):
        merge(out)
    assert not list(out.glob("*.tar"))


def test_a_part_whose_shard_was_cut_off_is_named(out: Path) -> None:
    shard = next((out / "part-2-of-4").glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(ValueError, match=rf"{shard.name} is missing or not as it was packed; run pack --part for part-2-of-4 again"):
        merge(out)


def test_a_copy_of_another_part_is_named(out: Path) -> None:
    shutil.rmtree(out / "part-2-of-4")
    shutil.copytree(out / "part-1-of-4", out / "part-2-of-4")
    with pytest.raises(ValueError, match=r"part-2-of-4 has another part than its name states; remove it and run pack --part 2/4 again"):
        merge(out)


def test_parts_of_other_packings_are_named(sounds: Path, out: Path) -> None:
    items = list_items([str(sounds)], "CC0-1.0", "train", str(out))
    shutil.rmtree(out / "part-4-of-4")
    pack(items[:2], out, PackOptions(), 4, part=PartOf(4, 4))
    with pytest.raises(ValueError, match=r"part-4-of-4 was packed from other files or with other options than .*part-1-of-4"):
        merge(out)
    (out / "part-1-of-2").mkdir()
    with pytest.raises(ValueError, match="has parts of 2 and of 4; remove those"):
        merge(out)


def test_other_shards_are_never_overwritten(out: Path) -> None:
    merge(out)
    before = files(out)
    mark = out / ".merge.json"
    mark.write_text(json.dumps(["of another packing"] * PARTS))
    with pytest.raises(ValueError, match=r"merged from other parts; remove its index\.json"):
        merge(out)
    mark.unlink()
    with pytest.raises(FileExistsError, match="exists: give another folder"):
        merge(out)
    assert files(out).keys() == before.keys() - {mark.name}


def test_parts_in_the_folder_that_is_packed_are_no_input(sounds: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sounds, tmp_path / "birds"))
    names = {item.name for item in list_items([str(folder)], "", "train", str(folder))}
    pack_parts(folder, folder, 2)
    merge(folder)
    assert {item.name for item in list_items([str(folder)], "", "train", str(folder))} == names


@pytest.mark.parametrize("parts", [1, 2, 7, 64])
def test_parts_share_all_files_evenly_and_archives_whole(parts: int) -> None:
    items = [Item(f"/s/{number}.wav", f"{number}.wav", "s", "", "train") for number in range(500)]
    for tar, count in (("a", 90), ("b", 30), ("c", 5)):
        items += [Item(f"/{tar}.tar.gz", f"{number}.wav", tar, "", "train", "packed tar", number) for number in range(count)]
    shares = [PartOf(number, parts).share(items) for number in range(1, parts + 1)]
    assert sorted(item.path + item.name for share in shares for item in share) == sorted(item.path + item.name for item in items)
    sizes = sorted(len(share) for share in shares)
    assert sizes[-1] <= max(625 // parts + 1, 90)
    for tar in ("/a.tar.gz", "/b.tar.gz", "/c.tar.gz"):
        assert sum(any(item.path == tar for item in share) for share in shares) == 1


def test_parts_have_names() -> None:
    assert parse_part("3/64") == PartOf(3, 64)
    assert PartOf(3, 64).folder == "part-03-of-64"
    for wrong in ("0/3", "4/3", "3", "a/b", "1/100001", "-1/2", "1/2/3"):
        with pytest.raises(ValueError, match=r"give K/N with 1 <= K <= N <= 100000, such as 3/64"):
            parse_part(wrong)


@pytest.mark.slow
def test_jobs_of_an_array_run_at_once(sounds: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    jobs = []
    for number in range(1, PARTS + 1):
        command = [sys.executable, "-m", "hear_ssl.data.pack", str(sounds), "--out", str(out), "--workers", "1", "--part"]
        jobs.append(subprocess.Popen([*command, f"{number}/{PARTS}"], cwd=ROOT, stdout=subprocess.PIPE, text=True))
    lines = [job.communicate(timeout=300)[0] for job in jobs]
    assert all(f"part-{number}-of-{PARTS}; rejected" in line for number, line in enumerate(lines, start=1))
    command = [sys.executable, "-m", "hear_ssl.data.merge", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "merged 17 clips" in done.stdout
    assert "rejected: duplicate 3, silent 1" in done.stdout
    assert "--part is '4/3'; give K/N" in script(sounds, "--out", out, "--part", "4/3").stderr
