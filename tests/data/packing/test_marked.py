"""Data marked as test by the name of a folder, an archive or a list is refused, unless it is stated that it is none."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from hear_ssl.data.packing.clips import PackOptions
from hear_ssl.data.packing.inputs import list_items
from hear_ssl.data.packing.pack import pack
from hear_ssl.data.packing.pair_recordings import write_pairs
from hear_ssl.data.packing.reindex import reindex
from hear_ssl.data.shards.reader import ShardSet
from hear_ssl.data.shards.shard_index import SourceRecord, read_index
from hear_ssl.packaging.model_card import sources_section
from hear_ssl.test_data_rule import marked_folder
from tests.data.packing.test_folders import rows, script
from tests.data.sounds import encoded, tone, write

MARKED = ["test-clean", "eval", "FSD50K.eval_audio", "nsynth-test", "dev-test", "Evaluation", "testset", "DCASE2020_eval", "test"]
RULE = r"refused by the HEAR rule 'Any existing data marked as test may not be used for training'"


@pytest.mark.parametrize("name", MARKED)
@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz"])
def test_a_folder_or_archive_named_as_test_data_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    write(tmp_path / name / "a.wav", tone(1.0))
    path = tmp_path / name
    if kind != "folder":
        path = Path(shutil.make_archive(str(tmp_path / "made"), {"tar.gz": "gztar"}.get(kind, kind), tmp_path / name))
        path = path.rename(tmp_path / f"{name}.{kind}")
    with pytest.raises(ValueError, match=rf"contains .*: {RULE}; if it is not test data, add --not-test '{name}'$") as caught:
        list_items([str(path)], "MIT", "train")
    assert "\n" not in str(caught.value)
    (item,) = list_items([str(path)], "MIT", "train", not_test=[name])
    assert (item.refused, item.source) == ("", name)
    assert item.marked


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_parts_of_a_corpus_that_are_marked_are_listed_and_the_rest_packed(tmp_path: Path, kind: str) -> None:
    files = {"train-clean-100/a/x.wav": 300.0, "test-clean/b/y.wav": 400.0, "contest/z.wav": 500.0}
    for name, frequency in files.items():
        write(tmp_path / "Libri" / name, tone(1.0, frequency))
    path = tmp_path / "Libri"
    if kind == "zip":
        path = tmp_path / "Libri.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name in files:
                archive.write(tmp_path / "Libri" / name, f"Libri/{name}")
    elif kind == "tar":
        path = tmp_path / "Libri.tar"
        with tarfile.open(path, "w") as tar:
            tar.add(tmp_path / "Libri", "Libri")
    index = pack(list_items([str(path)], "MIT", "train"), tmp_path / "out", PackOptions())
    assert (index.clips, index.rejected) == (2, {"test data": 1})
    assert rows(tmp_path / "out") == {"y.wav": "test data: its path contains 'test-clean' (HEAR rule); see --not-test"}
    assert "not_test" not in json.loads((tmp_path / "out" / "index.json").read_text())["sources"][0]


def test_a_link_to_a_folder_of_test_data_is_no_way_around(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.wav", tone(1.0))
    write(tmp_path / "test-clean" / "b.wav", tone(1.0, 500.0))
    (tmp_path / "in" / "more").symlink_to(tmp_path / "test-clean")
    assert [item.name for item in list_items([str(tmp_path / "in")], "MIT", "train") if item.refused] == ["more/b.wav"]


def test_a_mistyped_source_is_named(tmp_path: Path) -> None:
    write(tmp_path / "Libri" / "a.wav", tone(1.0))
    with pytest.raises(ValueError, match=r"^--not-test 'libri' is not a source here; there are Libri$"):
        list_items([str(tmp_path / "Libri")], "MIT", "train", not_test=["libri"])


def test_a_corpus_of_test_data_alone_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "Libri" / "test-clean" / "a.wav", tone(1.0))
    with pytest.raises(ValueError, match=RULE):
        list_items([str(tmp_path / "Libri")], "MIT", "train")


def test_the_folders_typed_before_the_input_count_too(tmp_path: Path) -> None:
    write(tmp_path / "Libri" / "test-clean" / "61" / "a.wav", tone(1.0))
    result = script("Libri/test-clean/61", "--out", "out", cwd=tmp_path)
    assert result.returncode == 2
    assert "Libri/test-clean/61 contains 'test-clean': refused by the HEAR rule" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["test-clean", "eval"])
def test_files_given_one_by_one_from_a_folder_of_test_data_are_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name / "a.wav", tone(1.0))
    for given in (path, path.parent.parent / name / ".." / name / "a.wav"):
        with pytest.raises(ValueError, match=rf"contains '{name}': {RULE}"):
            list_items([str(given)], "MIT", "train")
    (item,) = list_items([str(path)], "MIT", "train", not_test=[name])
    assert (item.refused, item.marked) == ("", name)


@pytest.mark.parametrize("text", ["path\na.wav\n", "path\ntrain/a.wav\n"])
def test_a_list_named_as_test_data_is_refused_unless_it_names_the_split(tmp_path: Path, text: str) -> None:
    (tmp_path / "test.tsv").write_text(text)
    with pytest.raises(ValueError, match=rf"test.tsv contains 'test': {RULE}"):
        list_items([str(tmp_path / "test.tsv")], "MIT", "train")
    (tmp_path / "test.tsv").write_text(text.replace("path", "path\tsplit").replace(".wav", ".wav\ttrain"))
    assert len(list_items([str(tmp_path / "test.tsv")], "MIT", "train")) == 1


def test_rows_of_a_list_that_lie_in_folders_of_test_data_are_refused(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    paths = ["train/a.wav", "eval/b.wav", f"{tmp_path}/corpus/test-other/c.wav", f"{tmp_path}/corpus/train/d.wav"]
    (tmp_path / "lists" / "all.txt").write_text("\n".join(paths))
    items = list_items([str(tmp_path / "lists" / "all.txt")], "MIT", "train")
    assert [Path(item.name).name for item in items if item.refused] == ["b.wav", "c.wav"]


@pytest.mark.slow
def test_what_was_overruled_reaches_the_data_card_and_the_model_card(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path / "nsynth-test" / f"horn-{number}.wav", tone(1.0, 300.0 + 100 * number))
    result = script(tmp_path / "nsynth-test", "--out", tmp_path / "out", "--not-test", "nsynth-test")
    assert result.returncode == 0, result.stderr
    expected = SourceRecord("nsynth-test", "MIT", pytest.approx(2 / 3600, abs=1e-6), 2, "nsynth-test")
    assert read_index(tmp_path / "out").sources == (expected,)
    pairs = write_pairs(ShardSet([str(tmp_path / "out")]), tmp_path / "paired", [])
    assert pairs["pairs"].sources == (expected,)
    card = ShardSet([str(tmp_path / "paired" / "pairs")]).data_card()
    assert card["sources"][0]["not_test"] == "nsynth-test"
    assert "nsynth-test (path contains 'nsynth-test'; stated to be no test data)" in sources_section("Training data", card)
    assert script(tmp_path / "nsynth-test", "--out", tmp_path / "out").returncode == 2  # and without the switch it is refused again


def test_shards_named_as_test_data_are_indexed_only_when_stated_to_be_none(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    with tarfile.open(folder / "nsynth-test-0000.tar", "w") as tar:
        for name, content in (("x.flac", encoded(tone(1.0), format="FLAC")), ("x.json", b"{}")):
            (tmp_path / name).write_bytes(content)
            tar.add(tmp_path / name, name)
    with pytest.raises(ValueError, match=rf"theirs contains 'nsynth-test-0000': {RULE}; if it is not test data, add --not-test 'theirs'"):
        reindex(folder, "MIT")
    assert not (folder / "index.json").exists()
    assert reindex(folder, "MIT", not_test=True).sources[0].not_test == "nsynth-test-0000"


@pytest.mark.parametrize(
    "name", ["train-clean-100", "contest", "latest", "test_resumes0", "test_files_that_end12", "attested", "Evaluators"]
)
def test_other_folders_are_not_marked(name: str) -> None:
    assert marked_folder(name) == ""
