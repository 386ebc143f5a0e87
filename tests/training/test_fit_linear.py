"""The fit of a linear map at export: the same seed gives the same map, whether stopped or not; the package records it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import hear_ssl as hs
from hear_ssl.checkpoint import embedder_from_checkpoint
from hear_ssl.data.options import DataConfig
from hear_ssl.data.stream.batch import Batch
from hear_ssl.packaging.linear_map import LinearMap
from hear_ssl.training import fit_linear
from hear_ssl.training.batch_datamodule import BatchDataModule
from hear_ssl.training.fit_linear import Pass, clips_to_fit_on, fit_maps
from hear_ssl.training.trainer import fit
from tests.conftest import tiny

MAPS = {"scene": LinearMap("whiten", 6), "timestamp": LinearMap("pca", 5)}


@pytest.fixture(scope="module")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("fit_linear") / "run"
    fit(tiny(shards, run, "trainer.steps=1"), resume=False)
    return run


def gathered(run: Path, data: DataConfig, file: Path, note: str = "") -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """Return the mapped model's tensors and the record of a fit to 40 clips of one second."""
    embedder = embedder_from_checkpoint(run)[0]
    one = Pass(embedder, clips_to_fit_on(data, embedder.sample_rate, 1.0), list(MAPS), file, {"note": note})
    model, record = fit_maps(embedder, MAPS, one, 40)
    return model.state_dict(), record


@pytest.mark.parametrize("indexed", [True, False])
def test_a_stopped_fit_resumes_to_the_same_map(
    trained: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indexed: bool
) -> None:
    data = DataConfig([str(shards)])
    if not indexed:
        for shard in shards.glob("*.tar"):
            (tmp_path / shard.name).symlink_to(shard)
        data = DataConfig([str(tmp_path)], license=["CC0-1.0"], max_lost_fraction=0.0)
    monkeypatch.setattr(fit_linear, "BATCHES_AT_ONCE", 1)
    monkeypatch.setattr(fit_linear, "BATCHES_TO_SAVE", 1)
    file, count = tmp_path / "one.fit", BatchDataModule.count
    whole, record = gathered(trained, data, tmp_path / "whole.fit")

    def stop(self: BatchDataModule, batch: Batch) -> None:
        if file.exists():
            raise KeyboardInterrupt
        count(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(BatchDataModule, "count", stop)
        with pytest.raises(KeyboardInterrupt):
            gathered(trained, data, file)
    with pytest.raises(ValueError, match=r"one\.fit is of a stopped fit to other clips or of another checkpoint: remove it"):
        gathered(trained, data, file, "other")
    resumed, again = gathered(trained, data, file)
    assert again == record
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
    assert record["clips"] == 40
    assert record["data"]["sources"][0]["clips"] >= 24  # type: ignore[index]


def test_zeros_around_a_sound_are_left_out() -> None:
    assert fit_linear.unpadded(torch.tensor([0.0, 0.0, 0.5, 0.0, -0.1, 0.0])).tolist() == [0.5, 0.0, pytest.approx(-0.1)]
    assert fit_linear.unpadded(torch.zeros(5)).tolist() == [0.0] * 5


@pytest.mark.slow
def test_a_package_has_the_maps_that_were_asked_for(trained: Path, shards: Path, tmp_path: Path) -> None:
    given = {"version": "0.1.0", "weights_url": "https://example.com/w.safetensors", "allow_unpublished": True, "linear_clips": 40}
    wheel = hs.package(trained, name="hear_map", out=tmp_path, linear={"scene": "whiten:6"}, **given)  # type: ignore[arg-type]
    manifest = json.loads((tmp_path / "hear_map-0.1.0.json").read_text())
    assert manifest["embedder"]["scene"][-1] == {"linear": {"dims": 6}}
    assert manifest["embedder"]["timestamp"] == [{"tokens": {"layers": "all"}}]
    assert manifest["sizes"]["scene_embedding_size"] == 6
    fitted = manifest["training"]["fitted"]
    assert fitted["maps"] == {"scene": {"kind": "whiten", "of": 128, "dims": 6, "shrinkage": 0.1, "even": True}}
    assert (fitted["clips"], fitted["data"]) == (40, manifest["training"]["data"])
    card = (wheel.parent / "hear_map" / "MODEL_CARD.md").read_text()
    assert "embeddings by a linear map fitted on 40 clips (scene: whiten, 128 to 6 dimensions)" in card
    assert "## Data of the linear map: " in card
    assert not (tmp_path / "hear_map-0.1.0.fit").exists()
    model, plain = hs.load(tmp_path / "hear_map-0.1.0.safetensors"), hs.load(trained)
    audio = 0.1 * torch.randn(2, 16000)
    mapping = model.model.get_submodule("scene_readout.readouts.0.map")
    torch.testing.assert_close(model.scene(audio), mapping(plain.scene(audio)))
    assert torch.equal(model.timestamps(audio)[0], plain.timestamps(audio)[0])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"linear": "lda"}, "is not of the form KIND"),
        ({"linear": "pca:4", "linear_clips": 1}, "--linear-clips is 1; fit on at least 2 clips"),
        ({"linear": "pca:4", "linear_shards": ["missing"]}, "missing"),
        ({"linear": "pca:4000", "linear_clips": 8}, "4000 dimensions are asked for and .* components were found"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(trained: Path, tmp_path: Path, options: dict[str, object], line: str) -> None:
    out = tmp_path / "dist"
    with pytest.raises(ValueError, match=line) as caught:
        hs.package(
            trained, name="hear_map", version="0.1.0", weights_url="https://example.com/w", allow_unpublished=True, out=out, **options
        )  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not out.exists()
