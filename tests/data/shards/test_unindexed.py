"""Which entries of data.shards have no index, the shards they name, and what is refused: test data, repeats, values that do not fit."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hear_ssl.data.options import DataConfig
from hear_ssl.data.shards.unindexed import fingerprint, is_unindexed, named_shards, shard_lists
from hear_ssl.training.stream_datamodule import data_module
from tests.data.plain_shards import plain_folder
from tests.data.shards.test_cache import Flaky


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return plain_folder(tmp_path / "speech", [2, 2, 2])


@pytest.fixture
def web(plain: Path) -> Iterator[str]:
    handler = type("Handler", (Flaky,), {"faults": [], "served": [], "gone": {"index.json"}, "index_faults": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a, **k: handler(*a, directory=str(plain), **k)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def lists(*entries: str | Path, **options: Any) -> list[Any]:
    config = DataConfig(shards=[str(entry) for entry in entries], **options)
    return shard_lists(config, [entry for entry in config.shards if is_unindexed(entry)])


def test_only_folders_without_any_trace_of_an_index_are_read_in_sequence(plain: Path, shards: Path, tmp_path: Path) -> None:
    assert is_unindexed(str(plain))
    assert is_unindexed(f"{plain}/a-{{000..001}}.tar")
    assert not is_unindexed(str(shards))
    assert not is_unindexed(str(tmp_path))
    (plain / ".pack.json").touch()  # of a packing that has not finished
    assert not is_unindexed(str(plain))


@pytest.mark.parametrize("content", ['{"wids_version": 1, "shardlist": []}', "<!DOCTYPE html><html></html>"])
def test_an_index_of_another_tool_is_none(plain: Path, content: str) -> None:
    (plain / "index.json").write_text(content)
    assert is_unindexed(str(plain))
    assert len(named_shards(str(plain))[1]) == 3


@pytest.mark.parametrize("content", ["", '{"format": "hear_ssl.shards/1"', '{"format": "hear_ssl.shards/1"}', "[]"])
def test_an_own_index_that_is_damaged_is_left_to_those_who_name_it(plain: Path, content: str) -> None:
    (plain / "index.json").write_text(content)
    assert not is_unindexed(str(plain))
    with pytest.raises(ValueError, match=r"index\.json is damaged"):
        data_module(DataConfig(shards=[str(plain)]), 16000, 0)


@pytest.mark.parametrize(
    ("content", "unindexed"), [(b'{"wids_version": 1}', True), (b"<html>", True), (b'{"format": "x"}', False), (b"", False)]
)
def test_an_index_at_an_address_is_read(plain: Path, content: bytes, unindexed: bool) -> None:
    (plain / "index.json").write_bytes(content)
    handler = type("Handler", (Flaky,), {"faults": [], "served": [], "gone": set(), "index_faults": ["500"]})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a, **k: handler(*a, directory=str(plain), **k)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{running.server_port}"
        assert is_unindexed(f"{address}/a-{{000..001}}.tar") == unindexed
        assert not is_unindexed(address)
        running.shutdown()


@pytest.mark.slow
def test_an_address_is_asked_for_its_index(web: str) -> None:
    assert is_unindexed(f"{web}/a-{{000..001}}.tar")
    assert not is_unindexed(web)  # the shards of a web address cannot be listed
    assert not is_unindexed("http://127.0.0.1:9/a-{000..001}.tar")  # what does not answer is left to the indexed path, which names it


def test_shards_are_listed_or_named(plain: Path, web: str) -> None:
    paths = tuple(str(plain / f"a-{number:03d}.tar") for number in range(3))
    assert named_shards(str(plain)) == ("speech", paths)
    assert named_shards(f"{plain}/a-{{000,002}}.tar") == ("speech", (paths[0], paths[2]))
    assert named_shards(f"{web}/speech/a-{{000..001}}.tar?v=1") == (
        "speech",
        (f"{web}/speech/a-000.tar?v=1", f"{web}/speech/a-001.tar?v=1"),
    )
    assert named_shards("pipe:aws s3 cp s3://b/a-{0..1}.tar -") == (
        "pipe",
        ("pipe:aws s3 cp s3://b/a-0.tar -", "pipe:aws s3 cp s3://b/a-1.tar -"),
    )
    with pytest.raises(ValueError, match=r"a-003\.tar does not exist"):
        named_shards(f"{plain}/a-{{000..003}}.tar")


def test_a_store_is_listed(plain: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for path in plain.iterdir():
        store.pipe(f"/bucket/speech/{path.name}", path.read_bytes())
    try:
        assert is_unindexed("memory://bucket/speech")
        name, found = named_shards("memory://bucket/speech")
        assert (name, len(found)) == ("speech", 3)
        with pytest.raises(ValueError, match=r"is not there, or holds no \.tar shards"):
            named_shards("memory://bucket/nothing")
    finally:
        store.rm("/bucket", recursive=True)


def test_licence_and_split_are_one_for_all_or_one_for_each(plain: Path, shards: Path, tmp_path: Path) -> None:
    other = plain_folder(tmp_path / "music", [1])
    assert [listed.license for listed in lists(plain, other)] == ["unknown", "unknown"]
    assert [listed.license for listed in lists(plain, other, license=["CC0-1.0"])] == ["CC0-1.0", "CC0-1.0"]
    found = lists(plain, shards, other, license=["CC0-1.0", "CC-BY-4.0"], split=["train", "dev"])
    assert [(listed.license, listed.split) for listed in found if not listed.index] == [("CC0-1.0", "train"), ("CC-BY-4.0", "dev")]
    assert found[1].index
    for key in ("license", "split"):
        with pytest.raises(ValueError, match=rf"data\.{key} has 3 values for 2 entries .* give 1 or 2"):
            lists(plain, other, **{key: ["a", "b", "c"]})


@pytest.mark.parametrize("split", ["test", "test-clean", "eval"])
def test_a_split_of_test_data_is_refused(plain: Path, split: str) -> None:
    with pytest.raises(ValueError, match="refused by the HEAR rule"):
        lists(plain, split=[split])


@pytest.mark.parametrize(
    "entry",
    [
        "https://host/data/eval/a-{0..1}.tar",
        "https://host/data/train/test-{0..1}.tar",
        "s3://bucket-test/a-{0..1}.tar",
        "hf://datasets/someone/speech/test/a-{0..1}.tar",
        "pipe:aws s3 cp s3://bucket/test/a-{0..1}.tar -",
        "pipe:cat /data/eval_set/a.tar",
    ],
)
def test_addresses_that_look_like_test_data_are_refused(entry: str) -> None:
    config = DataConfig(shards=[entry])
    with pytest.raises(ValueError, match=r"refused by the HEAR rule .* if it is not test data, set data\.not_test="):
        shard_lists(config, config.shards)


def test_a_folder_that_looks_like_test_data_is_refused_unless_told_otherwise(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "test-clean", [1])
    with pytest.raises(ValueError, match=r"data\.not_test=test-clean"):
        lists(folder)
    (listed,) = lists(folder, not_test=["test-clean"])
    assert listed.not_test == "test-clean"


def test_a_shard_that_comes_twice_is_refused(plain: Path) -> None:
    with pytest.raises(ValueError, match=r"holds .*a-000\.tar twice"):
        lists(plain, f"{plain}/a-000.tar")
    with pytest.raises(ValueError, match="twice"):
        lists("pipe:cat a.tar", "pipe:cat a.tar")


def test_secrets_of_addresses_are_in_no_error() -> None:
    entry = "https://me:secret@host/test/a-{0..1}.tar?token=secret"
    for given in (entry, f"pipe:curl {entry}"):
        with pytest.raises(ValueError, match="HEAR rule") as caught:
            shard_lists(DataConfig(shards=[given]), [given])
        assert "secret" not in str(caught.value)


def test_the_fingerprint_follows_the_shards_and_not_their_folder(plain: Path, tmp_path: Path) -> None:
    before = fingerprint(lists(plain))
    assert before != fingerprint(lists(f"{plain}/a-{{000..001}}.tar"))
    plain.rename(tmp_path / "moved")
    assert fingerprint(lists(tmp_path / "moved")) == before
    address = [f"https://{user}host/a-{{0..1}}.tar" for user in ("", "me:secret@")]
    assert len({fingerprint(shard_lists(DataConfig(shards=[one]), [one])) for one in address}) == 1
