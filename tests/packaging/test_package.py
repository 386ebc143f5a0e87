"""From a checkpoint to a wheel and a source tree: reproducible, complete, and refused in one line when it may not ship."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hear_ssl.checkpoint import embedder_from_checkpoint
from hear_ssl.model import hear
from hear_ssl.packaging import templates as texts
from hear_ssl.packaging.naming import check_name, check_version
from hear_ssl.packaging.package import check_training_data, package
from hear_ssl.packaging.request import PackageRequest
from hear_ssl.packaging.wheel_rules import OPEN_WEIGHTS, is_open
from tests.conftest import ROOT

URL = "https://example.com/weights.safetensors"


def request(run: Path, **changes: Any) -> PackageRequest:
    values = {
        "checkpoint": run / "checkpoints" / "last.ckpt",
        "name": "hear_test",
        "version": "0.1.0",
        "weights_url": URL,
        "bundle_weights": False,
        "untrained": False,
        "composition": {},
        "allow_unpublished": True,
    }
    return PackageRequest(**{**values, **changes})


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ROOT / "export/package.py"), *arguments], capture_output=True, text=True, check=False)


def load(folder: Path, name: str = "hear_test") -> Any:
    """Import the exported module from its source tree, fresh."""
    for known in [key for key in sys.modules if key.partition(".")[0] == name]:
        del sys.modules[known]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder / name)
        return __import__(name)


@pytest.mark.slow
def test_the_same_checkpoint_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    wheels = [package(request(run), tmp_path / place) for place in ("one", "two")]
    assert wheels[0].read_bytes() == wheels[1].read_bytes()
    trees = [sorted(path for path in (tmp_path / place / "hear_test").rglob("*") if path.is_file()) for place in ("one", "two")]
    assert [path.read_bytes() for path in trees[0]] == [path.read_bytes() for path in trees[1]]


@pytest.mark.slow
def test_the_wheel_holds_the_model_package_verbatim_and_depends_on_torch_alone(run: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(package(request(run), tmp_path)) as wheel:
        names = set(wheel.namelist())
        for path in (ROOT / "hear_ssl" / "model").rglob("*.py"):
            member = f"hear_test/{path.relative_to(ROOT / 'hear_ssl' / 'model').as_posix()}"
            assert wheel.read(member) == path.read_bytes()
        metadata = wheel.read("hear_test-0.1.0.dist-info/METADATA").decode()
    requires = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra" not in line]
    assert requires == ["Requires-Dist: torch>=2.0"]
    assert {"hear_test/manifest.json", "hear_test/golden.safetensors"} <= names
    assert not any(name.endswith(".ckpt") or "weights.safetensors" in name for name in names)


@pytest.mark.slow
def test_the_source_tree_says_what_it_is(run: Path, tmp_path: Path) -> None:
    package(request(run), tmp_path)
    tree = tmp_path / "hear_test"
    readme, card = (tree / "README.md").read_text(), (tree / "MODEL_CARD.md").read_text()
    assert "load_model" in readme
    assert len([line for line in readme.partition("## More")[0].splitlines() if line.strip()]) <= 20
    for heading in ("pip install", "hear_test embed", "Evaluate: ", "Cite: "):
        assert heading in readme.partition("## More")[0]
    assert "CUDA" in readme
    assert "cuDNN" in readme
    assert "CC BY 4.0" in readme + card
    assert "Apache License" in "".join(path.read_text() for path in tree.glob("LICENSE*"))
    manifest = json.loads((tree / "hear_test" / "manifest.json").read_text())
    assert manifest["training"]["data"]["sources"][0]["license"]
    assert str(run.parent) not in json.dumps(manifest)
    report = (tree / "COMPLIANCE.md").read_text()
    assert report == (tree / "hear_test" / "COMPLIANCE.md").read_text()
    assert report.count("| holds |") > 15
    assert manifest["weights"]["sha256"] in report
    assert "| peak of resident memory on the CPU below 4 GB | holds |" in report
    assert report.count("| not measured |") == 0


@pytest.mark.slow
def test_the_exported_model_is_the_trained_one(run: Path, tmp_path: Path) -> None:
    package(request(run, bundle_weights=True), tmp_path)
    module, audio = load(tmp_path), torch.rand(2, 20000) - 0.5
    embedder, _ = embedder_from_checkpoint(run)
    assert torch.equal(module.get_scene_embeddings(audio, module.load_model()), hear.get_scene_embeddings(audio, embedder))


@pytest.mark.slow
def test_half_precision_halves_the_file_and_hardly_moves_the_embeddings(run: Path, tmp_path: Path) -> None:
    package(request(run), tmp_path / "whole")
    package(request(run, bundle_weights=True, half=True), tmp_path)
    sizes = [(folder / "hear_test-0.1.0.safetensors").stat().st_size for folder in (tmp_path, tmp_path / "whole")]
    module, audio = load(tmp_path), torch.rand(2, 20000) - 0.5
    model = module.load_model()
    assert sizes[1] - sizes[0] == pytest.approx(2 * sum(parameter.numel() for parameter in model.parameters()), abs=200)  # and the header
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    whole = hear.get_scene_embeddings(audio, embedder_from_checkpoint(run)[0])
    difference = module.get_scene_embeddings(audio, model) - whole
    assert 0.0 < float(difference.abs().max()) < 0.01 * float(whole.abs().max())
    assert "in float16, SHA-256" in (tmp_path / "hear_test" / "README.md").read_text()


def test_a_weight_too_large_for_half_precision_is_refused(run: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    name = next(name for name in checkpoint["state_dict"] if name.startswith("embedder.encoder") and name.endswith("weight"))
    checkpoint["state_dict"][name].mul_(1e9)
    torch.save(checkpoint, tmp_path / "large.ckpt")
    with pytest.raises(ValueError, match=r"--half cannot hold encoder.*reaches .*; leave --half out"):
        package(request(run, checkpoint=tmp_path / "large.ckpt", half=True), tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


@pytest.mark.slow
def test_the_composition_is_chosen_without_retraining(run: Path, tmp_path: Path) -> None:
    package(
        request(run, bundle_weights=True, composition={"scene.0.how": "mean,std", "timestamp": ["tokens", {"contexts": {"ms": [200]}}]}),
        tmp_path,
    )
    module = load(tmp_path)
    model = module.load_model()
    layers = sum(model.encoder.layer_dims)
    assert (model.scene_embedding_size, model.timestamp_embedding_size) == (2 * layers, 2 * layers)
    with pytest.raises(ValueError, match=r"--set scene.0.pooling: scene.0.pooled.pooling is not known; allowed are layers, how"):
        package(request(run, composition={"scene.0.pooling": "mean"}), tmp_path)


@pytest.mark.slow
def test_the_untrained_export_has_other_weights(run: Path, tmp_path: Path) -> None:
    package(request(run, untrained=True), tmp_path / "untrained")
    package(request(run), tmp_path / "trained")
    hashes = [(tmp_path / name / "hear_test-0.1.0.safetensors").read_bytes() for name in ("untrained", "trained")]
    assert hashes[0] != hashes[1]


class Files(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and counts what was asked for."""

    asked: list[str] = []  # noqa: RUF012 - the class is made anew for each server

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/elsewhere"):
            self.send_response(302)
            self.send_header("Location", "http://localhost.localdomain/other.safetensors")
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, *arguments: Any) -> None:
        return


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    folder = tmp_path / "served"
    folder.mkdir()
    handler = type("Handler", (Files,), {"asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a, **k: handler(*a, directory=str(folder), **k)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", folder, handler.asked
        running.shutdown()


@pytest.mark.slow
def test_weights_are_fetched_once_checked_and_used_offline(
    run: Path, tmp_path: Path, server: tuple[str, Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, served, asked = server
    monkeypatch.setenv("HEAR_WEIGHTS_CACHE", str(tmp_path / "cache"))
    package(request(run, weights_url=f"{address}/w.safetensors"), tmp_path)
    weights = (tmp_path / "hear_test-0.1.0.safetensors").read_bytes()
    module = load(tmp_path)
    (served / "w.safetensors").write_bytes(weights[:-100])
    with pytest.raises(ValueError, match="SHA-256"):
        module.load_model()
    assert not list((tmp_path / "cache").glob("*.safetensors"))
    (served / "w.safetensors").write_bytes(weights)
    first = module.load_model()
    count = len(asked)
    (served / "w.safetensors").unlink()
    second = module.load_model()
    assert len(asked) == count
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))


@pytest.mark.slow
def test_an_unreachable_url_and_a_redirect_to_another_host_are_one_line(
    run: Path, tmp_path: Path, server: tuple[str, Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEAR_WEIGHTS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    package(request(run, weights_url=f"{server[0]}/missing.safetensors"), tmp_path / "missing")
    with pytest.raises(OSError, match=r"missing.safetensors") as caught:
        load(tmp_path / "missing").load_model()
    assert "\n" not in str(caught.value)
    package(request(run, weights_url=f"{server[0]}/elsewhere.safetensors"), tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="only https may lead to another host"):
        load(tmp_path / "elsewhere").load_model()
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.slow
def test_weights_given_by_path_are_used_alone_and_wrong_ones_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAR_WEIGHTS_CACHE", str(tmp_path / "cache"))
    package(request(run), tmp_path)
    weights = tmp_path / "hear_test-0.1.0.safetensors"
    module = load(tmp_path)
    module.load_model(str(weights))
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ValueError, match="another model or damaged"):
        module.load_model(str(truncated))
    with pytest.raises(FileNotFoundError, match="is not a file"):
        module.load_model(str(tmp_path / "none.safetensors"))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "name", ["", "Hear", "hear-model", "1hear", "hear__x", "class", "torch", "json", "../x", "hear ssl", "hear_ssl", "tqdm"]
)
def test_illegal_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="package name"):
        check_name(name)


@pytest.mark.parametrize("version", ["", "v1", "1.0-beta", "1..0", "01.0", "1.0+local", "latest", "1.0\n", "1.\u0661"])
def test_illegal_versions_are_refused(version: str) -> None:
    with pytest.raises(ValueError, match="version"):
        check_version(version)


@pytest.mark.parametrize(
    ("card", "line"),
    [
        ({"split": "train, test", "hours": 1.0, "sources": [{"name": "a", "license": "CC0"}]}, "marked as test may not be used"),
        ({"split": "train", "sources": []}, "not recorded what the model was trained on"),
        ({}, "not recorded what the model was trained on"),
        (None, "not recorded what the model was trained on"),
        ({"split": "train", "hours": 1.0, "sources": [3]}, "not recorded what the model was trained on"),
        ({"split": "train", "sources": [{"name": "a", "license": "CC0-1.0"}]}, "split or hours"),
        ({"split": "train, dev-test", "hours": 1.0, "sources": [{"name": "a", "license": "CC0-1.0"}]}, "marked train, dev-test: HEAR rule"),
        ({"split": "train", "hours": 1.0, "sources": [{"name": "a"}]}, "training source a has no licence"),
        ({"split": "train", "hours": 1.0, "sources": [{"name": "a", "license": " Unknown "}]}, "training source a has no licence"),
    ],
)
def test_data_that_may_not_be_trained_on_is_refused(card: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        check_training_data(card)


def test_a_licence_that_is_not_open_is_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").touch()  # as in a checkout
    (tmp_path / "LICENSE").write_text("All rights reserved. We permit no use without limitation.\n")
    with pytest.raises(ValueError, match=r"LICENSE is not compatible \(All rights reserved.*HEAR rule"):
        package(request(run), tmp_path / "dist")
    (tmp_path / "LICENSE").unlink()
    with pytest.raises(OSError, match="LICENSE"):
        package(request(run), tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize(
    ("text", "is_it"),
    [
        ("MIT License\n\nPermission is hereby granted, free of charge, to any person", True),
        ("Creative Commons Attribution 4.0 International", True),
        ("CC0 1.0 Universal", True),
        ("Creative Commons Attribution-NonCommercial 4.0 International (CC BY-NC 4.0)", False),
        ("Creative Commons Attribution-NoDerivatives 4.0", False),
        ("You are not permitted to use this", False),
        ("", False),
    ],
)
def test_what_counts_as_an_open_licence_of_weights(text: str, is_it: bool) -> None:
    assert is_open(text, OPEN_WEIGHTS) is is_it


@pytest.mark.slow
def test_the_script_ends_with_one_line_and_nothing_written(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "dist"
    for arguments, line in (
        (["--name", "Bad-Name", "--weights-url", URL], "package name 'Bad-Name' is not allowed"),
        (["--name", "hear_test", "--weights-url", "file:///etc/passwd"], "weights URL"),
    ):
        result = script("--checkpoint", str(run), "--version", "0.1.0", "--out", str(out), *arguments)
        assert result.returncode == 2
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
        assert line in result.stderr
    assert not out.exists()


@pytest.mark.slow
def test_a_model_that_breaks_a_rule_is_not_packaged(run: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    for name, value in checkpoint["state_dict"].items():
        if name.startswith("embedder.encoder.output") and name.endswith("bias"):
            value.fill_(float("nan"))
    broken = tmp_path / "broken.ckpt"
    torch.save(checkpoint, broken)
    with pytest.raises(ValueError, match=r"breaks a rule of the HEAR API, so it was not packaged: .*finite on sound"):
        package(request(run, checkpoint=broken), tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


@pytest.mark.slow
def test_a_hop_over_50_ms_is_packaged_on_request_alone(run: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["config"]["frontend"]["hop_length"] = 240  # tokens of 60 ms
    long = tmp_path / "long.ckpt"
    torch.save(checkpoint, long)
    with pytest.raises(ValueError, match="hop at most 50 ms"):
        package(request(run, checkpoint=long), tmp_path / "dist")
    assert not (tmp_path / "dist").exists()
    package(request(run, checkpoint=long, allow_long_hop=True), tmp_path / "dist")
    broken = [line for line in (tmp_path / "dist/hear_test/COMPLIANCE.md").read_text().splitlines() if "BROKEN" in line]
    assert len(broken) == 1
    assert "| 60 ms | BROKEN, accepted on request |" in broken[0]
