"""The texts of a package: README, metadata, licences; the model card is in `model_card`."""

from __future__ import annotations

import json
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = {  # requirements of the commands `python -m NAME embed` and `python -m NAME onnx`
    "embed": ["numpy>=1.20", "soundfile>=0.12", "soxr>=0.3", "tqdm>=4.60"],
    "onnx": ["onnx>=1.16", "onnxscript>=0.1", "onnxruntime>=1.18", "torch>=2.6"],
}
CC_BY = (
    "The model weights of this package are licensed under the Creative Commons Attribution 4.0 International License (CC BY 4.0).\n"
    "You may share and adapt them for any purpose, also commercially, if you give appropriate credit, link to the licence and state\n"
    "whether you changed them. The full text: https://creativecommons.org/licenses/by/4.0/legalcode\n"
)


def licenses() -> dict[str, bytes]:
    """Return the licence files: Apache-2.0 for the code, CC BY 4.0 for the weights."""
    return {"LICENSE": own_license(), "LICENSE-weights": CC_BY.encode()}


def own_license() -> bytes:
    """Return the licence text of hear_ssl from the checkout, otherwise from the installed distribution.

    Raises FileNotFoundError when there is neither.
    """
    if (ROOT / "pyproject.toml").is_file():
        return (ROOT / "LICENSE").read_bytes()
    with suppress(PackageNotFoundError):
        installed = distribution("hear_ssl")
        for file in installed.files or []:
            if file.name == "LICENSE" and file.parent.as_posix().partition("/")[0].endswith(".dist-info"):
                return Path(str(installed.locate_file(file))).read_bytes()
    raise FileNotFoundError("the licence of hear_ssl is missing from its installation; install hear_ssl again")


def metadata(name: str, version: str, readme: str, python: str) -> bytes:
    """Return the wheel's METADATA (core metadata 2.4); python is its Requires-Python."""
    head = [
        "Metadata-Version: 2.4",
        f"Name: {name}",
        f"Version: {version}",
        "Summary: General-purpose audio embeddings with the HEAR API",
        "License-Expression: Apache-2.0 AND CC-BY-4.0",
        "License-File: LICENSE",
        "License-File: LICENSE-weights",
        f"Requires-Python: {python}",
        "Requires-Dist: torch>=2.0",
        *(f"Provides-Extra: {extra}" for extra in EXTRAS),
        *(f'Requires-Dist: {requirement} ; extra == "{extra}"' for extra, requirements in EXTRAS.items() for requirement in requirements),
        "Description-Content-Type: text/markdown",
    ]
    return ("\n".join(head) + "\n\n" + readme).encode()


def pyproject(manifest: dict[str, Any]) -> str:
    """Return the pyproject.toml of the source tree, which uses only setuptools and includes all package files.

    It names no licence: the key is a table up to setuptools 76 and an SPDX expression from 77, and Python 3.8 has none of the latter.
    """
    name, extras = manifest["name"], "\n".join(f"{extra} = {json.dumps(requirements)}" for extra, requirements in EXTRAS.items())
    packages = [name, f"{name}.encoders", f"{name}.readouts", f"{name}.suites", *([f"{name}.own"] if manifest["parts"] else [])]
    return f"""[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "{manifest["version"]}"
description = "General-purpose audio embeddings with the HEAR API"
readme = "README.md"
requires-python = "{manifest["requires_python"]}"
dependencies = ["torch>=2.0"]

[project.optional-dependencies]
{extras}

[tool.setuptools]
packages = {json.dumps(packages)}

[tool.setuptools.package-data]
{name} = ["*.json", "*.md", "*.safetensors"]
"""


def requires_python(manifest: dict[str, Any]) -> str:
    """Return the Requires-Python of a package; version 0.2.0 and earlier did not record it."""
    return str(manifest.get("requires_python", ">=3.8"))


def manifest_text(manifest: dict[str, Any]) -> bytes:
    """Return manifest.json; the same manifest gives the same bytes."""
    return (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()


def readme(manifest: dict[str, Any], bundled: bool) -> str:
    """Return the README of the source tree: twenty lines on how to install, embed, evaluate and cite, then the details."""
    name, sizes, version = manifest["name"], manifest["sizes"], manifest["version"]
    python = requires_python(manifest).replace(">=", ">= ")
    scene, frame, sample_rate = sizes["scene_embedding_size"], sizes["timestamp_embedding_size"], sizes["sample_rate"]
    where = "come with the package" if bundled else "fetched once into the user's cache, checked by SHA-256"
    return f"""# {name}

Audio embeddings learned without labels, with the [HEAR API](https://hearbenchmark.com/hear-api.html):
{scene} dimensions per clip, and {frame} dimensions every {sizes["hop_ms"]:g} ms, from mono audio at {sample_rate} Hz.

```
python3 -m pip install .                  # in this folder; Python {python} and torch >= 2.0, nothing else
python3 -m pip install ".[embed]"         # also packages to read audio files: numpy, soundfile, soxr, tqdm
python3 -m {name} embed *.wav --out embeddings.npz --timestamps
```

```python
import torch
from {name} import load_model, get_scene_embeddings, get_timestamp_embeddings

model = load_model()                                   # weights: {where}
audio = torch.zeros(4, 2 * model.sample_rate)          # (n_sounds, n_samples) in [-1, 1]
scene = get_scene_embeddings(audio, model)             # (4, {scene})
frames, times_ms = get_timestamp_embeddings(audio, model)   # (4, n_timestamps, {frame})
```

Evaluate: give `{name}` as the module to the [HEAR kit](https://github.com/hearbenchmark/hear-eval-kit).
`python3 -m {name} suites` prints how to run HEAR, MTEB (MAEB), X-ARES, XARES-LLM and EVAR.
Cite: `{name} {version}, weights SHA-256 {manifest["weights"]["sha256"][:16]}`, and
J. Turian et al., HEAR: Holistic Evaluation of Audio Representations, PMLR 176 (2022).
{details(manifest)}"""


def details(manifest: dict[str, Any]) -> str:
    """Return the second part of the README."""
    name, sizes, training, weights = manifest["name"], manifest["sizes"], manifest["training"], manifest["weights"]
    return f"""
## More

`load_model(path)` reads only that file. Audio may have any length, also more than 20 minutes; long audio is encoded in chunks, with the
same result as for the whole clip. The model runs on the CPU, or on a GPU after `model.to("cuda")`, and with `torch.compile`;
`torch.export.export(model, (audio,))` gives a program that returns scene embeddings.

`embed` reads any format that libsndfile supports, with any sample rate and number of channels. `embeddings.npz` (`numpy.load`) contains
`files` and `scene_embeddings`, one row per file, and with `--timestamps` also `timestamp_embeddings_0`, `timestamps_ms_0` and so on, one
pair per row. An unreadable file is reported and left out, and the exit status is then 1.

`python3 -m pip install ".[onnx]"` and `python3 -m {name} onnx OUT.onnx` write the model as one ONNX file, for browsers and
other languages: the input `waveform` (batch, time) at {sizes["sample_rate"]} Hz, the outputs `scene_embeddings`,
`timestamp_embeddings` and `timestamps_ms`; `--only scene` leaves out the timestamps. The command compares the file with torch
and prints the largest difference. The ONNX model encodes a clip as a whole: cut recordings of more than a few minutes.

Evaluation with the HEAR kit, which needs Python 3.8 and the tasks from https://zenodo.org/records/6332517:

```
python3 -m pip install heareval
python3 -m heareval.embeddings.runner {name} --tasks-dir tasks
python3 -m heareval.predictions.runner embeddings/{name}/*
```

**CUDA and cuDNN.** The package has no CUDA code of its own: it works with the CUDA and cuDNN of the installed torch.
Exported with torch {training["torch"]} (CUDA {training["cuda"]}, cuDNN {training["cudnn"]}).

Weights: {weights["url"]}, {weights["bytes"] / 1e6:.1f} MB in {training.get("stored_in", "float32")}, SHA-256 `{weights["sha256"]}`.
Training and data: [MODEL_CARD.md](MODEL_CARD.md). Measurement of every rule of the HEAR API: [COMPLIANCE.md](COMPLIANCE.md).
Code: Apache-2.0 ([LICENSE](LICENSE)). Weights: CC BY 4.0 ([LICENSE-weights](LICENSE-weights)).
"""
