"""Download Debian packages and unpack their audio and copyright files, without installing anything.

    python -m examples.reference.fetch_audio AUDIO [PACKAGE ...]

AUDIO gets one folder per package with the paths of the package; usr/share/doc/PACKAGE/copyright contains its licence.
Without PACKAGE, all of `debian_packages.CORPUS` and `TEST_DATA` are downloaded. A package whose folder exists is skipped. A folder
is created only when it is complete, so an interrupted download resumes with the package at which it stopped.
Needs a Debian 12 system on which `apt-get update` has run, but not root. apt verifies every package by its signed checksum.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from examples.reference.debian_packages import AUDIO_SUFFIXES, CORPUS, RESERVED, TEST_DATA
from hear_ssl.errors import run_main

PROGRAMS = ("apt-get", "apt-cache", "dpkg-deb")
UNPACKED_SUFFIXES = (*AUDIO_SUFFIXES, ".sf2")


@dataclass(frozen=True)
class Size:
    """Bytes of a package: the archive to download, and its files once unpacked."""

    archive: int
    unpacked: int


def fetch(out: Path, packages: list[str]) -> int:
    """Unpack the audio of packages into out/PACKAGE, skip existing ones, and return the number of packages fetched.

    Everything that can be checked is checked before the first download. Raises ValueError for a reserved package, a missing program or
    package, too little disk space, and a package that cannot be downloaded or unpacked.
    """
    refuse_reserved(packages)
    wanted = [package for package in dict.fromkeys(packages) if not (out / package).is_dir()]
    if not wanted:
        return 0
    check_programs()
    sizes = package_sizes(wanted)
    check_space(out, sizes)
    for number, package in enumerate(wanted, 1):
        print(f"{package}: package {number} of {len(wanted)}, {sizes[package].archive / 1e6:.0f} MB", flush=True)
        files = fetch_package(out, package)
        print(f"{package}: {files} audio files", flush=True)
    return len(wanted)


def refuse_reserved(packages: list[str]) -> None:
    """Raise ValueError when a package is reserved for a final test, or is not a valid package name."""
    for package in packages:
        if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", package):
            raise ValueError(f"{package!r} is not the name of a Debian package; names have lower-case letters, digits, + - and .")
    reserved = [package for package in packages if package in RESERVED]
    if reserved:
        raise ValueError(f"{', '.join(reserved)} cannot be fetched: reserved for a final test; name other packages")


def check_programs() -> None:
    """Raise ValueError that names every program that is missing."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise ValueError(f"missing programs: {', '.join(missing)}; run this on Debian, or copy the folder of audio from a Debian system")


def run(command: list[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command with messages in English and return its result, whatever its exit status."""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})


def last_error(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last error line of apt or dpkg; apt marks errors with E: and prints them last."""
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return next((line for line in reversed(lines) if line.startswith("E:")), lines[-1])[:200]


def package_sizes(packages: list[str]) -> dict[str, Size]:
    """Return the sizes of packages from apt's lists. Raises ValueError that names every package not in the lists."""
    listed = run(["apt-cache", "show", "--no-all-versions", *packages]).stdout
    sizes = {}
    for paragraph in listed.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Size|Installed-Size): (\S+)$", paragraph, re.M))
        if {"Package", "Size"} <= fields.keys():  # Size is missing for a package that is installed but not in any list
            kibibytes = int(fields.get("Installed-Size", 0))
            sizes[fields["Package"]] = Size(int(fields["Size"]), kibibytes * 1024)
    missing = [package for package in packages if package not in sizes]
    if missing:
        raise ValueError(f"apt cannot find {', '.join(missing)}; run apt-get update as root, then this again (names are of Debian 12)")
    return sizes


def check_space(out: Path, sizes: dict[str, Size]) -> None:
    """Raise ValueError unless the packages fit on the disk, including the archive of the largest."""
    needed = sum(size.unpacked for size in sizes.values()) + max(size.archive for size in sizes.values())
    folder = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(
            f"{out} has {free / 1e9:.1f} GB of free space, {needed / 1e9:.1f} GB are needed; free some, or give another folder"
        )


def fetch_package(out: Path, package: str) -> int:
    """Download and unpack one package into out/PACKAGE, completely or not at all, and return its number of audio files."""
    part = out / f".{package}.part"
    shutil.rmtree(part, ignore_errors=True)  # of an interrupted run
    part.mkdir(parents=True)
    try:
        archive = download(package, part)
        done = run(["dpkg-deb", "-x", str(archive), str(part / "unpacked")])
        if done.returncode:
            raise ValueError(f"{package} cannot be unpacked: {last_error(done)}")
        count = keep_audio(part / "unpacked", part / "kept")
        if not count:
            raise ValueError(f"{package} has no audio file ({', '.join(UNPACKED_SUFFIXES)}); name another package")
        (part / "kept").rename(out / package)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return count


def download(package: str, folder: Path) -> Path:
    """Download a package into an empty folder and return its archive. Raises ValueError when apt fails."""
    done = run(["apt-get", "download", "-q", package], folder)
    archives = list(folder.glob("*.deb"))
    if done.returncode or len(archives) != 1:
        raise ValueError(f"{package} cannot be downloaded: {last_error(done)}; run apt-get update as root, then this again")
    return archives[0]


def keep_audio(unpacked: Path, kept: Path) -> int:
    """Move audio and copyright files, links included, to the same paths under another folder; return the number of audio files."""
    audio = 0
    for path in sorted(unpacked.rglob("*")):
        is_audio = path.suffix.lower() in UNPACKED_SUFFIXES
        if (is_audio or path.name == "copyright") and (path.is_symlink() or path.is_file()):
            target = kept / path.relative_to(unpacked)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
            audio += is_audio
    return audio


def main() -> int:
    """Fetch the packages of the command line, all of the reference model by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path, metavar="AUDIO", help="folder to write to; one folder per package")
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help="Debian packages (default: those of the reference model)")
    given = parser.parse_args()
    packages = given.packages or [*CORPUS, *TEST_DATA]
    fetched = fetch(given.audio, packages)
    print(f"{given.audio}: {fetched} packages fetched, {len(set(packages)) - fetched} there already")
    return 0


if __name__ == "__main__":
    run_main(main)
