"""Runs side by side: the combined checkpoint embeds as its runs do, evaluates and packages like any other."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from examples.reference import combine
from hear_ssl.checkpoint import embedder_from_checkpoint, find_checkpoint
from hear_ssl.packaging.package import package
from hear_ssl.packaging.request import PackageRequest
from hear_ssl.synthesis.instruments import write_corpus
from hear_ssl.training.trainer import fit
from tests.conftest import tiny

FIRST = "embedder.encoder.encoders.0.hidden.0.weight"


@pytest.fixture(scope="module")
def runs(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Train on doppelgaengers and on pairs that share a score."""
    folder = tmp_path_factory.mktemp("towers")
    write_corpus(folder / "score", clips=24, seed=3, keep="score")
    for name, source in (("sound", shards), ("score", folder / "score")):
        fit(tiny(source, folder / name, "trainer.steps=3", "data.positives=pairs"), resume=False)
    return [folder / "sound", folder / "score"]


def test_towers_give_what_the_runs_give(runs: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "both.ckpt"
    torch.save(combine.combine(runs), path)
    both, _ = embedder_from_checkpoint(path)
    audio = torch.randn(2, 16000) * 0.1
    features = both.frontend(audio)
    alone = [embedder_from_checkpoint(run)[0].encoder(features) for run in runs]
    torch.testing.assert_close(both.encoder(features), [*alone[0], alone[1][-1]], rtol=0, atol=1e-5)
    assert both.encoder.layer_names == ("first.0", "first.1", "last.0", "last.1")
    scenes = torch.cat([embedder_from_checkpoint(run)[0].scene(audio) for run in runs], -1)
    width, last = sum(layer.shape[-1] for layer in alone[0]), alone[0][-1].shape[-1]
    torch.testing.assert_close(both.scene(audio), torch.cat([scenes[:, :width], scenes[:, -last:]], -1), rtol=0, atol=1e-4)


def test_readouts_of_the_last_layer_have_that_of_every_encoder(runs: list[Path], shards: Path, tmp_path: Path) -> None:
    fit(tiny(shards, tmp_path / "last", "trainer.steps=1", "timestamp=[{tokens: {layers: last}},contexts]"), resume=False)
    for count, names in ((None, ["last.0,last.1,last.2", "all"]), (2, ["last.0,last.1", "first.0,first.1,last.0,last.1"])):
        checkpoint = combine.combine([tmp_path / "last", runs[0]], random=True, timestamp_encoders=count)
        assert [next(iter(element.values()))["layers"] for element in checkpoint["config"]["timestamp"]] == names
        torch.save(checkpoint, tmp_path / "all.ckpt")
        model, _ = embedder_from_checkpoint(tmp_path / "all.ckpt")
        dims = model.encoder.layer_dims
        assert model.timestamp_embedding_size == (sum(dims[2:]) + sum(dims) if count is None else sum(dims[2:4]) + sum(dims[:4]))
    with pytest.raises(ValueError, match="--timestamp-encoders is 4; give 1 to 3"):
        combine.combine([tmp_path / "last", runs[0]], random=True, timestamp_encoders=4)


@pytest.mark.slow
@pytest.mark.parametrize("level", [None, [1.0, 1.0, 2.0]])
def test_a_run_of_another_kind_stands_beside_a_random_tower_and_one_like_it(
    runs: list[Path], shards: Path, tmp_path: Path, level: list[float] | None
) -> None:
    kind = ["encoder.audio_ntt.context=2", "encoder.audio_ntt.band_pool=2", "encoder.audio_ntt.dim=24"]
    fit(tiny(shards, tmp_path / "other", "trainer.steps=2", *kind), resume=False)
    path = tmp_path / "all.ckpt"
    checkpoint = combine.combine([runs[0], tmp_path / "other"], random=True, level=level)
    torch.save(checkpoint, path)
    model, config = embedder_from_checkpoint(path)
    encoders = json.loads(next(iter(config["encoder"].values()))["encoders"])
    assert [encoder["audio_ntt"]["context"] for encoder in encoders] == [0, 0, 2]
    features = model.frontend(torch.randn(2, 16000) * 0.1)
    own = [embedder_from_checkpoint(run)[0].encoder(features)[-1] for run in (runs[0], tmp_path / "other")]
    factors = checkpoint.get("levels", [1.0] * 5)[-2:]
    given = model.encoder(features)[-2:]
    for tokens, alone, factor in zip(given, own, factors, strict=True):
        torch.testing.assert_close(tokens, alone * factor, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="has the encoder Concatenated; give runs with encoders of hear_ssl"):
        combine.combine([path, runs[0]])


def test_a_random_tower_comes_first(runs: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "random.ckpt"
    torch.save(combine.combine(runs[:1], random=True), path)
    both, _ = embedder_from_checkpoint(path)
    torch.manual_seed(0)
    random, _ = embedder_from_checkpoint(runs[0], trained=False)
    features = both.frontend(torch.randn(2, 16000) * 0.1)
    torch.testing.assert_close(both.encoder(features)[:3], random.encoder(features), rtol=0, atol=1e-5)
    assert torch.equal(
        combine.combine(runs[:1], random=True)["state_dict"][FIRST], torch.load(path, weights_only=True)["state_dict"][FIRST]
    )


def test_the_data_card_lists_what_all_learned_from(runs: list[Path]) -> None:
    cards = [torch.load(find_checkpoint(run), weights_only=True)["data_card"] for run in runs]
    joined = combine.combine(runs)["data_card"]
    (first,), (second,) = (card["sources"] for card in cards)
    assert first["name"] == second["name"]
    assert joined["sources"] == [{**first, "hours": joined["hours"], "clips": first["clips"] + second["clips"]}]
    assert joined["hours"] == pytest.approx(sum(card["hours"] for card in cards))
    assert joined["split"] == "train"
    assert combine.joined([cards[0], cards[0]])["sources"] == cards[0]["sources"]


@pytest.mark.slow
def test_the_command_writes_a_checkpoint_that_packages(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "both" / "checkpoints" / "last.ckpt"
    monkeypatch.setattr(sys, "argv", ["combine.py", *map(str, runs), "--random", "--level", "1", "1", "2", "--out", str(out)])
    assert combine.main() == 0
    wheel = package(
        PackageRequest(out, "hear_both", "0.1.0", "https://example.com/w.safetensors", True, False, {}, True), tmp_path / "dist"
    )
    with pytest.raises(FileExistsError, match="give another name"):
        combine.main()
    tree = wheel.parent / "hear_both"
    card = (tree / "MODEL_CARD.md").read_text()
    assert "| audio_ntt | none | 0 | 0 |" in card  # the encoder of random weights
    assert card.count("| 3 | 8 |") == 2
    assert "\n- RMS scales of the last layers: 1 : 1 : 2\n" in card
    training = json.loads((tree / "hear_both" / "manifest.json").read_text())["training"]
    assert str(tmp_path.parent) not in json.dumps(training)


def test_what_does_not_stand_side_by_side_is_refused(runs: list[Path], shards: Path, tmp_path: Path) -> None:
    fit(tiny(shards, tmp_path / "bands", "trainer.steps=1", "frontend.n_mels=32"), resume=False)
    fit(tiny(shards, tmp_path / "vit", "trainer.steps=1", "encoder={vit: {dim: 12, depth: 2}}"), resume=False)
    torch.save(combine.combine(runs), tmp_path / "both.ckpt")
    both = tmp_path / "both.ckpt"
    for wrong, line in (
        ([runs[0]], "two runs or more"),
        ([runs[0], tmp_path / "bands"], r"bands has another frontend than .*sound"),
        ([runs[0], tmp_path / "vit"], "encoder 1 has tokens of 4 frames in windows of 1000, the first of 4 in 0"),
        ([both, runs[0]], "has the encoder Concatenated; give runs"),
        ([runs[0], find_checkpoint(runs[0])], "is given twice"),
        ([runs[0], tmp_path / "nothing"], "neither a checkpoint nor a run folder"),
    ):
        with pytest.raises(ValueError, match=line):
            combine.combine(wrong)
