"""Lists as corpora bring them: separators, names of columns, byte order marks, splits."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from hear_ssl.data.packing.inputs import list_items
from hear_ssl.data.packing.item import Item
from tests.data.sounds import tone, write

DIALECTS = {
    "tab.tsv": "path\tlicense\nx.wav\tMIT\n",
    "semicolon.csv": "path;license\nx.wav;MIT\n",
    "bar.csv": "path|license\nx.wav|MIT\n",
    "quoted.csv": '"license","path"\r\n"MIT","x.wav"\r\n',
    "mark.csv": "\ufeffpath,license\nx.wav,MIT\n",
    "spaces.csv": "Path , License\nx.wav,MIT\n",
    "tab.csv": "path\tlicense\nx.wav\tMIT\n",
    "nemo.jsonl": '{"audio_filepath": "x.wav", "duration": 1.0, "license": "MIT"}\r\n\r\n',
    "nemo.json": '{"audio_filepath": "x.wav", "license": "MIT"}\n',
    "array.json": '[\n {"file_name": "x.wav", "license": "MIT"}\n]\n',
    "hub.jsonl": '{"audio": {"path": "x.wav", "bytes": null}, "license": "MIT"}\n',
    "metadata.csv": "file_name,license\nx.wav,MIT\n",
    "esc50.csv": "filename,fold,license\nx.wav,1,MIT\n",
    "speechbrain.csv": "ID,duration,wav,license\n1,1.0,x.wav,MIT\n",
    "voice.tsv": 'client_id\tpath\tsentence\tlicense\n1\tx.wav\tsaid "so"\tMIT\n'.replace('"', ""),
}


def items(path: Path, split: str = "train", license: str = "MIT", left: Counter[str] | None = None) -> list[Item]:
    return list_items([str(path)], license, split, left=left)


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_names_the_file_and_its_licence(tmp_path: Path, name: str) -> None:
    write(tmp_path / "x.wav", tone(1.0))
    (tmp_path / name).write_bytes(DIALECTS[name].encode())
    (item,) = items(tmp_path / name, license="unknown")
    assert (Path(item.path), item.name, item.license, item.split) == (tmp_path / "x.wav", "x.wav", "MIT", "train")


def test_a_list_in_utf_16_is_read(tmp_path: Path) -> None:
    write(tmp_path / "ä.wav", tone(1.0))
    (tmp_path / "list.csv").write_text("path\tlicense\nä.wav\tMIT\n", encoding="utf-16")
    assert [item.name for item in items(tmp_path / "list.csv")] == ["ä.wav"]


@pytest.mark.parametrize("root", ["absolute", "relative"])
def test_a_list_of_fairseq_is_relative_to_its_first_line(tmp_path: Path, root: str) -> None:
    path = write(tmp_path / "audio" / "deep" / "x.wav", tone(1.0))
    first = path.parents[1] if root == "absolute" else "audio"
    (tmp_path / "train.tsv").write_text(f"{first}\ndeep/x.wav\t16000\n")
    (item,) = items(tmp_path / "train.tsv")
    assert Path(item.path) == path


@pytest.mark.parametrize("text", ["x.wav\n\ny.flac\n", "x.wav\r\ny.flac", "\ufeffx.wav\ny.flac\n", "x.wav\t1.0\ny.flac\t2.0\n"])
@pytest.mark.parametrize("name", ["list.txt", "list.lst"])
def test_a_plain_list_has_a_file_a_line(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert [item.name for item in items(tmp_path / name)] == ["x.wav", "y.flac"]


def test_files_lie_in_the_folder_of_clips_or_behind_separators_of_windows(tmp_path: Path) -> None:
    write(tmp_path / "clips" / "x.wav", tone(1.0))
    write(tmp_path / "deep" / "y.wav", tone(1.0))
    (tmp_path / "list.tsv").write_text("path\nx.wav\ndeep\\y.wav\n")
    assert [Path(item.path).relative_to(tmp_path).as_posix() for item in items(tmp_path / "list.tsv")] == ["clips/x.wav", "deep/y.wav"]


@pytest.mark.parametrize(("split", "taken"), [("train", ["a.wav", "d.wav"]), ("valid", ["b.wav", "d.wav"])])
@pytest.mark.parametrize("name", ["list.csv", "list.jsonl"])
def test_the_rows_of_the_split_asked_for_are_taken_and_the_others_counted(tmp_path: Path, name: str, split: str, taken: list[str]) -> None:
    rows = [("a.wav", "Train"), ("b.wav", "valid"), ("c.wav", "dev-test"), ("d.wav", "")]
    if name == "list.csv":
        (tmp_path / name).write_text("path,split\n" + "".join(f"{path},{own}\n" for path, own in rows))
    else:
        (tmp_path / name).write_text("".join(json.dumps({"path": path, "split": own}) + "\n" for path, own in rows))
    left: Counter[str] = Counter()
    found = items(tmp_path / name, split, left=left)
    assert [item.name for item in found] == taken
    assert {item.split for item in found} == {split}
    assert left == {f"rows of the split {'valid' if split == 'train' else 'Train'}": 1, "rows of the split dev-test": 1}


def test_a_list_without_a_row_of_the_split_says_which_there_are(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,split\na.wav,valid\nb.wav,valid\nc.wav,test\n")
    with pytest.raises(ValueError, match=r"no row of the split 'train', but of valid \(2\), test \(1\); .* such as --split valid$"):
        items(tmp_path / "list.csv")


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.txt", "hello world\n"), ("a.tsv", "id\tsentence\n1\thello\n"), ("a.csv", "file;license\na;MIT\n"), ("a.json", '{"a": 1}')],
)
def test_what_is_no_list_is_told_the_columns(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=r"line \d has no path; the columns are path \(or audio_filepath, file_name, filename, wav, ...\)"):
        items(tmp_path / name)
