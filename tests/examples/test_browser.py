"""The page of examples/browser in a headless Chromium: it embeds uploaded sounds as torch does and lists their neighbours."""

from __future__ import annotations

import functools
import http.server
import json
import math
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from hear_ssl.model import get_scene_embeddings
from tests.conftest import ROOT
from tests.model.test_golden_embeddings import embedder

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.slow

RATE = 16000
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
DRIVER = Path(__file__).with_name("drive_page.mjs")


def tone(pitch: float, seconds: float) -> Tensor:
    """Return a tone with its octave (time,)."""
    angle = torch.arange(int(seconds * RATE)) * (2.0 * math.pi * pitch / RATE)
    return 0.4 * torch.sin(angle) + 0.2 * torch.sin(2.0 * angle)


SOUNDS = {f"tone {pitch}.wav": tone(pitch, seconds) for pitch, seconds in ((110, 0.7), (440, 1.0), (1760, 1.3))} | {
    "noise.wav": 0.2 * torch.randn(12345, generator=torch.Generator().manual_seed(0))
}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and writes no log."""

    def log_message(self, *arguments: object) -> None:
        """Write nothing."""


@pytest.fixture(scope="module")
def browser() -> str:
    """Return the path of a browser, or skip when there is none."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the example with its packages, a model, and the library of SOUNDS; skip without npm or its registry."""
    if not (shutil.which("npm") and shutil.which("node")):
        pytest.skip("npm and node are not installed")
    folder = tmp_path_factory.mktemp("browser") / "site"
    shutil.copytree(ROOT / "examples" / "browser", folder, ignore=shutil.ignore_patterns("node_modules", "*.onnx", "*.json.part"))
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(install, capture_output=True, text=True, cwd=folder, check=False, timeout=600)
    if done.returncode:
        pytest.skip(f"npm cannot install onnxruntime-web ({' '.join(done.stderr.split())[:100]})")
    from hear_ssl.model.onnx_export import export

    model = embedder("audio_ntt", "default")
    (folder / "model.onnx").write_bytes(export(model, ("scene",), {"sample_rate": str(RATE)}))
    scenes = np.concatenate([get_scene_embeddings(sound[None], model).numpy() for sound in SOUNDS.values()])
    np.savez(folder / "embeddings.npz", files=np.array(list(SOUNDS)), scene_embeddings=scenes)
    for name, sound in SOUNDS.items():
        soundfile.write(folder / name, sound.numpy(), RATE, subtype="FLOAT")
    return folder


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Serve the folder and return its address."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def library(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run library.py."""
    line = [sys.executable, str(ROOT / "examples" / "browser" / "library.py"), *arguments]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_the_page_embeds_as_torch_and_lists_the_nearest_first(site: Path, browser: str, address: str) -> None:
    made = library("model.onnx", "embeddings.npz", cwd=site)
    assert (made.returncode, made.stdout) == (0, "library.json: 4 sounds\n"), made.stderr
    soundfile.write(site / "stereo.wav", np.stack([tone(440.0, 1.0).numpy(), np.zeros(RATE, np.float32)], 1), RATE, subtype="FLOAT")
    (site / "text.wav").write_text("no audio at all")
    sounds = [*SOUNDS, "stereo.wav", "text.wav"]
    command = ["node", str(DRIVER), address, browser, *(str(site / name) for name in sounds)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=site, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    shown = json.loads(done.stdout)
    assert shown["ready"].startswith("Ready: 4 sounds")
    assert shown["foreign"] == []  # everything comes from the folder
    model = embedder("audio_ntt", "default")
    heard = {**SOUNDS, "stereo.wav": 0.5 * tone(440.0, 1.0)}
    for (name, sound), found in zip(heard.items(), shown["sounds"], strict=False):
        expected = get_scene_embeddings(sound[None], model)[0]
        assert float((torch.tensor(found["embedding"]) - expected).abs().max()) < 1e-4, name
        first = found["neighbours"][0].partition(" ")[2]
        assert first == (name if name in SOUNDS else "tone 440.wav")
        assert len(found["neighbours"]) == len(SOUNDS)
        assert found["status"].startswith(f"Embedded {len(sound) / RATE:.2f} s of audio in ")
    assert shown["sounds"][-1]["status"].startswith("This does not work: ")
    assert shown["sounds"][-1]["neighbours"] == []


def test_mistakes_of_the_library_are_one_line(site: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", files=np.array(["a.wav"]), scene_embeddings=np.zeros((1, 3), np.float32))
    np.savez(tmp_path / "empty.npz", files=np.array(["a.wav"]))
    (tmp_path / "text.onnx").write_text("no model")
    model, embeddings = str(site / "model.onnx"), str(site / "embeddings.npz")
    for arguments, line in (
        ((model, "none.npz"), "none.npz is not a file"),
        ((model, "empty.npz"), "empty.npz is no archive that"),
        ((model, "other.npz"), "two models"),
        (("text.onnx", embeddings), "text.onnx is no ONNX file with scene embeddings"),
    ):
        done = library(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith("error: ")
        assert line in done.stderr
    assert not (tmp_path / "library.json").exists()
