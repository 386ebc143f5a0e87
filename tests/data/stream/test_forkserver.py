"""Workers do not run the program that starts them, unless they are given something that it defines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PLAIN = """
import torch
from torch.utils.data import DataLoader, TensorDataset
from hear_ssl.data.stream.forkserver import start_early, worker_context

print("program runs as", __name__, flush=True)
start_early()
data = TensorDataset(torch.arange(4.0))
loader = DataLoader(data, batch_size=2, num_workers=2, multiprocessing_context=worker_context())
print(sorted(float(value) for (batch,) in loader for value in batch))
"""
DEFINED = """
from torch.utils.data import DataLoader, Dataset
from hear_ssl.data.stream.forkserver import worker_context

class Numbers(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, place):
        return float(place)

print("program runs as", __name__, flush=True)
if __name__ == "__main__":
    loader = DataLoader(Numbers(), batch_size=2, num_workers=1, multiprocessing_context=worker_context())
    print(sorted(float(value) for batch in loader for value in batch))
"""


def run(folder: Path, code: str, *arguments: str) -> list[str]:
    (folder / "program.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, input=code, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["program.py"], ["-m", "program"], ["-"]], ids=["script", "module", "standard input"])
def test_a_program_without_a_main_guard_runs_once(arguments: list[str], tmp_path: Path) -> None:
    assert run(tmp_path, PLAIN, *arguments) == ["program runs as __main__", "[0.0, 1.0, 2.0, 3.0]"]


@pytest.mark.slow
def test_a_data_set_that_the_program_defines_reaches_the_workers(tmp_path: Path) -> None:
    lines = run(tmp_path, DEFINED, "program.py")
    assert lines.count("program runs as __main__") == 1
    assert "program runs as __mp_main__" in lines
    assert lines[-1] == "[0.0, 1.0, 2.0, 3.0]"
