"""Write library.json, the sounds that the page compares a recording with: python examples/browser/library.py model.onnx embeddings.npz

`python -m NAME onnx model.onnx` writes the model, `python -m NAME embed FILES... --out embeddings.npz` the embeddings of one package.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hear_ssl.files import atomic_write

DIGITS = 6  # of each dimension


def library(model: Path, embeddings: Path) -> dict[str, object]:
    """Return sample rate, files and their scene embeddings.

    Raises ValueError when a file is missing or not what it should be, or the two are of different models.
    """
    import onnxruntime

    for path in (model, embeddings):
        if not path.is_file():
            raise ValueError(f"{path} is not a file; `python -m NAME onnx` and `python -m NAME embed` write them")
    try:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        sample_rate = int(session.get_modelmeta().custom_metadata_map["sample_rate"])
        size = next(output.shape[1] for output in session.get_outputs() if output.name == "scene_embeddings")
    except Exception as error:  # onnxruntime raises classes of its own
        raise ValueError(f"{model} is no ONNX file with scene embeddings ({' '.join(str(error).split())[:80]})") from None
    try:
        with np.load(embeddings, allow_pickle=False) as archive:
            files, scenes = archive["files"].tolist(), archive["scene_embeddings"]
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{embeddings} is no archive that `python -m NAME embed` wrote ({str(error)[:80]})") from None
    if scenes.ndim != 2 or scenes.shape != (len(files), size):
        raise ValueError(f"{embeddings} has embeddings {scenes.shape} of {len(files)} files, {model} makes {size} dimensions: two models")
    rows = [[float(f"{value:.{DIGITS}g}") for value in row] for row in scenes]
    return {"sample_rate": sample_rate, "files": [Path(name).name for name in files], "scene_embeddings": rows}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the library with the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="written by python -m NAME onnx")
    parser.add_argument("embeddings", type=Path, metavar="EMBEDDINGS.npz", help="written by python -m NAME embed")
    parser.add_argument("--out", type=Path, default=Path("library.json"), metavar="FILE.json", help="file to write (library.json)")
    given = parser.parse_args(arguments)
    try:
        found = library(given.model, given.embeddings)
        atomic_write(given.out, json.dumps(found, separators=(",", ":")).encode())
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    print(f"{given.out}: {len(found['files'])} sounds")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
