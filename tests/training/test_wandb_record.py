"""Offline records of one resumed run do not replace each other, and the environment variables of wandb count."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2 as protocol

from hear_ssl.training.config import Config
from hear_ssl.training.wandb_mode import with_wandb_mode
from hear_ssl.training.wandb_record import record_id
from tests.conftest import TINY
from tests.training.test_fit import script

BLOCK, FILE_HEADER, HEADER = 32768, 7, struct.Struct("<IHB")  # checksum, size and kind of a part (LevelDB's log format)


def records(path: Path) -> Iterator[Any]:
    """Yield the records of a .wandb file."""
    content, place, whole = path.read_bytes(), FILE_HEADER, b""
    while place + HEADER.size <= len(content):
        if BLOCK - place % BLOCK < HEADER.size:
            place += BLOCK - place % BLOCK
            continue
        _, size, kind = HEADER.unpack_from(content, place)
        place += HEADER.size
        whole, place = whole + content[place : place + size], place + size
        if kind in (1, 4):  # a whole record, or its last part
            record = protocol.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def logged(path: Path) -> list[int]:
    """Return the training steps whose losses a record holds."""
    rows = [record.history for record in records(path) if record.WhichOneof("record_type") == "history"]
    values = [{item.key or ".".join(item.nested_key): item.value_json for item in row.item} for row in rows]
    return [int(float(row["trainer/global_step"])) for row in values if "loss" in row]


def described(path: Path) -> Any:
    return next(record.run for record in records(path) if record.WhichOneof("record_type") == "run")


@pytest.mark.slow
def test_offline_records_of_a_resumed_run_do_not_replace_each_other(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in (("PROJECT", "sounds"), ("ENTITY", "lab"), ("TAGS", "a,b"), ("NOTES", "none")):
        monkeypatch.setenv(f"WANDB_{variable}", value)
    run = str(tmp_path / "run")
    (tmp_path / "recipe.yaml").write_text("objective: {nt_xent: {weight: 1}}\n")
    start = ["--config", str(tmp_path / "recipe.yaml"), f"data.shards={shards}", *TINY, f"run={run}", "wandb=offline"]
    for arguments in ([*start, "trainer.steps=3"], ["--resume", run, "trainer.steps=5"], ["--resume", run, "trainer.steps=6"]):
        done = script(*arguments)
        assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    runs = [described(file) for file in files]
    assert len({run.run_id for run in runs}) == len(files) == 3
    assert {(run.project, run.entity, tuple(run.tags), run.notes) for run in runs} == {("sounds", "lab", ("a", "b"), "none")}
    assert {run.run_group for run in runs} == {runs[0].run_id}
    assert [logged(file) for file in files] == [[1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]]


def test_online_records_are_resumed_and_offline_ones_are_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "wandb_id"
    modes = ("online", "online", "offline", "offline", "online", "online")
    ids = [record_id(kept, mode)[0] for mode in modes]
    first = ids[0]
    assert ids == [first, first, f"{first}-2", f"{first}-3", f"{first}-4", f"{first}-4"]
    (tmp_path / "earlier").write_text("0123abcd")  # as versions wrote it that kept no mode
    assert record_id(tmp_path / "earlier", "online")[0] == "0123abcd"
    assert record_id(tmp_path / "earlier", "offline")[0] == "0123abcd-2"
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    assert record_id(tmp_path / "new", "offline") == ("mine", "mine")


@pytest.mark.parametrize(
    ("variables", "overrides", "mode"),
    [
        ({}, [], "offline"),
        ({"WANDB_MODE": "online"}, [], "online"),
        ({"WANDB_MODE": "dryrun"}, [], "offline"),
        ({"WANDB_MODE": "disabled"}, ["name=x"], "disabled"),
        ({"WANDB_DISABLED": "true"}, [], "disabled"),
        ({"WANDB_MODE": "online"}, ["wandb=offline"], "offline"),
    ],
)
def test_the_mode_is_that_of_the_command_line_else_of_the_environment(variables: dict[str, str], overrides: list[str], mode: str) -> None:
    assert with_wandb_mode(Config(), overrides, variables).wandb == mode


def test_a_mode_that_is_none_is_one_line() -> None:
    with pytest.raises(ValueError, match="WANDB_MODE is 'cloud'; set it to online, run, offline"):
        with_wandb_mode(Config(), [], {"WANDB_MODE": "cloud"})
