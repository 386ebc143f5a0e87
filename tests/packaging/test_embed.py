"""`python -m NAME embed`: files of any format, rate and channels against the functions on the same samples."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import soxr
import torch

from hear_ssl.packaging.package import package
from tests.data.hard_files import hard_files
from tests.packaging.test_package import load, request

pytestmark = pytest.mark.slow

FILES = {  # file: (rate, channels, subtype)
    "a.wav": (16000, 1, "PCM_16"),
    "b.flac": (44100, 2, "PCM_24"),
    "c.ogg": (48000, 1, "VORBIS"),
    "d.wav": (8000, 3, "FLOAT"),
    "e.mp3": (22050, 1, "MPEG_LAYER_III"),
    "f g.aiff": (96000, 2, "PCM_16"),
}


@dataclass
class Exported:
    """A source tree with its weights in it, the module loaded from it, and a folder of sounds."""

    folder: Path
    module: ModuleType
    sounds: Path

    def embed(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "hear_test")}
        command = [sys.executable, "-m", "hear_test", "embed", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd or self.sounds, check=False)


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("embed")
    package(request(run, bundle_weights=True), folder)
    sounds = folder / "sounds"
    sounds.mkdir()
    generator = np.random.default_rng(0)
    for name, (rate, channels, subtype) in FILES.items():
        soundfile.write(sounds / name, generator.uniform(-0.5, 0.5, (int(1.37 * rate), channels)), rate, subtype=subtype)
    return Exported(folder, load(folder), sounds)


def samples(file: Path, sample_rate: int) -> torch.Tensor:
    """Return the clip (1, time) by the plainest way there is."""
    waveform, rate = soundfile.read(file, dtype="float32", always_2d=True)
    return torch.from_numpy(soxr.resample(waveform.mean(axis=1), rate, sample_rate)).unsqueeze(0)


def test_files_of_any_kind_give_what_the_functions_give(exported: Exported) -> None:
    result = exported.embed(*FILES, "--out", "made/embeddings.npz", "--timestamps")
    assert result.returncode == 0, result.stderr
    assert "6 of 6 files" in result.stdout
    assert os.listdir(exported.sounds / "made") == ["embeddings.npz"]
    model = exported.module.load_model()
    with np.load(exported.sounds / "made" / "embeddings.npz") as found:
        assert found["files"].tolist() == list(FILES)
        for row, name in enumerate(FILES):
            audio = samples(exported.sounds / name, model.sample_rate)
            frames, times_ms = exported.module.get_timestamp_embeddings(audio, model)
            scene = exported.module.get_scene_embeddings(audio, model)[0]
            torch.testing.assert_close(torch.from_numpy(found["scene_embeddings"][row]), scene, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(torch.from_numpy(found[f"timestamp_embeddings_{row}"]), frames[0], rtol=1e-5, atol=1e-5)
            assert np.array_equal(found[f"timestamps_ms_{row}"], times_ms[0].numpy())
        assert len(found.files) == 2 + 2 * len(FILES)


def test_a_bad_file_costs_one_line_and_the_others_go_on(exported: Exported, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "one.wav", np.ones(1), 96000)
    (tmp_path / "text.wav").write_text("no audio\nat all")
    (tmp_path / "headerless.raw").write_bytes(bytes(1000))
    (tmp_path / "folder").mkdir()
    bad = ["empty.wav", "nan.wav", "one.wav", "text.wav", "headerless.raw", "missing.wav", "folder"]
    result = exported.embed(*bad, "silent.wav", "--out", "e.npz", cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    lines = result.stderr.splitlines()
    assert [line.split()[2] for line in lines] == bad
    assert all(line.startswith("left out: ") for line in lines)
    with np.load(tmp_path / "e.npz") as found:
        assert found["files"].tolist() == ["silent.wav"]
        assert found["scene_embeddings"].shape[0] == 1


def test_a_folder_stands_for_the_audio_files_in_it(exported: Exported, tmp_path: Path) -> None:
    names = ["b.wav", "My Music/Ä 1.FLAC", "My Music/notes.txt", "My Music/a/c.wav"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, np.zeros(1600), 16000, format=name[-4:].strip(".").upper().replace("TXT", "WAV"))
    result = exported.embed("b.wav", "My Music", "--out", "e.npz", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("e.npz: 3 of 3 files, scene embeddings of ")
    with np.load(tmp_path / "e.npz") as found:
        assert found["files"].tolist() == ["b.wav", "My Music/a/c.wav", "My Music/Ä 1.FLAC"]


def test_files_whose_headers_are_wrong_are_embedded_to_their_end(exported: Exported, tmp_path: Path) -> None:
    files = hard_files()
    chosen = {"vbr.mp3": "mp3 without xing, VARIABLE", "piped.flac": "flac of 0", "two.ogg": "ogg and ogg", "cut.mp3": "mp3 cut"}
    for name, kind in chosen.items():
        (tmp_path / name).write_bytes(files[kind].content)
    result = exported.embed(*chosen, "--out", "e.npz", "--timestamps", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == "cut.mp3 ends after 28800 of 49536 samples\n"
    model = exported.module.load_model()
    with np.load(tmp_path / "e.npz") as found:
        for row, kind in enumerate(chosen.values()):
            length = round(files[kind].frames * model.sample_rate / 16000)
            expected = exported.module.get_timestamp_embeddings(torch.zeros(1, length), model)[1]
            assert np.array_equal(found[f"timestamps_ms_{row}"], expected[0].numpy())


def test_weights_are_those_given(exported: Exported, run: Path, tmp_path: Path) -> None:
    package(request(run, untrained=True), tmp_path)
    result = exported.embed("a.wav", "--out", str(tmp_path / "e.npz"), "--weights", str(tmp_path / "hear_test-0.1.0.safetensors"))
    assert result.returncode == 2
    assert "another model or damaged" in result.stderr
    right = exported.folder / "hear_test-0.1.0.safetensors"
    assert exported.embed("a.wav", "--out", str(tmp_path / "e.npz"), "--weights", str(right)).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["a.wav", "--out", "e.npy"], "name that ends in .npz"),
        (["a.wav", "--out", "/proc/none/e.npz"], "/proc/none"),
        (["missing.wav", "--out", "e.npz"], "no file could be embedded"),
        (["a.wav", "--out", "e.npz", "--device", "warp"], "--device warp cannot be used"),
        (["a.wav", "--out", "e.npz", "--weights", "none.safetensors"], "none.safetensors is not a file"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_the_earlier_file(exported: Exported, tmp_path: Path, arguments: list[str], line: str) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    (tmp_path / "e.npz").write_bytes(b"earlier")
    result = exported.embed(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert line in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in result.stderr
    assert sorted(os.listdir(tmp_path)) == ["a.wav", "e.npz"]
    assert (tmp_path / "e.npz").read_bytes() == b"earlier"


def test_without_the_extra_one_line_says_what_to_install(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "soxr.py").write_text("raise ImportError('No module named soxr')")
    environment = {**os.environ, "PYTHONPATH": f"{exported.folder / 'hear_test'}{os.pathsep}{tmp_path}"}
    command = [sys.executable, "-m", "hear_test", "embed", "a.wav", "--out", "e.npz"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "python3 -m pip install numpy soundfile soxr tqdm" in result.stderr


def test_a_terminal_sees_a_progress_bar(exported: Exported, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(exported.folder / "hear_test")}
    command = [sys.executable, "-m", "hear_test", "embed", "a.wav", "--out", str(tmp_path / "e.npz")]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment, cwd=exported.sounds, check=False)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "1/1" in shown
