"""What was made to do harm is refused in one line: pickles, archives that swell, manifests with wrong types."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from hear_ssl.checkpoint import load_checkpoint
from hear_ssl.packaging.package import package
from hear_ssl.packaging.wheel_rules import wheel_rows
from tests.packaging.test_package import load, request


def test_a_checkpoint_that_executes_something_is_not_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "executed",)

    torch.save({"state_dict": {}, "config": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match="holds more than tensors and plain data"):
        package(request(tmp_path, checkpoint=tmp_path / "evil.ckpt"), tmp_path / "dist")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        ("config", [], "it has no state_dict and config"),
        ("config.data", {}, "does not record how it was trained"),
        ("notes", 3, "does not record how it was trained"),
        ("notes", [3], "does not record how it was trained"),
        ("fitted", {"clips": "many"}, "does not record how it was trained"),
        ("fitted", 3, "does not record how it was trained"),
        ("config.beside", [{"audio_ntt": {}}], "has several encoders, as an earlier version combined them"),
        ("config.scene", [{"polled": {}}], r"config.scene\[0\] has no 'polled' \(did you mean 'pooled'\?\)"),
        ("data_card.sources", [{"name": 3, "license": "CC0"}], "source's name is 3; train from shards"),
        ("data_card.sources", [{"name": "a", "license": "CC0", "hours": "x"}], "source's hours is 'x'; train from shards"),
        ("state_dict.embedder.encoder.convolutions.0.0.weight", 3, "is not the tensor of shape"),
    ],
)
def test_a_checkpoint_of_wrong_types_is_one_line(run: Path, tmp_path: Path, place: str, value: Any, line: str) -> None:
    checkpoint = load_checkpoint(run)
    part, _, rest = place.partition(".")
    checkpoint[part] = {**checkpoint[part], rest: value} if rest else value
    torch.save(checkpoint, tmp_path / "wrong.ckpt")
    with pytest.raises(ValueError, match=line) as caught:
        package(request(run, checkpoint=tmp_path / "wrong.ckpt"), tmp_path / "dist")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "dist").exists()


def test_archives_that_unpack_to_far_more_are_refused(tmp_path: Path) -> None:
    for name, read in (("bomb.ckpt", load_checkpoint), ("bomb-1-py3-none-any.whl", lambda path: wheel_rows(path, None))):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(50_000_000))
        with pytest.raises(ValueError, match="would unpack to") as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_manifest_with_wrong_types_is_refused(run: Path, tmp_path: Path) -> None:
    package(request(run, bundle_weights=True), tmp_path)
    path = tmp_path / "hear_test" / "hear_test" / "manifest.json"
    whole = json.loads(path.read_text())
    wrong: list[tuple[str, Any]] = [("weights", []), ("embedder", {"chunk_frames": "800"}), ("name", 3)]
    for key, value in [*wrong, ("weights", {"file": "../w"}), ("weights", {"bytes": True})]:
        path.write_text(json.dumps({**whole, key: value}))
        with pytest.raises(ValueError, match=key) as caught:
            load(tmp_path).load_model()
        assert "\n" not in str(caught.value)
