"""Rules for the wheel file, checked without importing it."""

from __future__ import annotations

import base64
import csv
import email
import hashlib
import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

from hear_ssl.addresses import check_public
from hear_ssl.checkpoint import exported_manifest
from hear_ssl.model.download import check_url
from hear_ssl.model.manifest import Manifest
from hear_ssl.packaging.licenses import known_license, missing_license
from hear_ssl.packaging.naming import TAKEN
from hear_ssl.packaging.rules.rows import RuleResult
from hear_ssl.progress import counted
from hear_ssl.test_data_rule import marks_test

OPEN_LICENSES = (  # phrases of Apache-2.0, BSD, MIT and ISC; "MIT" alone would also match "permit"
    "apache license",
    "apache-2.0",
    "redistribution and use in source and binary forms",
    "mit license",
    "permission is hereby granted, free of charge",
    "permission to use, copy, modify, and/or distribute",
)
OPEN_WEIGHTS = ("creative commons attribution 4.0", "cc by 4.0", "cc-by-4.0", "cc0", "public domain", *OPEN_LICENSES)
RESTRICTED = ("noncommercial", "non-commercial", "noderiv", "no derivatives", "sharealike")
SOURCE_TYPES: dict[str, type | tuple[type, ...]] = {"name": str, "license": str, "hours": (int, float), "clips": int}
MAX_EXPANSION = 100  # Python source is compressed to a fifth, zeros to a thousandth
AWAITED = "load_model() has yet to fetch them"


def wheel_rows(path: Path, weights: Path | None) -> list[RuleResult]:
    """Return the rows of a wheel: complete, depends on torch alone, licences, URL and hash of the weights, training data, CUDA versions.

    Raises ValueError when the file is not a wheel.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
            if unpacked > MAX_EXPANSION * path.stat().st_size:
                raise ValueError(f"{path} would unpack to {unpacked / 1e6:.0f} MB, {MAX_EXPANSION} times its size and more: refused")
            files = {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}
    except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError) as error:  # RuntimeError: encrypted, or an unknown compression
        raise ValueError(f"{path} is not a wheel ({str(error)[:80]}); build one with hear-ssl package") from None
    meta_path = next((name for name in files if name.endswith(".dist-info/METADATA")), None)
    if meta_path is None:
        raise ValueError(f"{path} is not a wheel: it has no METADATA; build one with hear-ssl package")
    meta = email.message_from_bytes(files[meta_path])
    info = meta_path.rpartition("/")[0]
    rows = [record_row(files, info), top_level_row(files, info), requirements_row(meta.get_all("Requires-Dist") or [])]
    rows += [
        license_row(files, info, "LICENSE", "code"),
        license_row(files, info, "LICENSE-weights", "weights"),
    ]
    text = str(meta.get_payload())
    rows.append(RuleResult("CUDA and cuDNN versions", "The README names the CUDA and cuDNN versions.", *_mentions(text, ("CUDA", "cuDNN"))))
    return rows + manifest_rows(files, weights)


def _mentions(text: str, words: tuple[str, ...]) -> tuple[str, bool]:
    missing = [word for word in words if word.lower() not in text.lower()]
    return (f"does not mention {', '.join(missing)}", False) if missing else (f"mentions {', '.join(words)}", True)


def record_row(files: dict[str, bytes], info: str) -> RuleResult:
    """Check every file against its hash in RECORD."""
    rule = "The wheel carries all its files: each is listed in RECORD with its hash."
    listed = {row[0]: row[1] for row in csv.reader(io.StringIO(files.get(f"{info}/RECORD", b"").decode())) if len(row) >= 2}
    wrong = [name for name in files if name != f"{info}/RECORD" and listed.get(name) != record_hash(files[name])]
    missing = [name for name in listed if name not in files]
    bad = sorted(wrong + missing)
    return RuleResult("wheel is whole", rule, f"wrong or missing: {', '.join(bad[:3])}" if bad else f"{len(files)} files match", not bad)


def record_hash(content: bytes) -> str:
    """Return a file's hash in the form of RECORD."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def top_level_row(files: dict[str, bytes], info: str) -> RuleResult:
    """Check that there is one importable package and nothing else."""
    tops = sorted({name.partition("/")[0] for name in files} - {info})
    hiding = [top for top in tops if top.removesuffix(".py").lower() in TAKEN]
    passed = len(tops) == 1 and f"{tops[0]}/__init__.py" in files and not hiding
    measured = ", ".join(tops)[:160] + (f"; {hiding[0]} hides another module" if hiding else "")
    return RuleResult("one package", "The wheel installs one package under its own name and nothing else.", measured, passed)


def requirements_row(requirements: list[str]) -> RuleResult:
    """Check that torch is the only requirement apart from those of extras, and is not pinned."""
    requirements = [
        text for text in requirements if "extra ==" not in text or " or " in text
    ]  # PEP 508: with `or`, the marker can be true without the extra
    passed = [r.replace(" ", "").replace("(", "").replace(")", "") for r in requirements] == ["torch>=2.0"]
    return RuleResult(
        "depends on torch alone",
        "It installs with any torch >= 2.0 and needs nothing else.",
        ", ".join(requirements) or "nothing",
        passed,
    )


def license_row(files: dict[str, bytes], info: str, name: str, what: str) -> RuleResult:
    """Check that a licence file exists, is in the wheel's metadata, and has a kind that the rules require."""
    rule, accepted = {
        "code": ("The code is under Apache-2.0 or a compatible licence.", OPEN_LICENSES),
        "weights": ("The weights are under CC BY 4.0 or a compatible licence.", OPEN_WEIGHTS),
    }[what]
    places = [f"{info}/{folder}{name}{suffix}".lstrip("/") for folder in ("licenses/", "") for suffix in ("", ".txt", ".md")]
    text = next((files[place] for place in places if place in files), b"").decode(errors="replace")
    first = next((line.strip() for line in text.splitlines() if line.strip()), f"no file {name}")
    return RuleResult(f"licence of the {what}", rule, first[:80], is_open(text, accepted))


def is_open(text: str, accepted: tuple[str, ...]) -> bool:
    """Return whether a licence text has one of the phrases and forbids neither commercial use nor changes."""
    words = " ".join(text.lower().split())
    return any(phrase in words for phrase in accepted) and not any(word in words for word in RESTRICTED)


def manifest_rows(files: dict[str, bytes], weights: Path | None) -> list[RuleResult]:
    """Check the manifest: URL and hash of the weights, training data. Return no rows for a package that is not ours."""
    path = next((name for name in sorted(files) if name.count("/") == 1 and name.endswith("/manifest.json")), None)
    if path is None:
        return []
    try:
        manifest = exported_manifest(files[path], path)
    except ValueError as error:
        return [RuleResult("manifest", "The manifest is readable.", str(error), False)]
    bundled = files.get(path.replace("manifest.json", manifest.weights.file))
    content = weights.read_bytes() if weights else bundled
    return [url_row(manifest, content is not None), hash_row(manifest, content), data_row(manifest.training.get("data"))]


def url_row(manifest: Manifest, at_hand: bool) -> RuleResult:
    """Check that the weights have a public address; undecided until load_model() has downloaded them from it."""
    rule = "The weights have a publicly accessible URL."
    try:
        check_url(manifest.weights.url)
        check_public(manifest.weights.url, "the address")
    except ValueError as error:
        return RuleResult("weights URL", rule, str(error), False)
    how = "not fetched, weights are at hand; hear-ssl publish loads them from there" if at_hand else AWAITED
    return RuleResult("weights URL", rule, f"{manifest.weights.url}: {how}", None)


def hash_row(manifest: Manifest, content: bytes | None) -> RuleResult:
    """Check bundled or given weights against the hash in the manifest; undecided when there are none."""
    rule = "The weights are those of the manifest, by SHA-256."
    if content is None:
        return RuleResult("weights hash", rule, AWAITED, None)
    found = hashlib.sha256(content).hexdigest()
    return RuleResult("weights hash", rule, f"{found[:16]}..., {len(content) / 1e6:.1f} MB", found == manifest.weights.sha256)


def data_row(data: Any) -> RuleResult:
    """Check that no training data were marked as test data and every source has a licence."""
    rule = "No existing data marked as test was used for training; every source has a licence."
    try:
        check_training_data(data)
    except ValueError as error:
        return RuleResult("training data", rule, str(error), False)
    return RuleResult(
        "training data", rule, f"split {data['split']}, {counted(len(data['sources']), 'source')}, {data['hours']:.2f} hours", True
    )


def check_training_data(card: Any) -> None:
    """Raise ValueError when data were marked as test data, a source has no licence, or there is no record of the data."""
    sources = card.get("sources") if isinstance(card, dict) else None
    if not sources or not isinstance(sources, list) or not all(isinstance(source, dict) for source in sources):
        raise ValueError("it is not recorded what the model was trained on; train from shards packed by hear-ssl pack")
    if not isinstance(card.get("split"), str) or not isinstance(card.get("hours"), (int, float)):
        raise ValueError("split or hours of the training data are not recorded; train from shards packed by hear-ssl pack")
    if marks_test(card["split"]):
        raise ValueError(
            f"the model was trained on data marked {card['split']}: HEAR rule: existing data marked as test may not be used for training"
        )
    for source in sources:
        if not known_license(str(source.get("license") or "")):
            raise ValueError(missing_license(source))
        wrong = next((key for key, kind in SOURCE_TYPES.items() if not isinstance(source.get(key), kind)), None)
        if wrong:
            raise ValueError(f"a training source's {wrong} is {source.get(wrong)!r:.60}; train from shards packed by hear-ssl pack")
