"""The part of same_bits.py that runs inside a checkout: a training with exact losses, embeddings, batches.

python same_bits_worker.py fit OUT SCRIPT [ARGUMENT ...] | embeddings OUT | batches OUT FOLDER FOLDER

OUT is a file of tensors by name, written with torch.save. The checkout is the working folder and the first entry of PYTHONPATH. Its
layout may differ from that of this file's checkout, so modules, fields and values are found by the tables below.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import runpy
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

MODULES = {  # possible modules of an object; the first one that exists in the checkout is used
    "Embedder": ["hear_ssl.model.embedder", "hear_ssl.runtime.embedder"],
    "settings": ["hear_ssl.model.options", "hear_ssl.runtime.settings"],
    "selection": ["hear_ssl.model.embedder_config"],
    "old_versions": ["hear_ssl.old_versions"],
    "hear": ["hear_ssl.model.hear", "hear_ssl.runtime.hear"],
    "DataConfig": ["hear_ssl.data.options", "hear_ssl.config"],
    "ShardSet": ["hear_ssl.data.shards.reader", "hear_ssl.data.shards"],
    "BatchStream": ["hear_ssl.data.stream.batch_stream", "hear_ssl.data.stream"],
}
VALUES = [("doppelgaenger", "pairs")]  # names of the same value
PACKAGES = ("hear_ssl", "train", "export")
STEPS = 3
WAYS: dict[str, dict[str, Any]] = {  # ways to make batches: fields of DataConfig, and the number of folders
    "two crops": {"folders": 1},
    "one crop": {"folders": 1, "crops": 1},
    "pairs": {"folders": 1, "positives": "doppelgaenger"},
    "weights": {"folders": 2, "weights": [3.0, 1.0], "positives": "doppelgaenger"},
    "windows": {"folders": 2, "window_shards": 1},
}


def inside(file: str | None) -> bool:
    """Return whether a module's file belongs to the checkout."""
    return file is not None and Path(file).resolve().is_relative_to(Path.cwd().resolve())


def module_of(name: str) -> ModuleType:
    """Import a module of the table from the checkout, not from an installed hear_ssl, which may have old names as well.

    Raises ValueError when the checkout has none of the modules.
    """
    for candidate in MODULES[name]:
        path = Path(*candidate.split("."))
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            return importlib.import_module(candidate)
    raise ValueError(f"the checkout has none of {', '.join(MODULES[name])}; add its name of {name} to MODULES")


def check_imports() -> None:
    """Raise ValueError when a module of the framework was imported from outside the checkout."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in PACKAGES and file and not inside(file):
            raise ValueError(f"{name} was imported from {file}, outside the checkout")


def built(kind: Any, values: dict[str, Any]) -> Any:
    """Return a settings dataclass with these values, under the names of values that it accepts."""
    known = {item.name: item for item in fields(kind)}
    found = {}
    for name, value in values.items():
        choices = known[name].metadata.get("choices") or ()
        others = next((group for group in VALUES if value in group), (value,)) if choices else (value,)
        found[name] = next((one for one in others if one in choices), value)
    return kind(**found)


def golden_models() -> Any:
    """Import tests/golden_models.py of this file's checkout, which does not import the framework."""
    spec = importlib.util.spec_from_file_location("golden_models", Path(__file__).resolve().parents[1] / "golden_models.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def model_of(encoder: str, composition: str) -> Any:
    """Return an embedder with seed 0 from the tables in golden_models.py."""
    models, settings, embedder = golden_models(), module_of("settings"), module_of("Embedder").Embedder
    features, options = models.ENCODERS[encoder]
    torch.manual_seed(0)
    if hasattr(settings, "EncoderConfig"):  # 0.1.0 and 0.2.0
        parts = {part: built(settings.CompositionConfig, values) for part, values in models.COMPOSITIONS[composition].items()}
        frontend = built(settings.FrontendConfig, models.FRONTENDS[features])
        config = settings.EmbedderConfig(frontend=frontend, encoder=built(settings.EncoderConfig, options), **parts, chunk_frames=100)
    else:
        old = {"frontend": models.FRONTENDS[features], "encoder": options, **models.COMPOSITIONS[composition], "chunk_frames": 100}
        config = module_of("selection").embedder_config(module_of("old_versions").current_embedder(old), "golden")
    model = embedder(config)
    models.trained_statistics(model)
    return model.eval()


def embeddings() -> dict[str, Tensor]:
    """Return all embeddings of every encoder with every composition; the part of a name before ':' is the item."""
    models, hear = golden_models(), module_of("hear")
    found: dict[str, Tensor] = {}
    for encoder in models.ENCODERS:
        for name in models.compositions_of(encoder):
            model = model_of(encoder, name)
            for length, clips, time in (("short", 2, models.SHORT_TIME), ("long", 1, models.LONG_TIME)):
                audio = models.exact_audio(clips, time)
                timestamps, timestamps_ms = hear.get_timestamp_embeddings(audio, model)
                item = f"{encoder}, {name}:{length}"
                found[f"{item} scene"] = hear.get_scene_embeddings(audio, model)
                found |= {f"{item} timestamps": timestamps, f"{item} timestamps_ms": timestamps_ms}
    return found


def batches(folders: list[str]) -> dict[str, Tensor]:
    """Return the first batches of every way, also for each of two ranks; keys as bytes."""
    config, shard_set, stream = module_of("DataConfig").DataConfig, module_of("ShardSet").ShardSet, module_of("BatchStream").BatchStream
    found: dict[str, Tensor] = {}
    for way, options in WAYS.items():
        values = {name: value for name, value in options.items() if name != "folders"}
        shards = folders[: options["folders"]]
        crop = getattr(module_of("DataConfig"), "CropConfig", None)
        crops = {"crops": [crop(0.5, values.pop("crops", 2))]} if crop else {"crop_seconds": 0.5}
        data = built(config, {"shards": shards, "batch_size": 6, "workers": 0, **crops, **values})
        for rank, ranks in ((0, 1), (0, 2), (1, 2)):
            reader = stream(shard_set(shards), data, 16000, 0, rank, ranks)
            for step in range(STEPS):
                batch, name = reader.batch(step), f"{way}:rank {rank} of {ranks}, step {step}"
                found |= {f"{name} waveform": batch.waveform, f"{name} seeds": batch.seeds}
                found[f"{name} keys"] = torch.tensor(list("\n".join(batch.keys).encode()), dtype=torch.uint8)
    return found


def fit(arguments: list[str]) -> dict[str, Tensor]:
    """Run a training script with its arguments and return the exact loss of every step. Raises SystemExit when it fails."""
    import pytorch_lightning as pl

    losses: list[float] = []

    class KeepLosses(pl.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            losses.append(float(outputs["loss"] if isinstance(outputs, dict) else outputs))

    plain: Any = pl.Trainer.__init__

    def recording(self: Any, *given: Any, **options: Any) -> None:
        plain(self, *given, **{**options, "callbacks": [*(options.get("callbacks") or []), KeepLosses()]})

    pl.Trainer.__init__ = recording  # type: ignore[method-assign]
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    return {"loss": torch.tensor(losses, dtype=torch.float64)}


def main() -> None:
    """Compute one part and write it."""
    part, out, *arguments = sys.argv[1:]
    sys.path[0] = os.getcwd()  # modules next to this file do not belong to the checkout
    if part == "fit":
        found = fit(arguments)
    else:
        torch.set_num_threads(1)
        found = embeddings() if part == "embeddings" else batches(arguments)
    check_imports()
    torch.save(found, out)


if __name__ == "__main__":
    main()
