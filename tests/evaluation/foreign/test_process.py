"""A module in a process of its own: whatever happens there is one line here, and the process ends when nobody needs it."""

from __future__ import annotations

import ast
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hear_ssl.evaluation.foreign import process as exchange
from hear_ssl.evaluation.foreign.model import load_foreign
from hear_ssl.evaluation.foreign.process import WORKER, checked_python, parse_header
from hear_ssl.evaluation.protocol.parallel import map_ahead

FUNCTIONS = """
def load_model(path=""): return []
def get_scene_embeddings(audio, model): return audio
def get_timestamp_embeddings(audio, model): return audio, audio
"""
WRONG = {  # code of a module that does not load: what the line says
    "raise SystemExit('no GPU')": r"hear_wrong does not load in .*: SystemExit: no GPU \(hear_wrong.py, line 1\); the whole text is in ",
    "def (": "SyntaxError: invalid syntax",
    "import hear_it_needs": "ModuleNotFoundError: No module named 'hear_it_needs'",
    "load_model = 1": "module hear_wrong has no load_model; it does not follow the HEAR API",
    FUNCTIONS: r"load_model\(\) returned list, neither a torch.nn.Module nor a tf.Module",
    "import os; print('hello'); os._exit(3)": "ended with status 3: hello; what it printed is in ",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": "was killed by SIGKILL, out of memory[?]; what it printed is in ",
    "import os; [os.write(fd, b'x' * 99) for fd in range(3, 60) if os.path.exists('/dev/fd/%d' % fd) and os.fstat(fd).st_mode & 0o140000 "
    "== 0o140000]; import hear_it_needs": "gave a damaged answer",
}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of the module hear_wrong, which processes started from here find."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "hear_wrong.py"


def load(folder: Path) -> Any:
    return load_foreign("hear_wrong", "", sys.executable, folder / "out")


@pytest.mark.parametrize("code", WRONG)
def test_a_module_that_does_not_load_is_one_line(module: Path, code: str) -> None:
    module.write_text(code)
    with pytest.raises(ValueError, match=WRONG[code]) as caught:
        load(module.parent)
    assert "\n" not in str(caught.value)


def test_the_log_has_the_whole_traceback_and_what_was_printed(module: Path) -> None:
    module.write_text("print('starting')\nraise RuntimeError('first\\nsecond')")
    with pytest.raises(ValueError, match=r"RuntimeError: first second \(hear_wrong.py, line 2\)"):
        load(module.parent)
    log = (module.parent / "out" / "hear_wrong.log").read_text()
    assert log.startswith("starting\nTraceback")
    assert "first\nsecond" in log


def test_what_cannot_be_asked_for_is_one_line(module: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no module hear_wrong; install it there, or add its folder to PYTHONPATH"):
        load(module.parent)
    for python in ("no/such/python", str(tmp_path)):
        with pytest.raises(ValueError, match="is not a program; give the path of a Python, such as ENV/bin/python"):
            load_foreign("hear_wrong", "", python, tmp_path)
    not_python = tmp_path / "program"
    not_python.write_text("")
    not_python.chmod(0o755)
    with pytest.raises(ValueError, match="does not start"):
        load_foreign("hear_wrong", "", str(not_python), tmp_path)
    with pytest.raises(ValueError, match="is not the name of a module"):
        load_foreign("./hear_wrong.py", "", sys.executable, tmp_path)
    with pytest.raises(ValueError, match=r"--weights none.pt is not a file"):
        load_foreign("hear_wrong", "none.pt", sys.executable, tmp_path)
    checkpoint = tmp_path / "last.ckpt"
    checkpoint.write_text("")
    with pytest.raises(ValueError, match="is a run or checkpoint, which needs none: leave --python out"):
        load_foreign(str(checkpoint), "", sys.executable, tmp_path)


def test_the_folder_of_an_environment_will_do() -> None:
    assert checked_python(sys.prefix) == f"{sys.prefix}/bin/python"
    assert checked_python("sh") == os.path.abspath(next(f"{folder}/sh" for folder in os.get_exec_path() if os.path.exists(f"{folder}/sh")))


SLEEPS = """import os, subprocess, time
child = subprocess.Popen(["sleep", "60"])
open(os.environ["PIDS"], "w").write("%d %d" % (os.getpid(), child.pid))
time.sleep(60)
"""


def alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended may wait for its parent."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] not in "ZX"


def wait_for(condition: Any) -> None:
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_silent_process_is_ended_with_those_it_started(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = module.with_name("pids")
    monkeypatch.setenv("PIDS", str(pids))
    monkeypatch.setattr(exchange, "SILENT_SECONDS", 1.0)
    module.write_text(SLEEPS)
    with pytest.raises(ValueError, match="was silent for 1 s, so it was ended; what it printed is in"):
        load(module.parent)
    wait_for(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_ctrl_c_while_it_works_ends_it_at_once(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = module.with_name("pids")
    monkeypatch.setenv("PIDS", str(pids))
    module.write_text(SLEEPS)

    def items() -> Any:
        yield 0
        wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        raise KeyboardInterrupt  # as in the main thread, while another waits for the process

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(map_ahead(lambda item: load(module.parent), items(), 1, 1))
    assert time.monotonic() - start < 30
    wait_for(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))


@pytest.mark.parametrize(
    "header",
    [
        b"\xff",
        b"[]",
        b"{}",
        b'{"arrays": 1}',
        b'{"arrays": [1]}',
        b'{"arrays": [["object", [1]]]}',
        b'{"arrays": [["float32", [-1]]]}',
        b'{"arrays": [["float32", [true]]]}',
        b'{"arrays": [["float32", [1, 1, 1, 1, 1]]]}',
        b'{"arrays": [["float32", [100000, 100000]]]}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_header_is_refused(header: bytes) -> None:
    with pytest.raises(ValueError, match=r"damaged|array|16 GB"):
        parse_header(header)


def test_the_worker_parses_as_python_3_7_and_imports_what_is_there() -> None:
    tree = ast.parse(WORKER.read_text(), feature_version=(3, 7))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names - sys.stdlib_module_names == {"numpy"}
