"""List the audio of Debian packages for packing, with the licences in their copyright files.

    python -m examples.reference.real_corpus AUDIO corpus.jsonl && python -m hear_ssl.data.pack corpus.jsonl --out shards

AUDIO is the folder of `fetch_audio.py`: one folder per package. Test data and packages reserved for a final test are left out by name.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from examples.reference.debian_packages import AUDIO_SUFFIXES, RESERVED, TEST_DATA
from hear_ssl.errors import run_main
from hear_ssl.files import atomic_write
from hear_ssl.packaging.licenses import known_license

IN_PROSE = {  # packages of Debian 12 whose copyright files are not in DEP-5 format
    "asterisk-moh-opsound-wav": "CC-BY-SA-3.0",
    "wesnoth-1.16-data": "GPL-2.0-or-later",
    "wesnoth-1.16-music": "GPL-2.0-or-later",
}


def license_of(package: Path) -> str:
    """Return the licences in a package's DEP-5 copyright file, joined by ' AND '; for a file in prose, its entry in IN_PROSE.

    A name that is not in SPDX becomes LicenseRef-NAME, which refers to its text in the copyright file.
    """
    for file in package.rglob("copyright"):
        names = re.findall(r"^License:[ \t]*(\S.*)$", file.read_text(errors="replace"), re.M)
        if names:
            return " AND ".join(sorted({spdx_term(name.strip()) for name in names}))
    return IN_PROSE.get(package.name, "unknown")


def spdx_term(name: str) -> str:
    """Return a short name of a copyright file as a term of an SPDX expression."""
    if not known_license(name):
        return "LicenseRef-" + re.sub("[^A-Za-z0-9.]+", "-", name).strip("-")
    return f"({name})" if " or " in name else name


def corpus_lines(audio: Path) -> list[str]:
    """Return a JSON line with path, license and source for every audio file that may be trained on.

    Raises ValueError when `audio` is not a folder, or has no such file.
    """
    if not audio.is_dir():
        raise ValueError(f"{audio} is not a folder; fetch the audio first: python -m examples.reference.fetch_audio {audio}")
    lines = []
    for package in sorted(path for path in audio.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if package.name in (*TEST_DATA, *RESERVED):
            print(f"left out: {package.name}")
            continue
        license = license_of(package)
        for path in sorted(path for path in package.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES):
            lines.append(json.dumps({"path": str(path.resolve()), "license": license, "source": package.name}) + "\n")
    if not lines:
        raise ValueError(f"{audio} has no audio to train on; fetch it: python -m examples.reference.fetch_audio {audio}")
    return lines


def main() -> int:
    """Write the list with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path, metavar="AUDIO", help="folder of fetch_audio.py")
    parser.add_argument("out", type=Path, metavar="FILE.jsonl", help="list to write")
    given = parser.parse_args()
    atomic_write(given.out, "".join(corpus_lines(given.audio)))
    return 0


if __name__ == "__main__":
    run_main(main)
