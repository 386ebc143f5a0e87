"""Writing an export: refused before it is computed, nothing of the user's lost, and whole again after a kill."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from hear_ssl.files import atomic_write
from hear_ssl.folder_lock import FolderBusyError, folder_lock
from hear_ssl.packaging import compliance
from hear_ssl.packaging import writer as tree
from hear_ssl.packaging.package import package
from hear_ssl.packaging.publish import with_url
from tests.packaging.test_package import request


def unmeasured(*arguments: Any, **named: Any) -> list[Any]:
    raise AssertionError("measured before the place was checked")


def test_a_place_that_cannot_take_the_export_is_refused_before_anything_is_measured_or_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compliance, "measure", unmeasured)
    (tmp_path / "file").write_text("mine")
    weights, precious = tmp_path / "hear_test-0.1.0.safetensors", tmp_path / "hear_test" / "precious.txt"
    weights.write_text("earlier")
    precious.parent.mkdir()
    precious.write_text("mine")
    for out, line in (
        (tmp_path, "is not an exported source tree"),
        (tmp_path / "file" / "dist", "cannot be written"),
        (Path("/proc/x"), "/proc"),
    ):
        with pytest.raises((ValueError, OSError), match=line) as caught:
            package(request(run), out)
        assert "\n" not in str(caught.value)
    assert (precious.read_text(), weights.read_text()) == ("mine", "earlier")
    assert not list(tmp_path.glob("*.whl"))


def test_packaging_again_keeps_what_the_user_added_to_the_tree(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compliance, "measure", lambda *arguments: [])
    package(request(run, bundle_weights=True), tmp_path)
    folder = tmp_path / "hear_test"
    (folder / "notes.txt").write_text("mine")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    stale = folder / "hear_test" / "old" / "stale.py"
    stale.parent.mkdir()
    stale.write_text("")
    (folder / "README.md").write_text("changed")
    wheel = package(request(run), tmp_path)
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / ".git" / "HEAD").is_file()
    assert not stale.parent.exists()
    assert not (folder / "hear_test" / "weights.safetensors").exists()
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if name.startswith("hear_test/")}
    assert shipped == {file.relative_to(folder).as_posix() for file in (folder / "hear_test").rglob("*") if file.is_file()}
    assert (folder / "README.md").read_text() != "changed"


def test_a_killed_export_leaves_a_tree_that_can_be_written_again(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compliance, "measure", lambda *arguments: [])
    written: list[Path] = []

    def killed(path: Path, content: bytes) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        atomic_write(path, content)

    for first in (True, False):
        with monkeypatch.context() as patched:
            patched.setattr(tree, "atomic_write", killed)
            with pytest.raises(KeyboardInterrupt):
                package(request(run), tmp_path)
        assert len(list((tmp_path / "hear_test").rglob("*.*"))) >= (2 if first else 20)
        written.clear()
        package(request(run), tmp_path)


def test_what_a_killed_command_left_unfinished_is_removed_and_never_shipped(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compliance, "measure", lambda *arguments: [])
    package(request(run), tmp_path)
    folder = tmp_path / "hear_test"
    parts = [
        place / f".{name}.4711.0123abcd.part"
        for place, name in ((tmp_path, "hear_test-0.1.0.safetensors"), (folder, "README.md"), (folder / "hear_test", "manifest.json"))
    ]
    for part in parts:
        part.touch()
    wheel = with_url(folder, "https://example.com/w.safetensors")
    assert not [part for part in parts if part.exists()]
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".part")]


def test_packages_of_one_folder_are_written_one_after_the_other(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compliance, "measure", lambda *arguments: [])
    monkeypatch.setattr("hear_ssl.packaging.package.WRITING_SECONDS", 0.2)
    with folder_lock(tmp_path, ""), pytest.raises(FolderBusyError, match="another process is writing to"):
        package(request(run), tmp_path)
    assert list(tmp_path.iterdir()) == []
    package(request(run), tmp_path)


@pytest.mark.parametrize(("name", "content"), [("metrics.csv", b"step,loss\n1,\xff\n2,1\n"), ("environment.json", b"[" * 50_000)])
def test_a_damaged_record_of_the_run_is_named(run: Path, tmp_path: Path, name: str, content: bytes) -> None:
    copied = Path(shutil.copytree(run, tmp_path / "run"))
    (copied / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"run/{name} is damaged"):
        package(request(copied), tmp_path / "out")
