"""Check the adapter of a package for one benchmark, in an environment with that benchmark and without hear_ssl.

python suite_checks.py BENCHMARK MODULE prints a line of JSON: the measurement, and whether the adapter passes, null when it could not be
tested.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Result = tuple[str, bool | None]
LONG_SECONDS = 600
TOLERANCE = 1e-5  # relative to the largest value, between clips in one call and single clips
MOCK_RESULTS = Path("mteb_mock_run_results.md")


class HearModel:
    """The package's HEAR API, whose embeddings every adapter must return."""

    def __init__(self, module: str) -> None:
        """Load the model of a package."""
        self.api = importlib.import_module(module)
        self.model = self.api.load_model()

    def noise(self, samples: int, seed: int = 0) -> Tensor:
        """Return a clip (samples,) of noise."""
        return torch.rand(samples, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8

    def scene(self, clip: Tensor) -> Tensor:
        """Return the scene embedding of a clip."""
        embedding: Tensor = self.api.get_scene_embeddings(clip[None], self.model)[0]
        return embedding

    def timestamps(self, clip: Tensor) -> Tensor:
        """Return the timestamp embeddings (time, size) of a clip."""
        embeddings: Tensor = self.api.get_timestamp_embeddings(clip[None], self.model)[0][0]
        return embeddings


def mteb(module: str) -> Result:
    """Run MTEB's audio mock tasks, then embed clips of three lengths, one of them in stereo at another sample rate."""
    try:
        importlib.import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError) as missing:
        return f"torchcodec finds no FFmpeg libraries ({str(missing).splitlines()[0][:80]}); install ffmpeg", None
    command = [sys.executable, "-m", f"{module}.suites.mteb", "mock-run", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not MOCK_RESULTS.is_file():
        return f"mock-run ended with status {done.returncode}: {last_line(done.stderr)}", False
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in MOCK_RESULTS.read_text(encoding="utf-8").splitlines()]
    tasks = {row[0]: row[2] for row in rows if len(row) == 4 and row[1] == "audio"}
    failed = sorted(name for name, state in tasks.items() if state != "✓")
    adapter = importlib.import_module(f"{module}.suites.mteb")
    hear = HearModel(module)
    lengths = [4000, 9001, 4000, 1]
    clips = [hear.noise(length, seed) for seed, length in enumerate(lengths)]
    data = [{"audio": {"array": clip.numpy(), "sampling_rate": hear.model.sample_rate}} for clip in clips]
    found = adapter.AudioModel(device="cpu").encode(torch.utils.data.DataLoader(data, batch_size=4), show_progress_bar=False)  # type: ignore[arg-type]
    error = worst(torch.from_numpy(found), torch.stack([hear.scene(clip) for clip in clips]))
    measured = f"{len(tasks) - len(failed)} of {len(tasks)} audio mock tasks" + (f", not {', '.join(failed)}" if failed else "")
    return f"{measured}; clips of different lengths differ by {error:.1e}", bool(tasks) and not failed and error <= TOLERANCE


def xares(module: str) -> Result:
    """Run the checker of X-ARES on the encoder that X-ARES finds, and encode ten minutes."""
    checker = importlib.import_module("xares.audio_encoder_checker")
    kind = importlib.import_module("xares.utils").attr_from_py_path(f"{module}/suites/xares.py", endswith="Encoder")
    encoder, hear = kind(), HearModel(module)
    if not checker.check_audio_encoder(encoder):
        return "check_audio_encoder returns False", False
    frames = encoder(hear.noise(LONG_SECONDS * encoder.sampling_rate)[None]).shape[1]
    hops = LONG_SECONDS * 1000 / encoder.hop_size_in_ms
    clip = hear.noise(9001)
    error = worst(encoder(clip[None])[0], hear.timestamps(clip))
    measured = f"check_audio_encoder True; ten minutes give {frames} frames for {hops:.0f} hops; from the HEAR API {error:.1e}"
    return measured, abs(frames - hops) <= 2 and error <= TOLERANCE


def xares_llm(module: str) -> Result:
    """Call the encoder as XARES-LLM does, without a mask and with a padding mask."""
    encoder, hear = importlib.import_module(f"{module}.suites.xares_llm").AudioEncoder(), HearModel(module)
    embeddings, mask = encoder(torch.randn(3, 50000), None)
    plain = embeddings.dim() == 3 and embeddings.shape[::2] == (3, encoder.output_dim) and mask is None
    given = torch.ones(3, 50000, dtype=torch.long)
    given[1, 20000:] = 0
    audio = torch.stack([hear.noise(50000, seed) for seed in range(3)])
    padded, kept = encoder(audio, given)
    alone = encoder(audio[1:2, :20000], None)[0][0]
    count = int(kept[1].sum())
    error = worst(padded[1, :count], alone) if count == len(alone) else float("inf")
    fits = kept.shape == padded.shape[:2] and bool((kept[1, :count] == 1).all())
    measured = f"{tuple(embeddings.shape)} of (3, 50000); of 50000 samples with 20000 kept {count} frames of {padded.shape[1]} remain"
    return f"{measured}, {error:.1e} from the clip alone", plain and fits and error <= TOLERANCE


def evar(module: str) -> Result:
    """Call the representation as EVAR's lineareval.py does, with a stub for its base class."""
    base = types.ModuleType("evar.ar_base")
    base.BaseAudioRepr = type("BaseAudioRepr", (torch.nn.Module,), {"__init__": base_init})  # type: ignore[attr-defined]
    sys.modules.update({"evar": types.ModuleType("evar"), "evar.ar_base": base})
    hear = HearModel(module)
    config = types.SimpleNamespace(sample_rate=hear.model.sample_rate, return_filename=False)
    ar = importlib.import_module(f"{module}.suites.evar").AudioRepresentation(config).to(torch.device("cpu"))
    ar.precompute(torch.device("cpu"), None)
    ar.eval()
    audio = torch.stack([hear.noise(9001, seed) for seed in range(2)])
    scenes, frames = ar(audio), ar.encode_frames(audio)
    errors = [worst(scenes[0], hear.scene(audio[0])), worst(frames[0].T, hear.timestamps(audio[0]))]
    done = subprocess.run([sys.executable, "-m", module, "suites", "evar"], capture_output=True, text=True, check=False)
    keys = {line.split(":")[0] for line in done.stdout.splitlines()}
    missing = sorted({"audio_repr", "weight_file", "feature_d", "sample_rate", "batch_size", "lr_lineareval", "early_stop_epochs"} - keys)
    measured = f"forward {tuple(scenes.shape)}, frames {tuple(frames.shape)}, {max(errors):.1e} from the HEAR API"
    return measured + (f"; the config lacks {', '.join(missing)}" if missing else ""), max(errors) <= TOLERANCE and not missing


def base_init(self: Any, cfg: Any, filename_mode: bool = False) -> None:
    """Store the config, as EVAR's BaseAudioRepr does."""
    torch.nn.Module.__init__(self)
    self.cfg = cfg


def worst(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the largest value; infinity for different shapes."""
    if found.shape != expected.shape:
        return float("inf")
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12))


def last_line(text: str) -> str:
    """Return the last line of a text, or a note that it is empty."""
    lines: list[str] = text.strip().splitlines()
    return lines[-1][:160] if lines else "no output"


CHECKS: dict[str, Callable[[str], Result]] = {"mteb": mteb, "xares": xares, "xares_llm": xares_llm, "evar": evar}

if __name__ == "__main__":
    text, verdict = CHECKS[sys.argv[1]](sys.argv[2])
    print(json.dumps({"measured": text, "passed": verdict}))
