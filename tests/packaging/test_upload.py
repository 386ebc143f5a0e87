"""What an upload may replace: files of the same model, never those of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hear_ssl.packaging.upload import check_manifest, check_same_model, has_folders, put

NAMES = ["README.md", "config.json", "model.safetensors"]


def manifest(name: str = "hear_one", version: str = "0.1.0", sha256: str = "aa", url: str = "https://example.com/w") -> dict[str, Any]:
    return {"name": name, "version": version, "weights": {"sha256": sha256, "url": url}}


def check(folder: Path, **asked: str) -> None:
    check_same_model(str(folder), NAMES, manifest(**asked), "model.safetensors")


def test_an_empty_target_and_an_earlier_version_are_written_to(tmp_path: Path) -> None:
    check(tmp_path / "missing")
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")  # as the hub makes it
    check(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest()))
    (tmp_path / "README.md").write_text("a card\n")
    check(tmp_path, sha256="bb", version="0.2.0")
    assert put(b"new", str(tmp_path), "README.md").endswith("README.md")
    assert (tmp_path / "README.md").read_bytes() == b"new"
    assert put(b"new", str(tmp_path), "README.md").endswith("is as it should be")


@pytest.mark.parametrize(
    ("present", "line"),
    [
        ({"README.md": "my project\n"}, "has a README.md that is not of this model"),
        ({"README.md": "---\nlicense: mit\n---\nmy project\n"}, "has a README.md that is not of this model"),
        ({"model.safetensors": "weights"}, "has a model.safetensors that is not of this model"),
        ({"manifest.json": json.dumps(manifest("hear_other"))}, "has the model 'hear_other', whose files would be overwritten"),
        ({"manifest.json": "[" * 100000}, "has the model 'None'"),
        ({"manifest.json": json.dumps(manifest(url="https://e.org/model.safetensors"))}, "wheel fetches model.safetensors from there"),
    ],
)
def test_files_of_others_are_not_overwritten(tmp_path: Path, present: dict[str, str], line: str) -> None:
    for name, text in present.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"{line}.*give another --to, or --weights-only") as caught:
        check(tmp_path, sha256="bb", version="0.2.0")
    assert "\n" not in str(caught.value)


def test_a_manifest_of_other_weights_is_not_overwritten(tmp_path: Path) -> None:
    check_manifest(str(tmp_path), "one.json", "aa")
    (tmp_path / "one.json").write_text(json.dumps(manifest()))
    check_manifest(str(tmp_path), "one.json", "aa")
    for text in (json.dumps(manifest(sha256="bb")), "{}", "no JSON"):
        (tmp_path / "one.json").write_text(text)
        with pytest.raises(ValueError, match=r"has a one\.json that is not of these weights"):
            check_manifest(str(tmp_path), "one.json", "aa")


def test_transformers_loads_from_folders_and_the_hub() -> None:
    assert [has_folders(target) for target in ("out", "/out", "file:///out", "hf://me/model", "s3://b/m", "gs://b", "memory://m")] == [
        *[True] * 4,
        *[False] * 3,
    ]
