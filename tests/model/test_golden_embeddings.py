"""Every encoder with every kind of composition gives the stored embeddings, of a clip encoded whole and of one encoded in chunks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from hear_ssl.model import Embedder, get_scene_embeddings, get_timestamp_embeddings
from hear_ssl.model.embedder_config import embedder_config
from hear_ssl.model.weights import read_tensors, serialise_tensors
from hear_ssl.old_versions import current_embedder
from tests.conftest import ROOT
from tests.golden_models import (
    COMPOSITIONS,
    ENCODERS,
    FRONTENDS,
    LONG_TIME,
    MAPPED,
    SHORT_TIME,
    compositions_of,
    exact_audio,
    trained_statistics,
)

GOLDEN = Path(__file__).with_name("golden_embeddings.safetensors")


def embedder(encoder: str, composition: str, mapped: bool = False) -> Embedder:
    """Return a model of seed 0; `mapped` adds linear maps of scenes and timestamps."""
    features, options = ENCODERS[encoder]
    old = {"frontend": FRONTENDS[features], "encoder": options, **COMPOSITIONS[composition], "chunk_frames": 100}
    mapping = current_embedder(old)
    if mapped:
        mapping["scene"].append({"linear": {"dims": 20}})
        mapping["timestamp"].append({"linear": {"dims": 16}})
    torch.manual_seed(0)
    model = Embedder(embedder_config(mapping, "golden"))
    trained_statistics(model)
    return model.eval()


def reduced(model: Embedder, audio: Tensor) -> dict[str, Tensor]:
    """Return the scene embeddings, and of the timestamps means over rows and over dimensions, and some rows and dimensions."""
    scene, (timestamps, timestamps_ms) = get_scene_embeddings(audio, model), get_timestamp_embeddings(audio, model)
    assert torch.equal(timestamps_ms[0], torch.arange(timestamps.shape[1]) * (model.hop_samples * 1000.0 / model.sample_rate))
    return {"scene": scene, "rows": timestamps.mean(2), "dimensions": timestamps.mean(1), "some": timestamps[:, ::5, ::13].contiguous()}


def embeddings(encoder: str) -> dict[str, Tensor]:
    """Return the reduced embeddings of an encoder with every composition that it allows."""
    models = {name: embedder(encoder, name) for name in compositions_of(encoder)}
    models[f"{MAPPED}, mapped"] = embedder(encoder, MAPPED, mapped=True)
    found: dict[str, Tensor] = {}
    for name, model in models.items():
        for length, audio in (("short", exact_audio(2, SHORT_TIME)), ("long", exact_audio(1, LONG_TIME))):
            found |= {f"{encoder}/{name}/{length}/{part}": tensor for part, tensor in reduced(model, audio).items()}
    return found


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_embeddings_are_the_golden_ones(encoder: str) -> None:
    golden = {name: tensor for name, tensor in read_tensors(GOLDEN).items() if name.startswith(f"{encoder}/")}
    found = embeddings(encoder)
    assert set(found) == set(golden)
    torch.testing.assert_close(found, golden, rtol=1e-4, atol=1e-4)  # rounding differs between instruction sets


def test_the_long_clip_is_encoded_in_chunks_and_the_short_ones_whole() -> None:
    model = embedder("audio_ntt", "default")
    counts = [len(list(model.chunks(exact_audio(1, time)))) for time in (SHORT_TIME, LONG_TIME)]
    assert counts == [1, 4]


if __name__ == "__main__":  # python -m tests.model.test_golden_embeddings writes the golden embeddings
    torch.set_num_threads(1)
    stored = {name: tensor for encoder in ENCODERS for name, tensor in embeddings(encoder).items()}
    GOLDEN.write_bytes(serialise_tensors(stored, {"format": "pt"}))
    print(f"wrote {GOLDEN.relative_to(ROOT)}: {GOLDEN.stat().st_size} bytes")
