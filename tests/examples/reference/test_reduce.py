"""reduce.py: uncorrelated dimensions, by numpy's covariance, in a checkpoint that evaluates and packages like any other."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.reference import reduce
from hear_ssl.checkpoint import embedder_from_checkpoint, load_checkpoint
from hear_ssl.data.options import DataConfig
from hear_ssl.evaluation.report.build import run_sections
from hear_ssl.model.embedder import Embedder
from hear_ssl.model.embedder_config import EmbedderConfig, encoder, readout
from hear_ssl.model.options import FrontendConfig
from hear_ssl.packaging.compliance import licences
from hear_ssl.packaging.package import package
from hear_ssl.packaging.request import PackageRequest
from hear_ssl.progress import counted
from hear_ssl.training import fit_linear
from hear_ssl.training.datamodule import ShardDataModule
from hear_ssl.training.trainer import fit
from tests.conftest import tiny
from tests.examples.reference.test_levels import concatenated


@pytest.fixture(scope="module")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a very small encoder whose embeddings have bands next to the layers."""
    run = tmp_path_factory.mktemp("reduce") / "run"
    fit(tiny(shards, run, "trainer.steps=2", "scene=[pooled,bands]", "timestamp=[tokens,frames]"), resume=False)
    return run


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["reduce.py", *map(str, arguments)])
    return reduce.main()


@pytest.mark.parametrize(
    ("tokens", "more", "levels", "times"),
    [
        ("last.0,last.1", ["frames", "around"], [1.0, 1.0], [(32, 1.0), (32, 0.25), (128 + 128, 1.0)]),
        ("first.1,last.0,last.1", ["contexts"], [1.0, 2.0], [(64, 1.0), (32, 0.5), (96, 1.0), (32, 0.5)]),
        ("last.0", [], [3.0], [(32, 3.0)]),
        ("last.0,last.1", [], [1.0], "for each encoder, 2 in all"),
        ("last.0,last.1", [], [1.0, -1.0], "give a positive number"),
        ("mean", [], [1.0], "adds them up"),
    ],
)
def test_scales_of_timestamps_are_those_asked_for(
    tokens: str, more: list[str], levels: list[float], times: list[tuple[int, float]] | str
) -> None:
    one = encoder("audio_ntt", channels=4, dim=32)
    timestamp = (readout("tokens", layers=tokens), *map(readout, more))
    embedder = Embedder(EmbedderConfig(frontend=FrontendConfig(n_mels=32), encoder=concatenated(one, one), timestamp=timestamp))
    assert embedder.encoder.layer_dims == (32, 32, 32, 32)
    if isinstance(times, str):
        with pytest.raises(ValueError, match=times):
            reduce.timestamp_scale({"rms_scales": [1.0, 4.0]}, embedder, levels)
    else:
        found = reduce.timestamp_scale({"rms_scales": [1.0, 4.0]}, embedder, levels)
        assert found.tolist() == [value for width, value in times for _ in range(width)]


@pytest.mark.slow
def test_the_command_writes_a_checkpoint_that_evaluates_and_packages(
    trained: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "reduced" / "checkpoints" / "last.ckpt"
    asked = ("--clips", 60, "--seconds", 1, "--scene", 12, "--timestamp", 8, "--timestamp-level", 0.5)
    assert command(monkeypatch, trained, "--shards", shards, *asked, "--out", out) == 0
    assert "60 of 60 clips" in capsys.readouterr().out
    model, plain = embedder_from_checkpoint(out)[0], embedder_from_checkpoint(trained)[0]
    assert (model.scene_embedding_size, model.timestamp_embedding_size) == (12, 8)
    data = fit_linear.clips_to_fit_on(DataConfig([str(shards)]), 16000, 1.0)
    assert isinstance(data, ShardDataModule)
    clips = [fit_linear.unpadded(clip)[None] for step in range(4) for clip in data.stream.batch(step).waveform[:, 0]][:60]
    with torch.inference_mode():
        scenes = torch.cat([model.scene(clip) for clip in clips]).double().numpy()
        mapping = model.get_submodule("scene_readout.readouts.0.map")
        torch.testing.assert_close(model.scene(clips[0]), mapping(plain.scene(clips[0])))
    covariance = np.cov(scenes.T, bias=True)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-3 * np.diag(covariance).max()
    untrained, _ = embedder_from_checkpoint(out, trained=False)
    assert [part.name for part in untrained.config.scene] == ["pooled", "bands"]
    assert untrained.scene_embedding_size == plain.scene_embedding_size
    assert load_checkpoint(out)["data_card"] == load_checkpoint(trained)["data_card"] == load_checkpoint(out)["fitted"]["data"]
    assert "Data of the linear map" in "".join(run_sections(tmp_path / "reduced"))
    with pytest.raises(ValueError, match="has a linear map already"):
        command(monkeypatch, out, "--shards", shards, "--scene", 4, "--out", tmp_path / "twice.ckpt")
    with pytest.raises(FileExistsError, match="give another name"):
        command(monkeypatch, trained, "--shards", shards, "--scene", 4, "--out", out)
    request = PackageRequest(out, "hear_reduced", "0.1.0", "https://example.com/w.safetensors", True, False, {}, True)
    tree = package(request, tmp_path / "dist").parent / "hear_reduced"
    card = (tree / "MODEL_CARD.md").read_text()
    assert "\n- RMS scales in timestamps: 0.5\n- embeddings by a linear map fitted on 60 clips (scene: pca, " in card
    sections = [card.split(f"## {title}: ")[1].split("##")[0] for title in ("Training data", "Data of the linear map")]
    assert sections[0].strip() == sections[1].strip()
    assert "| hours | clips |" in sections[0]
    manifest = json.loads((tree / "hear_reduced" / "manifest.json").read_text())
    sources = manifest["training"]["data"]["sources"]
    assert f"{counted(len(sources), 'source')}, each with a licence: {licences(sources)} |" in (tree / "COMPLIANCE.md").read_text()
    assert manifest["sizes"]["scene_embedding_size"] == 12
    fitted = manifest["training"]["fitted"]
    assert (fitted["clips"], fitted["seconds"], fitted["data"]) == (60, 1.0, manifest["training"]["data"])
    assert fitted["maps"]["timestamp"] == {"kind": "pca", "of": plain.timestamp_embedding_size, "dims": 8, "flatten": 0.25, "even": False}


@pytest.mark.slow
def test_a_stopped_fit_goes_on_to_the_same_projection(
    trained: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fit_linear, "BATCHES_AT_ONCE", 1)
    monkeypatch.setattr(fit_linear, "BATCHES_TO_SAVE", 1)
    fit_to = ["--shards", shards, "--clips", 60, "--seconds", 1, "--scene", 12, "--timestamp", 8]
    whole, out, other = tmp_path / "whole.ckpt", tmp_path / "white.ckpt", tmp_path / "other.ckpt"
    part = out.with_suffix(".fit")
    command(monkeypatch, trained, *fit_to, "--out", whole)

    def interrupt(file: Path, *arguments: object) -> None:
        def stop(self: ShardDataModule, batch: object) -> None:
            if file.with_suffix(".fit").exists():
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(ShardDataModule, "count", stop)
            with pytest.raises(KeyboardInterrupt):
                command(patch, trained, *fit_to, *arguments, "--out", file)
        assert not file.exists()

    interrupt(out)
    interrupt(other, "--timestamp", 0)
    kept = part.read_bytes()
    line = r"fit is of a stopped fit to other clips .*: remove it to start over, or give another --out"
    for file, arguments in ((out, ["--seconds", 0.5]), (out, ["--timestamp", 0]), (other, [])):
        with pytest.raises(ValueError, match=line):
            command(monkeypatch, trained, *fit_to, *arguments, "--out", file)
    with pytest.raises(ValueError, match=r"white.fit has 16 clips already"):
        command(monkeypatch, trained, *fit_to, "--clips", 12, "--out", out)
    flipped = [kept[:place] + bytes([kept[place] ^ 4]) + kept[place + 1 :] for place in range(7, len(kept), len(kept) // 10)]
    for damaged in (kept[: len(kept) // 2], *flipped):
        part.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"white.fit, where a fit was stopped, is damaged: remove it"):
            command(monkeypatch, trained, *fit_to, "--out", out)
    part.write_bytes(kept)
    capsys.readouterr()
    assert command(monkeypatch, trained, *fit_to, "--out", out) == 0
    assert capsys.readouterr().out.startswith("resume the fit after the 16 clips")
    assert not part.exists()
    wanted, found = load_checkpoint(whole), load_checkpoint(out)
    assert found["fitted"] == wanted["fitted"]
    assert all(torch.equal(tensor, found["state_dict"][name]) for name, tensor in wanted["state_dict"].items())


@pytest.mark.slow
def test_a_package_has_the_projection_or_none(trained: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "white.ckpt"
    command(monkeypatch, trained, "--shards", shards, "--clips", 64, "--seconds", 1, "--scene", 12, "--out", out)
    plain = embedder_from_checkpoint(trained)[0].scene_embedding_size
    values = (out, "hear_reduced", "0.1.0", "https://example.com/w.safetensors", True)
    for untrained, composition in ((False, {"scene": ["pooled", "bands"]}), (True, {})):
        tree = package(PackageRequest(*values, untrained, composition, True), tmp_path / str(untrained)).parent / "hear_reduced"
        assert json.loads((tree / "hear_reduced" / "manifest.json").read_text())["sizes"]["scene_embedding_size"] == plain
    for other in ({"scene": ["pooled", "bands", {"linear": {"dims": 4}}]}, {"scene.0.how": "mean"}):
        with pytest.raises(ValueError, match=r"scene has a readout linear that was not fitted for the readouts before it: leave those as"):
            package(PackageRequest(*values, False, other, True), tmp_path / "other")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--scene", "0"], "give --scene or --timestamp"),
        (["--scene", "4", "--flatten", "2"], "from 0 to 1"),
        (["--scene", "4", "--seconds", "0"], r"data\.crops\[0\]\.seconds is 0"),
        (["--scene", "4000", "--clips", "16"], "4000 dimensions are asked for"),
        (["--scene", "4", "--weights", "1", "2"], "weights"),
        (["--scene", "4", "--timestamp-level", "1"], "--timestamp-level changes nothing without --timestamp"),
        (["--timestamp", "4", "--timestamp-level", "1", "1"], "--timestamp-level 1 1: give a positive number for each encoder, 1 in all"),
    ],
)
def test_wrong_arguments_are_one_line_and_write_nothing(
    trained: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], line: str
) -> None:
    with pytest.raises(ValueError, match=line) as caught:
        command(monkeypatch, trained, "--shards", shards, *arguments, "--out", tmp_path / "white.ckpt")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
