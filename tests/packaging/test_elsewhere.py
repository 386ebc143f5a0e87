"""The model where others use it: under torch.compile and torch.export, and on the Hugging Face Hub by its card."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hear_ssl.model import Embedder, get_scene_embeddings, get_timestamp_embeddings
from hear_ssl.packaging.model_card import model_card
from hear_ssl.packaging.package import package
from tests.model.test_embedder import ENCODERS, RICH, noise
from tests.packaging.test_package import load, request

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tree(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere")
    package(request(run, bundle_weights=True), folder)
    return folder


@pytest.fixture(params=list(ENCODERS))
def model(request: pytest.FixtureRequest) -> Embedder:
    torch.manual_seed(0)
    torch._dynamo.reset()
    return Embedder(replace(RICH, encoder=ENCODERS[request.param])).eval()


def compiled(function: Any, **options: Any) -> Any:
    """Compile with the tracing and decompositions of the default backend, without its code generation."""
    return torch.compile(function, backend="aot_eager", **options)


def test_the_functions_compile_for_every_encoder_and_any_length(model: Embedder) -> None:
    scene, timestamps = compiled(get_scene_embeddings), compiled(get_timestamp_embeddings)
    for batch, time in ((2, 20000), (1, 31000)):
        audio = noise(batch, time)
        torch.testing.assert_close(scene(audio, model), get_scene_embeddings(audio, model), rtol=0, atol=1e-5)
        for one, other in zip(timestamps(audio, model), get_timestamp_embeddings(audio, model), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_the_forward_pass_is_one_graph(model: Embedder) -> None:
    audio = noise(2, 20000)
    with torch.no_grad():
        torch.testing.assert_close(compiled(model, fullgraph=True)(audio), get_scene_embeddings(audio, model), rtol=0, atol=1e-5)


def test_the_model_is_exported_saved_and_loaded_as_a_program(model: Embedder, tmp_path: Path) -> None:
    audio = noise(2, 150000)
    torch.export.save(torch.export.export(model, (audio,)), tmp_path / "program.pt2")
    program = torch.export.load(tmp_path / "program.pt2").module()
    other = noise(2, 150000) * 0.5
    torch.testing.assert_close(program(other), get_scene_embeddings(other, model), rtol=0, atol=1e-5)


def test_what_the_package_loads_compiles_and_exports(tree: Path) -> None:
    module = load(tree)
    model, audio = module.load_model(), noise(2, 20000)
    wanted = module.get_scene_embeddings(audio, model)
    torch._dynamo.reset()
    torch.testing.assert_close(compiled(module.get_scene_embeddings)(audio, model), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.export.export(model, (audio,)).module()(audio), wanted, rtol=0, atol=1e-5)


def head_of(card: str) -> dict[str, Any]:
    """Return the card's YAML head."""
    start, head, body = card.split("---\n", 2)
    assert start == ""
    assert body.strip().startswith("# ")
    found: dict[str, Any] = yaml.safe_load(head)
    return found


def test_the_card_begins_with_what_the_hub_reads(tree: Path) -> None:
    manifest = json.loads((tree / "hear_test" / "hear_test" / "manifest.json").read_text())
    head = head_of((tree / "hear_test" / "MODEL_CARD.md").read_text())
    assert head["license"] == "cc-by-4.0"
    assert head["library_name"] == "hear_test"
    assert head["pipeline_tag"] == "feature-extraction"
    assert head["datasets"] == sorted({source["name"] for source in manifest["training"]["data"]["sources"]})
    assert {"audio", "hear", "audio_ntt"} <= set(head["tags"])


@settings(max_examples=200, deadline=None)
@given(name=st.text(max_size=40), licence=st.text(max_size=40))
def test_any_name_of_a_source_leaves_card_and_table_whole(name: str, licence: str) -> None:
    source = {"name": name, "license": licence, "hours": 1.0, "clips": 2}
    manifest = {
        "name": "hear_test",
        "version": "0.1.0",
        "embedder": {"encoder": {"name": "vit"}},
        "sizes": {"sample_rate": 16000, "scene_embedding_size": 4, "timestamp_embedding_size": 4, "hop_ms": 40.0, "parameters": 9},
        "training": {"steps": 1, "batch_size": 2, "git_revision": "abc", "data": {"sources": [source], "hours": 1.0, "split": "train"}},
        "metrics": {},
    }
    card = model_card(manifest)
    [found] = head_of(card)["datasets"]
    assert len(found) == len(name)
    assert all(one == other for one, other in zip(found, name, strict=True) if other.isprintable())
    row = next(line for line in card.splitlines() if line.endswith("| 1.000 | 2 |"))
    assert row.replace("\\|", "").count("|") == 5
