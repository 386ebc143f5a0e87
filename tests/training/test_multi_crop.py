"""Crops of several lengths: which views an objective gets, and how many passes the encoder makes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from hear_ssl.training.config import load_config
from hear_ssl.training.encode_views import by_shape, encode_views
from hear_ssl.training.module import PretrainingModule
from hear_ssl.training.trainer import fit
from tests.conftest import tiny

CROPS = "data.crops=[{seconds: 0.64, count: 2}, {seconds: 0.32, count: 3}]"
VIEWS = (
    "views=[{crop: 0, augment: [gain]}, {crop: 1, augment: [gain, noise, mixup]}, {crop: 2, augment: [mixup]}, {crop: 4},"
    " {crop: 0, augment: [noise]}]"
)
ALL = """
from hear_ssl.objectives import Objective

class All(Objective):
    views = 0

    def forward(self, encoded):
        assert encoded.clip.shape[0] == 5
        assert [tuple(tokens.shape[:2]) for tokens in encoded.view_tokens] == [(8, 17), (8, 17), (8, 9), (8, 9), (8, 17)]
        assert encoded.tokens.shape[:3] == (2, 8, 17)
        return (encoded.clip - encoded.clip.mean(0)).square().mean()
"""


@pytest.mark.parametrize("encoder", ["audio_ntt", "vit"])
def test_an_objective_that_asks_for_all_views_gets_them_in_as_few_passes_as_lengths(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all.py").write_text(ALL)
    network = ["encoder={vit: {dim: 8, heads: 2, depth: 1}}"] if encoder == "vit" else []
    config = tiny(shards, tmp_path / "run", CROPS, VIEWS, *network, "objective=./all.py:All", "objective.nt_xent=null", "trainer.steps=2")
    rows: list[int] = []
    forward = PretrainingModule.encode

    def counted(module: PretrainingModule, *arguments: object) -> object:
        handle = module.embedder.encoder.register_forward_pre_hook(lambda network, inputs: rows.append(len(inputs[0])))
        encoded = forward(module, *arguments)  # type: ignore[arg-type]
        handle.remove()
        return encoded

    monkeypatch.setattr(PretrainingModule, "encode", counted)
    assert fit(config, resume=False) == 0
    assert rows == [3 * 8, 2 * 8] * 2  # each step: three views of 0.64 s, then two of 0.32 s


def test_objectives_of_two_views_use_the_first_two(shards: Path, tmp_path: Path) -> None:
    losses = []
    for views in (
        "views=[{crop: 0, augment: [gain]}, {crop: 1, augment: [noise]}]",
        "views=[{crop: 0, augment: [gain]}, {crop: 1, augment: [noise]}, {crop: 2}]",
    ):
        torch.manual_seed(0)
        module = PretrainingModule(tiny(shards, tmp_path, CROPS, views))
        assert len(module.views.crops) == 2
        torch.manual_seed(0)
        features = [torch.randn(8, 64, 68) for _ in module.views.crops]
        losses.append(module.objective(module.encode(features)))
    assert torch.equal(*losses)


def test_views_of_two_lengths_are_encoded_as_each_alone() -> None:
    torch.manual_seed(0)
    network = PretrainingModule(
        load_config(None, ["objective=nt_xent", "encoder={vit: {dim: 8, heads: 2, depth: 1}}"])
    ).embedder.encoder.eval()
    features = [torch.randn(3, 64, frames) for frames in (40, 20, 40, 20)]
    kept = [None, None, torch.tensor([[0, 4, 9]] * 3), None]
    found = encode_views(network, features, kept, 0, "mean+max")
    for view, (one, steps) in enumerate(zip(features, kept, strict=True)):
        alone = (network(one) if steps is None else network(one, steps))[-1]
        torch.testing.assert_close(found.tokens[view], alone)
        torch.testing.assert_close(found.clip[view], alone.mean(1) + alone.amax(1))
    assert found.leading.shape[0] == 1


def test_batches_of_one_shape_are_computed_together() -> None:
    shapes: list[tuple[int, ...]] = []

    def double(rows: Tensor) -> Tensor:
        shapes.append(tuple(rows.shape))
        return 2 * rows

    batches = [torch.randn(2, 5), torch.randn(2, 3), torch.randn(2, 5)]
    for one, other in zip(by_shape(double, batches), batches, strict=True):
        assert torch.equal(one, 2 * other)
    assert shapes == [(4, 5), (2, 3)]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("views=3", "views must be a list of crops with augmentations"),
        ("views=[]", "views must be a list of crops with augmentations"),
        ("views.mixup=0", "views must be a list of crops with augmentations"),
        ("views=[{crop: 5}]", "views.0.crop is 5; data.crops has 2, numbered from 0"),
        ("views=[{crop: 0, augment: [gainn]}]", "there is no augment 'gainn' (did you mean 'gain'?)"),
        ("views=[{crop: 0, augment: [{gain: {dB: 3}}]}]", "views.0.augment.0.gain.dB is not known; allowed are db"),
        ("views=[{crop: 0, augment: [{gain: {db: loud}}]}]", "views.0.augment.0.gain.db is 'loud'; it must be of type float"),
        ("views=[{crop: 0, augment: [{gain: {db: 100}}]}]", "views.0.augment.0.gain.db is 100.0; it must be at least 0 and at most 60 dB"),
        ("views=[{crop: 0, augment: [mixup, gain]}]", "waveforms come first, then spectrograms, then masks"),
        ("views=[{crops: 0}]", "views.0 must have the keys crop and augment"),
        ("views.7.crop=0", "there is no view 7; views has 2, numbered from 0"),
        ("views.0.augment.9.db=0", "views.0.augment has 0 gain, 1 polarity, 2 mixup"),
        ("views.0.augment.gain.db=0", "views.0.augment has 0 gain, 1 polarity"),
    ],
)
def test_a_mistake_in_the_views_is_one_line(override: str, line: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        load_config(None, ["objective=nt_xent", override])
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_elements_of_lists_change_one_by_one() -> None:
    config = load_config(
        None,
        ["objective=nt_xent", "views.1.augment.2.std=0.5", "views.0.augment.2.mixup.share=0.1", "views.1.crop=0", "data.crops.0.seconds=1"],
    )
    assert config.views[1].augment[2].options.std == 0.5
    assert config.views[0].augment[2].options.share == 0.1
    assert [view.crop for view in config.views] == [0, 0]
    assert (config.data.crops[0].seconds, config.data.crops[0].count) == (1.0, 2)
    assert [part.name for part in load_config(None, ["views.0.augment=[noise]"]).views[0].augment] == ["noise"]
