"""The notebook runs from its first cell to its last, with less data and fewer steps than a reader gives it."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.conftest import ROOT

NOTEBOOK = ROOT / "examples" / "first_model.ipynb"
LEFT = "import multiprocessing, signal\nprint(multiprocessing.active_children(), signal.getsignal(signal.SIGTERM))"


def test_the_notebook_is_committed_without_outputs() -> None:
    nbformat = pytest.importorskip("nbformat")
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    assert all(cell.outputs == [] and cell.execution_count is None for cell in book.cells if cell.cell_type == "code")


@pytest.mark.slow
def test_the_notebook_trains_plots_plays_and_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(NOTEBOOK, as_version=4)
    settings = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    assert re.fullmatch(r"clips, steps = \d+, \d+", settings.source)
    settings.source = "clips, steps = 32, 4"
    book.cells.append(nbformat.v4.new_code_cell(LEFT))
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") == 2
    assert sum("<audio" in output.get("data", {}).get("text/html", "") for output in outputs) == 6
    text = "".join(output.get("text", "") for output in outputs)
    assert "step 4/4  loss" in text
    assert re.search(r"first_model/\S+ 0\.\d{3}  top1_acc\nuntrained +0\.\d{3}  top1_acc\nlog-mel +0\.\d{3}  top1_acc\n", text)
    assert text.endswith(f"[] {signal.getsignal(signal.SIGTERM):d}\n")  # no process and no handler is left
