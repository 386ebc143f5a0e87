"""Names, versions and addresses that a package may have."""

from __future__ import annotations

import keyword
import re
import sys

VERSION = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*((a|b|rc)(0|[1-9]\d*))?(\.post(0|[1-9]\d*))?(\.dev(0|[1-9]\d*))?", re.ASCII)
OURS = {"hear_ssl", "examples", "export", "train", "tests"}
BESIDE = {"torch", "torchaudio", "numpy", "soundfile", "soxr", "tqdm", "pip", "setuptools", "wheel", "heareval", "hearvalidator"}


def check_name(name: str) -> None:
    """Raise ValueError unless `name` can be both the module and the distribution: lower-case letters, digits, single underscores."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise ValueError(
            f"package name {name!r} is not allowed; use lower-case letters, digits and single underscores, such as hear_mymodel"
        )
    if name in OURS | BESIDE | sys.stdlib_module_names:
        raise ValueError(f"package name {name!r} would hide another package; choose one of your own, such as hear_mymodel")


def check_version(version: str) -> None:
    """Raise ValueError unless `version` is a normalised public version (PEP 440), such as 0.1.0 or 1.0rc1."""
    if not VERSION.fullmatch(version):
        raise ValueError(f"version {version!r} is not allowed; give numbers with dots, such as 0.1.0 or 1.0rc1 (PEP 440)")
