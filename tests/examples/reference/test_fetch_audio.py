"""The fetcher against an apt archive in a local folder: audio and copyright come whole or not at all, mistakes end in one line."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from examples.reference import fetch_audio
from examples.reference.debian_packages import CORPUS, RESERVED, TEST_DATA
from examples.reference.fetch_audio import fetch

ROOT = Path(__file__).resolve().parents[3]
HAS_APT = all(shutil.which(program) for program in fetch_audio.PROGRAMS)
needs_apt = pytest.mark.skipif(not HAS_APT, reason="apt-get, apt-cache or dpkg-deb is missing: this is not Debian")
SOUNDS = {
    "usr/share/sounds/one.wav": b"RIFF one",
    "usr/share/sounds/deep/two.OGG": b"OggS two",
    "usr/share/sounds/font.sf2": b"RIFF font",
    "usr/share/doc/hear-sounds/copyright": b"License: CC0-1.0\n",
    "usr/share/pictures/three.png": b"PNG",
}


class Result(NamedTuple):
    """What a script left: its exit status and its lines on stderr."""

    status: int
    errors: list[str]


def build_package(folder: Path, name: str, files: dict[str, bytes]) -> str:
    """Write a package into an archive's folder and return its paragraph of the archive's index."""
    tree = folder / f"{name}.tree"
    for path, content in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    if "usr/share/sounds/one.wav" in files:
        (tree / "usr/share/sounds/same.wav").symlink_to("one.wav")
    control = (
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: Test <test@example.com>\nInstalled-Size: 4\nDescription: test\n"
    )
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text(control)
    deb = folder / f"{name}_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, deb], check=True, capture_output=True)
    content = deb.read_bytes()
    return f"{control}Filename: ./{deb.name}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an archive of three packages the only source of apt, and return its folder."""
    folder = tmp_path / "archive"
    folder.mkdir()
    paragraphs = [
        build_package(folder, "hear-sounds", SOUNDS),
        build_package(folder, "hear-more", {"usr/share/a.flac": b"fLaC"}),
        build_package(folder, "hear-pictures", {"usr/share/a.png": b"PNG", "usr/share/doc/hear-pictures/copyright": b"free"}),
    ]
    (folder / "Packages").write_text("\n".join(paragraphs))
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{folder} ./\n")
    for name in ("state/lists/partial", "cache/archives/partial", "empty"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "status").touch()
    settings = {
        "Dir::State": "state",
        "Dir::State::status": "status",
        "Dir::Cache": "cache",
        "Dir::Etc::sourcelist": "sources.list",
        "Dir::Etc::sourceparts": "empty",
        "Dir::Etc::preferencesparts": "empty",
    }
    (tmp_path / "apt.conf").write_text("".join(f'{key} "{tmp_path / value}";\n' for key, value in settings.items()))
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    subprocess.run(["apt-get", "update", "-q"], check=True, capture_output=True)
    return folder


def run_script(*arguments: str | Path, **environment: str) -> Result:
    """Run the script and return how it ended."""
    command = [sys.executable, "-m", "examples.reference.fetch_audio", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment})
    return Result(done.returncode, done.stderr.splitlines())


def files_under(folder: Path) -> dict[str, bytes]:
    """Return the content of every file under a folder by its relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@needs_apt
def test_audio_and_copyright_are_unpacked_and_nothing_else(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "audio"
    assert run_script(out, "hear-sounds", "hear-more") == Result(0, [])
    kept = {path: content for path, content in SOUNDS.items() if not path.endswith(".png")}
    assert files_under(out / "hear-sounds") == {**kept, "usr/share/sounds/same.wav": b"RIFF one"}
    assert (out / "hear-sounds/usr/share/sounds/same.wav").is_symlink()
    assert sorted(path.name for path in out.iterdir()) == ["hear-more", "hear-sounds"]


@needs_apt
def test_what_is_there_is_skipped_and_what_was_interrupted_is_fetched_again(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "audio"
    (out / "hear-sounds").mkdir(parents=True)
    (out / ".hear-more.part" / "kept").mkdir(parents=True)
    assert fetch(out, ["hear-sounds", "hear-more", "hear-more"]) == 1
    assert not files_under(out / "hear-sounds")
    assert files_under(out / "hear-more") == {"usr/share/a.flac": b"fLaC"}
    assert run_script(out, "hear-sounds", "hear-more", PATH="/nowhere") == Result(0, [])  # without apt


@needs_apt
def test_every_package_that_apt_lacks_is_named_before_any_download(archive: Path, tmp_path: Path) -> None:
    status, errors = run_script(tmp_path / "audio", "hear-sounds", "hear-nothing", "hear-none")
    assert (status, len(errors)) == (2, 1)
    assert "apt cannot find hear-nothing, hear-none; run apt-get update as root" in errors[0]
    assert not (tmp_path / "audio").exists()


def damage(deb: Path) -> None:
    deb.write_bytes(deb.read_bytes()[:-4] + b"oops")


@needs_apt
@pytest.mark.parametrize("change", [damage, Path.unlink], ids=["damaged", "gone"])
def test_a_package_that_cannot_be_downloaded_leaves_nothing(archive: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
    change(archive / "hear-more_1.0_all.deb")
    out = tmp_path / "audio"
    status, errors = run_script(out, "hear-sounds", "hear-more")
    assert (status, len(errors)) == (2, 1)
    assert errors[0].startswith("error: hear-more cannot be downloaded: ")
    assert [path.name for path in out.iterdir()] == ["hear-sounds"]


@needs_apt
def test_a_package_without_audio_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"hear-pictures has no audio file \(\.wav, .*\.sf2\)"):
        fetch(tmp_path / "audio", ["hear-pictures"])
    assert not list((tmp_path / "audio").iterdir())


@needs_apt
def test_too_little_space_is_found_before_any_download(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (archive / "hear-more_1.0_all.deb").stat().st_size
    needed = 2 * 4096 + max(size, (archive / "hear-sounds_1.0_all.deb").stat().st_size)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=needed - 1))
    with pytest.raises(ValueError, match=r"of free space, 0\.0 GB are needed"):
        fetch(tmp_path / "audio", ["hear-sounds", "hear-more"])
    assert not (tmp_path / "audio").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=needed))
    assert fetch(tmp_path / "audio", ["hear-sounds", "hear-more"]) == 2


@pytest.mark.parametrize(
    ("packages", "environment", "line"),
    [
        (["klettres-data"], {}, "klettres-data cannot be fetched: reserved for a final test"),
        (["../etc"], {}, "'../etc' is not the name of a Debian package"),
        (["hear-sounds"], {"PATH": "/nowhere"}, "missing programs: apt-get, apt-cache, dpkg-deb"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(packages: list[str], environment: dict[str, str], line: str, tmp_path: Path) -> None:
    status, errors = run_script(tmp_path / "audio", *packages, **environment)
    assert (status, len(errors)) == (2, 1)
    assert line in errors[0]
    assert not (tmp_path / "audio").exists()


def test_no_package_is_of_two_kinds() -> None:
    names = [*CORPUS, *TEST_DATA, *RESERVED]
    assert len(set(names)) == len(names)


@needs_apt
@pytest.mark.slow
@pytest.mark.skipif("HEAR_TEST_DOWNLOADS" not in os.environ, reason="downloads a Debian package: set HEAR_TEST_DOWNLOADS=1")
def test_a_package_of_debian_has_the_files_that_dpkg_unpacks(tmp_path: Path) -> None:
    package = "timgm6mb-soundfont"
    done = subprocess.run(["apt-get", "download", "-q", package], capture_output=True, text=True, cwd=tmp_path)
    if done.returncode:
        pytest.skip(f"apt has no lists or no network: {done.stderr.strip()[-200:]}")
    subprocess.run(["dpkg-deb", "-x", *tmp_path.glob("*.deb"), tmp_path / "whole"], check=True)
    fetch(tmp_path / "audio", [package])
    kept = files_under(tmp_path / "audio" / package)
    whole = files_under(tmp_path / "whole")
    assert sorted(Path(path).name for path in kept) == ["TimGM6mb.sf2", "copyright"]
    assert kept.items() <= whole.items()
