"""hear_ssl.load: every kind of source gives the same embeddings, and what comes from an address is data."""

from __future__ import annotations

import functools
import http.server
import importlib
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
import torch

import hear_ssl as hs
from hear_ssl.checkpoint import embedder_from_checkpoint, load_checkpoint
from hear_ssl.embed import main as embed_command
from hear_ssl.model.weights import serialise_tensors
from hear_ssl.packaging import templates
from hear_ssl.packaging.own_parts import own_parts, part_files
from hear_ssl.packaging.package import build_manifest, package_files
from hear_ssl.packaging.request import PackageRequest
from hear_ssl.training.initial_model import initial_model
from hear_ssl.training.trainer import fit
from tests.conftest import ROOT, tiny
from tests.hub_server import REPOSITORY, hub

NAME = "hear_loaded"
WAVEFORM = torch.rand(2, 12000, generator=torch.Generator().manual_seed(0)) - 0.5


def exported(run: Path, out: Path, name: str = NAME) -> Path:
    """Write weights and manifest as `package` writes them, next to the package itself; return the weights."""
    checkpoint = load_checkpoint(run)
    model, _ = embedder_from_checkpoint(run)
    request = PackageRequest(run / "checkpoints" / "last.ckpt", name, "0.1.0", "https://example.com/w.safetensors", True, False, {})
    weights = serialise_tensors(model.state_dict(), {"format": "pt"})
    parts = own_parts(model.config)
    manifest = build_manifest(request, checkpoint, model, weights, parts)
    for path, content in (package_files(request, manifest, b"", weights) | part_files(parts, name)).items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(content)
    (out / f"{name}.safetensors").write_bytes(weights)
    (out / f"{name}.json").write_bytes(templates.manifest_text(manifest))
    return out / f"{name}.safetensors"


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loaded") / "run"
    fit(tiny(shards, folder, "trainer.steps=1"), resume=False)
    return folder


@pytest.fixture(scope="module")
def weights(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(run, tmp_path_factory.mktemp("exported"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEAR_WEIGHTS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def served(tmp_path: Path, cache: Path) -> Iterator[tuple[Path, str]]:
    """Serve a folder over http; return it and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        return


def test_a_run_a_checkpoint_and_local_weights_embed_alike(run: Path, weights: Path) -> None:
    models = [
        hs.load(source) for source in (hs.Run(run), str(run), run / "checkpoints" / "last.ckpt", weights, weights.with_suffix(".json"))
    ]
    expected = models[0].scene(WAVEFORM)
    assert expected.shape == (2, models[0].scene_embedding_size)
    assert expected.dtype == torch.float32
    assert not expected.requires_grad
    tokens, timestamps_ms = models[0].timestamps(WAVEFORM)
    assert tokens.shape == (2, timestamps_ms.shape[1], models[0].timestamp_embedding_size)
    assert models[0].sample_rate == 16000
    for model in models[1:]:
        assert torch.equal(model.scene(WAVEFORM), expected)
        assert torch.equal(model.timestamps(WAVEFORM)[0], tokens)


def test_an_installed_package_loads_by_its_name(run: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(weights.parent))
    importlib.invalidate_caches()
    assert torch.equal(hs.load(NAME).scene(WAVEFORM), hs.load(run).scene(WAVEFORM))
    assert NAME in sys.modules


@pytest.mark.parametrize("name", [f"{NAME}.safetensors", f"{NAME}.json", ""])
def test_weights_at_an_address_load_once_and_then_from_the_cache(
    name: str, run: Path, weights: Path, served: tuple[Path, str], cache: Path
) -> None:
    folder, address = served
    if name:
        for file in (weights, weights.with_suffix(".json")):
            shutil.copy(file, folder)
    else:  # a folder, as the package's own
        shutil.copy(weights.parent / NAME / "manifest.json", folder)
        shutil.copy(weights, folder / "weights.safetensors")
    model = hs.load(f"{address}/{name}".rstrip("/"))
    assert torch.equal(model.scene(WAVEFORM), hs.load(run).scene(WAVEFORM))
    assert [file.suffix for file in cache.iterdir()] == [".safetensors"]
    (folder / (weights.name if name else "weights.safetensors")).unlink()
    assert torch.equal(hs.load(f"{address}/{name}".rstrip("/")).scene(WAVEFORM), model.scene(WAVEFORM))


def test_a_repository_of_the_hub_loads_and_begins_a_run(
    run: Path, weights: Path, shards: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read it with huggingface_hub from a hub on this machine."""
    pytest.importorskip("huggingface_hub")
    folder = tmp_path / "repository"
    folder.mkdir()
    for path in (weights, weights.with_suffix(".json")):
        shutil.copy(path, folder)
    shutil.copy(weights, folder / "weights.safetensors")
    shutil.copy(weights.with_suffix(".json"), folder / "manifest.json")
    expected = hs.load(run).scene(WAVEFORM)
    with hub(folder) as endpoint:
        monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": endpoint})
        for address in (f"hf://{REPOSITORY}/{NAME}.safetensors", f"hf://{REPOSITORY}"):
            assert torch.equal(hs.load(address).scene(WAVEFORM), expected)
        initial = initial_model(tiny(shards, tmp_path / "run", f"init=hf://{REPOSITORY}/{NAME}.safetensors"))
        with pytest.raises(ValueError, match=r"hf://someone/model/other\.json, is not there") as refused:
            hs.load(f"hf://{REPOSITORY}/other.safetensors")
    state = load_checkpoint(run)["state_dict"]
    assert all(torch.equal(tensor, state[f"embedder.encoder.{name}"]) for name, tensor in initial.tensors.items())
    assert initial.data_card["sources"]
    assert "\n" not in str(refused.value)


def test_other_weights_than_the_manifest_names_are_refused(weights: Path, served: tuple[Path, str], cache: Path) -> None:
    folder, address = served
    shutil.copy(weights.with_suffix(".json"), folder)
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    (folder / weights.name).write_bytes(changed)
    for source in (f"{address}/{weights.name}", str(folder / weights.name)):
        with pytest.raises(ValueError, match=r"has SHA-256 [0-9a-f]{16}\.\.\., its manifest [0-9a-f]{16}\.\.\.: another model or damaged"):
            hs.load(source)
    assert not list(cache.glob("*"))


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (
            "{address}/none.safetensors",
            "the manifest of the model, {address}/none.json, is not there; give the address of NAME.safetensors",
        ),
        ("{address}/damaged.json", "{address}/damaged.json is"),
        (
            "ftp://host/w.safetensors",
            "ftp://host/w.safetensors is not an address that models are loaded from; give one with https, http, hf",
        ),
        ("file:///etc/w.safetensors", "file:///etc/w.safetensors is not an address that models are loaded from"),
        (
            "{folder}/alone.safetensors",
            "{folder}/alone.json is missing; weights are loaded with the manifest of the same name next to them",
        ),
        ("{folder}/hear-0.1-py3-none-any.whl", "{folder}/hear-0.1-py3-none-any.whl is a wheel: install it with pip, then give the name"),
        ("hear_nothing_of_this_name", "hear_nothing_of_this_name is neither a run folder nor a module to import"),
        ("no/run", "'no/run' is neither a run folder or checkpoint that is there nor the name of a module"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(source: str, line: str, served: tuple[Path, str]) -> None:
    folder, address = served
    (folder / "damaged.json").write_text("{")
    for name in ("alone.safetensors", "hear-0.1-py3-none-any.whl"):
        (folder / name).touch()
    with pytest.raises(ValueError, match=r"\w") as error:
        hs.load(source.format(address=address, folder=folder))
    assert str(error.value).startswith(line.format(address=address, folder=folder))
    assert "\n" not in str(error.value)


def test_a_device_that_is_not_there_is_refused(run: Path) -> None:
    with pytest.raises(ValueError, match="the device is 'tpu'; give auto, cpu, cuda"):
        hs.load(run, device="tpu")


def test_a_class_of_the_users_comes_from_the_file_given_and_never_from_the_address(
    shards: Path, served: tuple[Path, str], tmp_path: Path
) -> None:
    folder, address = served
    own = tmp_path / "own_readout.py"
    own.write_text((ROOT / "examples" / "own_readout.py").read_text())
    name = next(line.split()[1].partition("(")[0] for line in own.read_text().splitlines() if line.startswith("class "))
    fit(tiny(shards, tmp_path / "run", "trainer.steps=1", f"scene=[pooled,{own}:{name}]"), resume=False)
    weights = exported(tmp_path / "run", folder, "hear_own")
    source = f"{address}/{weights.name}"
    with pytest.raises(ValueError, match=rf"^hear_own has the class {name} of a file with SHA-256 .*: give that file by parts=\[FILE.py\]"):
        hs.load(source)
    other = tmp_path / "other.py"
    other.write_text(own.read_text() + "\n")
    with pytest.raises(ValueError, match=rf"^hear_own has the class {name} of a file with SHA-256"):
        hs.load(source, parts=[other])
    expected = hs.load(tmp_path / "run").scene(WAVEFORM)
    assert torch.equal(hs.load(source, parts=[other, own]).scene(WAVEFORM), expected)
    assert torch.equal(hs.load(weights, parts=[own]).scene(WAVEFORM), expected)


def test_a_manifest_from_an_address_cannot_name_a_file(weights: Path, served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    marker, code = tmp_path / "executed", tmp_path / "code.py"
    code.write_text(f"open({str(marker)!r}, 'w')\nclass Net: pass\n")
    manifest = json.loads(weights.with_suffix(".json").read_text())
    (options,) = manifest["embedder"]["encoder"].values()
    manifest["embedder"]["encoder"] = {f"{code}:Net": options}
    (folder / weights.with_suffix(".json").name).write_text(json.dumps(manifest))
    shutil.copy(weights, folder)
    with pytest.raises(ValueError, match="encoder"):
        hs.load(f"{address}/{weights.name}")
    assert not marker.exists()


def test_files_are_embedded_in_python_and_by_the_command(run: Path, tmp_path: Path) -> None:
    files = [str(tmp_path / f"{number}.wav") for number in range(2)]
    for number, file in enumerate(files):
        soundfile.write(file, WAVEFORM[number].numpy(), 16000, subtype="FLOAT")
    assert hs.load(run).embed_files(files, tmp_path / "python.npz") == 0
    assert embed_command([*files, "--model", str(run), "--out", str(tmp_path / "command.npz"), "--timestamps"]) == 0
    with np.load(tmp_path / "python.npz") as one, np.load(tmp_path / "command.npz") as two:
        assert list(one["files"]) == files
        np.testing.assert_allclose(one["scene_embeddings"], hs.load(run).scene(WAVEFORM).numpy(), atol=1e-5)
        np.testing.assert_array_equal(one["scene_embeddings"], two["scene_embeddings"])
        assert two["timestamps_ms_1"].shape[0] == two["timestamp_embeddings_1"].shape[0]
    with pytest.raises(ValueError, match=r"--out x.npy is not allowed; give a name that ends in .npz"):
        embed_command([*files, "--model", str(run), "--out", "x.npy"])
