"""The texts that travel with a model: README, model card, package metadata, licences."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from hear_ssl.packaging.licenses import shown

MARKUP = re.compile(r"[\\|\[\]`*]")
ROOT = Path(__file__).resolve().parents[2]
EXTRAS = {  # what the commands `python -m NAME embed` and `python -m NAME onnx` need
    "embed": ["numpy>=1.20", "soundfile>=0.12", "soxr>=0.3", "tqdm>=4.60"],
    "onnx": ["onnx>=1.16", "onnxscript>=0.1", "onnxruntime>=1.18", "torch>=2.6"],
}
CC_BY = (
    "The model weights of this package are licensed under the Creative Commons Attribution 4.0 International License (CC BY 4.0).\n"
    "You may share and adapt them for any purpose, also commercially, if you give appropriate credit, link to the licence and say\n"
    "whether you changed them. The full text: https://creativecommons.org/licenses/by/4.0/legalcode\n"
)


def licenses() -> dict[str, bytes]:
    """Return the licence files: Apache-2.0 for the code, CC BY 4.0 for the weights."""
    return {"LICENSE": own_license(), "LICENSE-weights": CC_BY.encode()}


def own_license() -> bytes:
    """Return the licence text of hear_ssl: of the checkout, else of the installed distribution.

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
    """Return the pyproject.toml of the source tree: setuptools alone, every package file carried."""
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
license = {{ text = "Apache-2.0 (code), CC BY 4.0 (weights)" }}
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
    """Return the README of the source tree: in twenty lines what it is, how to install, embed, evaluate and cite; then the rest."""
    name, sizes, version = manifest["name"], manifest["sizes"], manifest["version"]
    python = requires_python(manifest).replace(">=", ">= ")
    scene, frame, sample_rate = sizes["scene_embedding_size"], sizes["timestamp_embedding_size"], sizes["sample_rate"]
    where = "come with the package" if bundled else "fetched once into the user's cache, checked by SHA-256"
    return f"""# {name}

Audio embeddings learned without labels, with the [HEAR API](https://hearbenchmark.com/hear-api.html):
{scene} numbers a clip, {frame} every {sizes["hop_ms"]:g} ms, of mono audio at {sample_rate} Hz.

```
python3 -m pip install .                  # in this folder; Python {python} and torch >= 2.0, nothing else
python3 -m pip install ".[embed]"         # with what reads audio files: numpy, soundfile, soxr, tqdm
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

Evaluate: the [HEAR kit](https://github.com/hearbenchmark/hear-eval-kit) takes `{name}` as its module.
`python3 -m {name} suites` prints how to run HEAR, MTEB (MAEB), X-ARES, XARES-LLM and EVAR.
Cite: `{name} {version}, weights SHA-256 {manifest["weights"]["sha256"][:16]}`, and
J. Turian et al., HEAR: Holistic Evaluation of Audio Representations, PMLR 176 (2022).
{details(manifest)}"""


def details(manifest: dict[str, Any]) -> str:
    """Return the second part of the README."""
    name, sizes, training, weights = manifest["name"], manifest["sizes"], manifest["training"], manifest["weights"]
    return f"""
## More

`load_model(path)` reads that file and nothing else. Audio of any length is taken, 20 minutes and beyond; long audio is encoded in
chunks whose result equals that of the whole. It runs on the CPU, or on a GPU after `model.to("cuda")`, and under
`torch.compile`; `torch.export.export(model, (audio,))` gives a program that returns scene embeddings.

`embed` reads any format that libsndfile does, any rate and number of channels. `embeddings.npz` (`numpy.load`) holds `files` and
`scene_embeddings`, one row a file, and with `--timestamps` `timestamp_embeddings_0`, `timestamps_ms_0` and so on, one pair a
row. A file that cannot be read is named, left out, and makes the exit status 1.

`python3 -m pip install ".[onnx]"` and `python3 -m {name} onnx OUT.onnx` write the model as one ONNX file, for browsers and
other languages: the input `waveform` (batch, time) at {sizes["sample_rate"]} Hz, the outputs `scene_embeddings`,
`timestamp_embeddings` and `timestamps_ms`; `--only scene` leaves out the timestamps. The command compares the file with torch
and prints the largest difference. A clip is encoded whole there: cut recordings of more than a few minutes.

Evaluation with the kit, which needs Python 3.8 and the tasks from https://zenodo.org/records/6332517:

```
python3 -m pip install heareval
python3 -m heareval.embeddings.runner {name} --tasks-dir tasks
python3 -m heareval.predictions.runner embeddings/{name}/*
```

**CUDA and cuDNN.** The package has no CUDA code of its own: any CUDA and cuDNN that the installed torch brings will do.
Exported with torch {training["torch"]} (CUDA {training["cuda"]}, cuDNN {training["cudnn"]}).

Weights: {weights["url"]}, {weights["bytes"] / 1e6:.1f} MB in {training.get("stored_in", "float32")}, SHA-256 `{weights["sha256"]}`.
What it learned from and how: [MODEL_CARD.md](MODEL_CARD.md). Every rule measured: [COMPLIANCE.md](COMPLIANCE.md).
Code: Apache-2.0 ([LICENSE](LICENSE)). Weights: CC BY 4.0 ([LICENSE-weights](LICENSE-weights)).
"""


def model_card(manifest: dict[str, Any], library: str = "") -> str:
    """Return the model card: what, from which data, how trained, measured how; its head is that of the Hugging Face Hub.

    library: what the hub says to load it with; by default the model's own package.
    """
    training, sizes = manifest["training"], manifest["sizes"]
    data = "".join(sources_section(title, card) for title, card in data_cards(training).items())
    metrics = "".join(f"| {cell(key)} | {cell(str(value))} |\n" for key, value in sorted(manifest["metrics"].items()))
    return f"""{front_matter(manifest, library)}
# {manifest["name"]} {manifest["version"]}

| | |
|---|---|
| sample rate | {sizes["sample_rate"]} Hz |
| scene embedding | {sizes["scene_embedding_size"]} |
| timestamp embedding | {sizes["timestamp_embedding_size"]}, every {sizes["hop_ms"]:g} ms |
| parameters | {sizes["parameters"]}, stored in {training.get("stored_in", "float32")}, computed in float32 |
| encoder | {cell(next(iter(manifest["embedder"]["encoder"])))} |
| trained for | {trained_for(training)} |
| code revision | {cell(str(training["git_revision"]))} |
{data}
## Last values of training (metrics.csv of the run)

| | |
|---|---|
{metrics}
"""


def sources_section(title: str, card: dict[str, Any]) -> str:
    """Return hours, split and every source of a data card."""
    rows = "".join(
        f"| {cell(source['name'] + not_test(source))} | {cell(shown(source))} | {number(source['hours'], '.3f')} |"
        f" {number(source['clips'], 'd')} |\n"
        for source in card.get("sources", [])
    )
    head = f"## {title}: {number(card.get('hours', 0.0), '.2f')} hours, split {cell(str(card.get('split', '')))}"
    return f"\n{head}\n\n| source | licence | hours | clips |\n|---|---|---|---|\n{rows}"


def not_test(source: dict[str, Any]) -> str:
    """Return what was stated of a source whose path says test; '' of others."""
    return f" (path says {source['not_test']!r}; stated to be no test data)" if source.get("not_test") else ""


def data_cards(training: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return by title the data cards of what a model was trained on, and of what its linear map, if any, was fitted on."""
    fitted = training.get("fitted", {}).get("data")
    return {"Training data": training["data"], **({"Data of the linear map": fitted} if fitted else {})}


def sources_of(training: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sources of all data cards; one of the same name and licence once, with the hours of the card that names it first."""
    sources: dict[tuple[str, str], dict[str, Any]] = {}
    for card in data_cards(training).values():
        for source in card.get("sources", []):
            sources.setdefault((source["name"], source["license"]), source)
    return list(sources.values())


def trained_for(training: dict[str, Any]) -> str:
    """Return the steps and batches of the training, what else was done to the model, and what a linear map was fitted on."""
    parts = [f"{training['steps']} steps of {training['batch_size']} clips", *training.get("notes", [])]
    fitted = training.get("fitted") or {}
    return "; ".join([*parts, *([f"embeddings by a linear map fitted on {fitted['clips']} clips{maps_of(fitted)}"] if fitted else [])])


def maps_of(fitted: dict[str, Any]) -> str:
    """Return the kind and the dimensions of each linear map in brackets; '' where they are not recorded."""
    maps = fitted.get("maps")
    listed = maps.items() if isinstance(maps, dict) else ()
    texts = [cell(f"{place}: {one.get('kind')}, {one.get('of')} to {one.get('dims')} dimensions") for place, one in listed]
    return f" ({'; '.join(texts)})" if texts else ""


def front_matter(manifest: dict[str, Any], library: str = "") -> str:
    """Return the card's YAML head (https://huggingface.co/docs/hub/model-cards#model-card-metadata); values are written as JSON."""
    head = {
        "license": "cc-by-4.0",
        "library_name": library or manifest["name"],
        "pipeline_tag": "feature-extraction",
        "tags": ["audio", "audio-embeddings", "self-supervised", "hear", "pytorch", next(iter(manifest["embedder"]["encoder"]))],
        "datasets": sorted({printable(source["name"]) for source in sources_of(manifest["training"])}),
        "inference": False,
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in head.items()]
    return "---\n" + "".join(lines) + "---\n"


def printable(text: str) -> str:
    """Return a text with every control character, line break and lone surrogate as a space: YAML takes none of them."""
    return "".join(character if character.isprintable() else " " for character in text)


def cell(text: str) -> str:
    """Return a text of others as one cell of a Markdown table: it makes no row, link, image or HTML of its own."""
    escaped = MARKUP.sub(r"\\\g<0>", printable(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


def number(value: Any, form: str) -> str:
    """Return a number of others in a format, such as .2f; what is no such number as a cell."""
    try:
        return format(value, form) if isinstance(value, (int, float)) else cell(str(value))
    except (ValueError, OverflowError):
        return cell(str(value)[:40])
