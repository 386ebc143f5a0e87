"""The notebook runs from its first cell to its last, and is committed with its text and pictures, so that it can be read unrun.

`python -m tests.examples.test_notebook` runs it as a reader would, in about two minutes, and stores its outputs: pictures and text, but
no sounds, which are large.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import ROOT

nbformat = pytest.importorskip("nbformat")

NOTEBOOK = ROOT / "examples" / "first_model.ipynb"
LEFT = "import multiprocessing, signal\nprint(multiprocessing.active_children(), signal.getsignal(signal.SIGTERM))"
PLAYER = "(run this cell for an audio player)"
HOME = "/home/you"  # in outputs, where the notebook ran
BYTES = 200_000  # of the file


def execute(book: Any, folder: Path) -> None:
    """Run all cells of a notebook in a folder."""
    nbclient = pytest.importorskip("nbclient")
    nbclient.NotebookClient(book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()


def code_of(book: Any) -> str:
    """Return the SHA-256 of the code of a notebook."""
    return hashlib.sha256("\n\n".join(cell.source for cell in book.cells if cell.cell_type == "code").encode()).hexdigest()


def stored(outputs: list[Any], folder: Path) -> list[Any]:
    """Return outputs as the file has them: without sounds, progress bars and the folder of the run, pictures in 256 colours."""
    kept: list[Any] = []
    for output in outputs:
        if output.output_type == "stream":
            text = output.text.replace(str(folder), HOME)
            if output.name == "stdout" and kept and kept[-1].output_type == "stream":
                kept[-1].text += text
            elif output.name == "stdout":
                kept.append(nbformat.v4.new_output("stream", name="stdout", text=text))
        elif "image/png" in output.data:
            kept.append(nbformat.v4.new_output("display_data", {"image/png": small(output.data["image/png"])}))
        elif "<audio" in output.data.get("text/html", ""):
            kept.append(nbformat.v4.new_output("display_data", {"text/plain": PLAYER}))
    return kept


def small(picture: str) -> str:
    """Return a PNG in base64 with at most 256 colours."""
    out = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").quantize(256).save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def refresh() -> None:
    """Run the notebook and store its outputs with the SHA-256 of its code."""
    book = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["PYTHONPATH"] = str(ROOT)
        folder = Path(temporary).resolve()
        execute(book, folder)
        for cell in book.cells:
            cell.metadata.pop("execution", None)
            if cell.cell_type == "code":
                cell.execution_count, cell.outputs = None, stored(cell.outputs, folder)
    book.metadata["code_sha256"] = code_of(book)
    book.metadata["language_info"] = {"name": "python"}
    nbformat.write(book, NOTEBOOK)


def test_the_notebook_is_committed_with_the_pictures_and_text_of_its_code() -> None:
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    assert book.metadata["code_sha256"] == code_of(book), "the code has changed; run python -m tests.examples.test_notebook"
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") == 2
    assert [output.data["text/plain"] for output in outputs if "text/plain" in output.get("data", {})] == [PLAYER] * 6
    assert set(kinds) == {"image/png", "text/plain"}
    text = "".join(output.get("text", "") for output in outputs)
    assert "step 100/100  loss" in text
    assert re.search(r"log-mel +0\.\d{3}  top1_acc\n", text)
    assert not re.search(r"/tmp/|Traceback|Warning", text)
    assert NOTEBOOK.stat().st_size < BYTES
    assert all(cell.execution_count is None for cell in book.cells if cell.cell_type == "code")


@pytest.mark.slow
def test_the_notebook_trains_plots_plays_and_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(NOTEBOOK, as_version=4)
    settings = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    assert re.fullmatch(r"clips, steps = \d+, \d+", settings.source)
    settings.source = "clips, steps = 32, 4"
    book.cells.append(nbformat.v4.new_code_cell(LEFT))
    execute(book, tmp_path)
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") == 2
    assert sum("<audio" in output.get("data", {}).get("text/html", "") for output in outputs) == 6
    text = "".join(output.get("text", "") for output in outputs)
    assert "step 4/4  loss" in text
    assert re.search(r"first_model/\S+ 0\.\d{3}  top1_acc\nuntrained +0\.\d{3}  top1_acc\nlog-mel +0\.\d{3}  top1_acc\n", text)
    assert text.endswith(f"[] {signal.getsignal(signal.SIGTERM):d}\n")  # no process and no handler is left


if __name__ == "__main__":
    refresh()
