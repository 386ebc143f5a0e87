"""Every recipe keeps its golden loss curve, trains, resumes, and exports a model that embeds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hear_ssl.packaging.package import package
from hear_ssl.packaging.request import PackageRequest
from hear_ssl.training.callbacks import read_metrics
from hear_ssl.training.trainer import fit
from tests.conftest import RECIPES, ROOT, tiny

GOLDEN = Path(__file__).with_name("golden_curves.json")
INSTRUCTIONS = torch.backends.cpu.get_cpu_capability().partition("_")[0]  # AVX512, AVX2, ...
STEPS = 50
QUICK = ("base", "simclr")  # the quick tests train these alone
FOREIGN = {"hear_ssl", "pytorch_lightning", "omegaconf", "webdataset", "wandb"}  # what a package must not load


def curve(shards: Path, run: Path, recipe: str) -> list[float]:
    """Train a recipe for 50 steps and return its losses."""
    fit(tiny(shards, run, f"trainer.steps={STEPS}", "trainer.checkpoint_every=1000", recipe=recipe), resume=False)
    return [float(row["loss"]) for row in read_metrics(run / "metrics.csv")[1]]


def test_every_recipe_is_in_the_list() -> None:
    assert sorted(RECIPES) == sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("recipe", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in sorted(RECIPES)])
def test_the_loss_curve_is_the_golden_one(shards: Path, tmp_path: Path, recipe: str) -> None:
    """Rounding differs between instruction sets, each of which has a curve, and processors, and grows with the steps."""
    curves = json.loads(GOLDEN.read_text())
    found = curve(shards, tmp_path / "run", recipe)
    if INSTRUCTIONS not in curves:
        assert found[:1] == pytest.approx(curves["AVX512"][recipe][:1], rel=1e-3)
        return
    golden = curves[INSTRUCTIONS][recipe]
    assert len(found) == len(golden) == STEPS
    assert found[:10] == pytest.approx(golden[:10], rel=1e-4)
    assert found == pytest.approx(golden, rel=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["byol_a", "clip_frame_pitch", "reference"])
def test_a_trained_recipe_exports_a_model_that_embeds(shards: Path, tmp_path: Path, recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(shards, tmp_path / "run", "trainer.steps=3", recipe=recipe)
    fit(config, resume=False)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    name = f"hear_test_{recipe}"
    package(PackageRequest(checkpoint, name, "0.1.0", "https://example.com/w.safetensors", True, False, {}, True), tmp_path / "dist")
    monkeypatch.syspath_prepend(str(tmp_path / "dist" / name))
    module = __import__(name)
    model = module.load_model()
    audio = torch.rand(2, 12000) - 0.5
    assert module.get_scene_embeddings(audio, model).shape == (2, model.scene_embedding_size)
    embeddings, timestamps_ms = module.get_timestamp_embeddings(audio, model)
    assert embeddings.shape[:2] == timestamps_ms.shape
    alone = f"import sys, {name}; {name}.load_model(); print(sorted({{module.partition('.')[0] for module in sys.modules}} & {FOREIGN}))"
    done = subprocess.run([sys.executable, "-c", alone], cwd=tmp_path / "dist" / name, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


if __name__ == "__main__":  # python -m tests.training.test_recipes [RECIPE ...] writes golden curves of this processor's instructions
    import tempfile

    from hear_ssl.synthesis.instruments import write_corpus

    with tempfile.TemporaryDirectory() as scratch:
        write_corpus(Path(scratch) / "shards", clips=24, seed=0)
        found = {recipe: curve(Path(scratch) / "shards", Path(scratch) / recipe, recipe) for recipe in sys.argv[1:] or sorted(RECIPES)}
    stored = json.loads(GOLDEN.read_text())
    stored[INSTRUCTIONS] = dict(sorted({**stored.get(INSTRUCTIONS, {}), **found}.items()))
    GOLDEN.write_text(json.dumps(stored) + "\n")
    print(f"wrote {GOLDEN.relative_to(ROOT)}")
