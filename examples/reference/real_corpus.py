"""List the real, free audio of Debian packages for packing, with each package's licence from its copyright file.

    python examples/reference/real_corpus.py AUDIO corpus.jsonl && python -m hear_ssl.data.pack corpus.jsonl --out shards

AUDIO holds one folder a package with its files and usr/share/doc/PACKAGE/copyright. Test data and packages kept for a
final test are refused by name.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

AUDIO = {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff"}
TEST_DATA = {"hydrogen-drumkits", "hydrogen-data", "timgm6mb-soundfont", "ktuberling-data"}
RESERVED = {"tuxpaint-stamps-default", "klettres-data", "gcin-voice", "hedgewars-data", "0ad-data", "fluid-soundfont-gm", "openttd-openmsx"}


def license_of(package: Path) -> str:
    """Return the short names of the licences in a package's DEP-5 copyright file, joined by ' AND '."""
    for file in package.rglob("copyright"):
        names = re.findall(r"^License:[ \t]*(\S.*)$", file.read_text(errors="replace"), re.M)
        if names:
            return " AND ".join(sorted({name.strip() for name in names}))
    return "see the package's copyright file"


def main() -> None:
    audio, out = Path(sys.argv[1]), Path(sys.argv[2])
    with open(out, "w") as file:
        for package in sorted(path for path in audio.iterdir() if path.is_dir() and not path.name.startswith(".")):
            if package.name in TEST_DATA | RESERVED or package.name.endswith(".part"):
                print(f"left out: {package.name}")
                continue
            license = license_of(package)
            for path in sorted(path for path in package.rglob("*") if path.suffix.lower() in AUDIO):
                file.write(json.dumps({"path": str(path.resolve()), "license": license, "source": package.name}) + "\n")


if __name__ == "__main__":
    main()
