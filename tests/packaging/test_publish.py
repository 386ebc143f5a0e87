"""Publishing: upload once, never over other weights, and load again as a stranger from a real server."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import hear_ssl as hs
from hear_ssl.packaging.package import package
from hear_ssl.packaging.publish import check_weights, with_url
from hear_ssl.packaging.request import PackageRequest
from hear_ssl.packaging.upload import upload
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("publish")
    checkpoint = run / "checkpoints" / "last.ckpt"
    package(PackageRequest(checkpoint, "hear_public", "0.1.0", "https://example.com/w.safetensors", False, False, {}, True), folder)
    return folder


@pytest.fixture
def dist(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "dist"))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "public"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


def publish(dist: Path, to: Path | str, url: str, *more: str) -> subprocess.CompletedProcess[str]:
    arguments = ["--tree", str(dist / "hear_public"), "--weights", str(dist / "hear_public-0.1.0.safetensors")]
    command = [sys.executable, str(ROOT / "export/publish.py"), *arguments, "--to", str(to), "--public-url", url, *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_published_weights_are_loaded_by_a_stranger_and_publishing_again_changes_nothing(dist: Path, served: tuple[str, Path]) -> None:
    address, folder = served
    url = f"{address}/hear_public-0.1.0.safetensors"
    first = publish(dist, folder, url)
    assert first.returncode == 0, first.stderr
    assert "fetched from the URL" in first.stdout
    wheel = (dist / "hear_public-0.1.0-py3-none-any.whl").read_bytes()
    again = publish(dist, folder, url)
    assert again.returncode == 0
    assert "holds these weights already" in again.stdout
    assert (dist / "hear_public-0.1.0-py3-none-any.whl").read_bytes() == wheel
    manifest = json.loads((dist / "hear_public/hear_public/manifest.json").read_text())
    assert manifest["weights"]["url"] == url
    assert json.loads((folder / "hear_public-0.1.0.json").read_text()) == manifest
    assert (folder / "model.safetensors").read_bytes() == (dist / "hear_public-0.1.0.safetensors").read_bytes()
    assert {"README.md", "config.json", "modeling_hear_ssl.py"} <= {file.name for file in folder.iterdir()}
    scenes = [hs.load(source).scene(torch.ones(1, 8000)) for source in (folder, folder / "hear_public-0.1.0.safetensors", url)]
    assert torch.equal(scenes[0], scenes[1])
    assert torch.equal(scenes[0], scenes[2])
    assert url in (dist / "hear_public/README.md").read_text()
    for report in (dist / "hear_public/COMPLIANCE.md", dist / "hear_public/hear_public/COMPLIANCE.md"):
        [line] = [line for line in report.read_text().splitlines() if line.startswith("| Weights at a public URL |")]
        assert line.endswith(f"fetched from {url} and found to be these | holds |")


def test_a_url_that_does_not_answer_is_found_out(dist: Path, served: tuple[str, Path], tmp_path: Path) -> None:
    wheel = (dist / "hear_public-0.1.0-py3-none-any.whl").read_bytes()
    result = publish(dist, tmp_path / "elsewhere", f"{served[0]}/missing.safetensors")
    assert result.returncode == 2
    assert "the weights are not published" in result.stderr
    assert result.stderr.count("\n") == 1
    assert (dist / "hear_public-0.1.0-py3-none-any.whl").read_bytes() == wheel
    assert "| NOT PUBLISHED |" in (dist / "hear_public/COMPLIANCE.md").read_text()


def test_other_weights_under_the_name_are_never_overwritten(dist: Path, tmp_path: Path) -> None:
    weights = dist / "hear_public-0.1.0.safetensors"
    upload(weights, str(tmp_path / "store"), "w.safetensors")
    (tmp_path / "store" / "w.safetensors").write_bytes(b"precious")
    with pytest.raises(ValueError, match="holds other weights; never overwritten"):
        upload(weights, str(tmp_path / "store"), "w.safetensors")
    assert (tmp_path / "store" / "w.safetensors").read_bytes() == b"precious"


def test_any_fsspec_address_is_a_target(dist: Path) -> None:
    weights = dist / "hear_public-0.1.0.safetensors"
    assert "MB" in upload(weights, "memory://models", "w.safetensors")
    assert "already" in upload(weights, "memory://models", "w.safetensors")


def test_a_target_that_is_not_there_is_one_line(dist: Path) -> None:
    weights = dist / "hear_public-0.1.0.safetensors"
    for target, line in (("/proc/nowhere", "cannot write to /proc/nowhere"), ("nosuch://x", "nosuch")):
        with pytest.raises(ValueError, match=line):
            upload(weights, target, "w.safetensors")


def test_an_empty_target_is_refused_and_a_query_is_no_part_of_the_name(dist: Path, served: tuple[str, Path]) -> None:
    address, folder = served
    url = f"{address}/hear_public-0.1.0.safetensors"
    assert "--to is empty" in publish(dist, "", url).stderr
    refused = publish(dist, folder / "sub", f"{url}?download=1")  # the server serves the folder above: not published
    assert "the weights are not published" in refused.stderr
    assert [file.name for file in (folder / "sub").iterdir()] == ["hear_public-0.1.0.safetensors"]


def test_weights_of_another_model_are_refused(dist: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"other")
    with pytest.raises(ValueError, match="are not the weights of"):
        check_weights(dist / "hear_public", other)
    with pytest.raises(ValueError, match="is not an exported source tree"):
        check_weights(tmp_path, other)


def test_the_wheel_built_anew_equals_the_first_but_for_the_url(dist: Path) -> None:
    wheels = []
    for url in ("https://example.com/w.safetensors", "https://example.com/w.safetensors", "https://example.org/w.safetensors"):
        with_url(dist / "hear_public", url)
        wheels.append((dist / "hear_public-0.1.0-py3-none-any.whl").read_bytes())
    assert wheels[0] == wheels[1] != wheels[2]


def test_a_tree_that_is_not_whole_is_left_as_it_was(dist: Path) -> None:
    tree = dist / "hear_public"
    (tree / "hear_public" / "COMPLIANCE.md").unlink()
    before = {file: file.read_bytes() for file in dist.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match="is not a complete source tree"):
        with_url(tree, "https://example.org/w.safetensors")
    assert {file: file.read_bytes() for file in dist.rglob("*") if file.is_file()} == before


def test_published_after_packaging_equals_packaged_after_publishing(
    dist: Path, run: Path, served: tuple[str, Path], tmp_path: Path
) -> None:
    weights, url = dist / "hear_public-0.1.0.safetensors", f"{served[0]}/w.safetensors"
    request = PackageRequest(run / "checkpoints" / "last.ckpt", "hear_public", "0.1.0", url, False, False, {})
    for content, line in ((None, "404"), (weights.read_bytes()[:-1], "serves other weights")):
        if content:
            (served[1] / "w.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=rf"the weights are not published: .*{line}.*--allow-unpublished") as caught:
            package(request, tmp_path / "refused")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "refused").exists()
    shutil.copy(weights, served[1] / "w.safetensors")
    wheel = package(request, tmp_path / "after")
    assert wheel.read_bytes() == with_url(dist / "hear_public", url).read_bytes()
    for file in ("COMPLIANCE.md", "README.md", "MODEL_CARD.md", "hear_public/manifest.json", "hear_public/COMPLIANCE.md"):
        assert (tmp_path / "after" / "hear_public" / file).read_bytes() == (dist / "hear_public" / file).read_bytes()
