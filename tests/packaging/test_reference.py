"""The reference model that comes with the source: it loads offline, gives its golden embeddings, and installs with pip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from hear_ssl.model.options import to_mapping
from hear_ssl.old_versions import current_config
from hear_ssl.training.config import load_config

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "export" / "reference"
PACKAGE = REFERENCE / "hear_reference"

SCRIPT = """
import hear_reference, torch
from hear_reference.weights import read_tensors
golden = read_tensors(hear_reference.__path__[0] + "/golden.safetensors")
model = hear_reference.load_model()
scene = hear_reference.get_scene_embeddings(golden["audio"], model)
frames, timestamps_ms = hear_reference.get_timestamp_embeddings(golden["audio"], model)
torch.testing.assert_close(scene, golden["scene_embeddings"], rtol=1e-3, atol=1e-3)
torch.testing.assert_close(frames, golden["timestamp_embeddings"], rtol=1e-3, atol=1e-3)
assert torch.equal(timestamps_ms, golden["timestamps_ms"])
"""


def test_the_reference_gives_its_golden_embeddings_from_its_own_folder_and_offline(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REFERENCE), "HOME": str(tmp_path), "http_proxy": "http://127.0.0.1:9", "https_proxy": ""}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr


def test_the_reference_was_trained_by_its_configs() -> None:
    training = json.loads((PACKAGE / "manifest.json").read_text())["training"]
    towers = [training["config"], *(tower["config"] for tower in training["other_towers"])]
    assert 1 + len(current_config(training["config"])["beside"]) == len(towers) + training["random_tower"] == 5
    for trained, name in zip(towers, ("reference", "reference_strokes", "reference_voices", "reference_words"), strict=True):
        config = load_config(ROOT / "configs" / f"{name}.yaml", [])
        current, expected = current_config(trained), to_mapping(config)
        for part in ("frontend", "encoder", "objective", "optimizer"):  # compositions are chosen at export
            assert current[part] == expected[part], (name, part)
        mixup, masks = config.views[1].augment[-2:]
        before = (trained["views"]["mixup"], trained["views"]["frequency_mask_bands"], trained["views"]["time_masks"])
        assert before == (mixup.options.share, masks.options.bands, 0), name
        assert (trained["trainer"]["steps"], trained["data"]["batch_size"]) == (config.trainer.steps, config.data.batch_size)


def test_the_reference_is_small_and_says_what_it_learned_from() -> None:
    assert (PACKAGE / "weights.safetensors").stat().st_size < 25e6
    sources = json.loads((PACKAGE / "manifest.json").read_text())["training"]["data"]["sources"]
    assert all(source["license"] not in ("", "unknown") for source in sources)
    assert "CC0-1.0" in {source["license"] for source in sources}  # the synthetic part
