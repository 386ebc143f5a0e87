"""States of a real training in a process of its own: running, killed, resumed, stopped; read while it writes."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hear_ssl.files import read_json
from hear_ssl.runs.__main__ import main
from hear_ssl.runs.run_folder import find_runs, read_run
from hear_ssl.runs.state import HEARTBEAT_SECONDS, read_state
from tests.conftest import NT_XENT, TINY
from tests.evaluation.test_evaluate import make_scene
from tests.training.test_fit import command

pytestmark = pytest.mark.slow


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_run_is_running_stale_when_killed_running_when_resumed_and_stopped_by_a_signal(shards: Path, tmp_path: Path) -> None:
    run, recipe = tmp_path / "runs" / "run", tmp_path / "plain.yaml"
    recipe.write_text("objective: {nt_xent: {weight: 1}}\n")
    arguments = ["--config", str(recipe), f"data.shards={shards}", *TINY, *NT_XENT, "trainer.steps=100000", f"run={run}"]
    process = started(*arguments)
    wait_for(lambda: run.is_dir() and read_run(run).step >= 4, process)
    for _ in range(100):  # while it writes a row a step
        (found,) = find_runs([tmp_path / "runs"])
        assert (found.state.state, found.problems) == ("running", ())
    beaten = (run / "state.json").stat().st_mtime
    wait_for(lambda: (run / "state.json").stat().st_mtime > beaten, process)
    assert (run / "state.json").stat().st_mtime - beaten == pytest.approx(HEARTBEAT_SECONDS, abs=5.0)
    process.kill()
    process.communicate()
    assert (read_state(run).state, read_state(run).reason) == ("stale", f"its process {process.pid} has ended")

    refused = started("--resume", str(run), "encoder.audio_ntt.channels=8")
    assert refused.wait(120) == 2
    assert read_json(run / "state.json")["pid"] == process.pid  # nothing has become of the run

    before, began = read_run(run).step, read_state(run).started
    process = started("--resume", str(run))
    wait_for(lambda: read_state(run).state == "running", process)
    wait_for(lambda: read_run(run).step > before, process)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    stopped = read_state(run)
    assert (process.returncode, stopped.state, stopped.reason) == (143, "stopped", "SIGTERM")
    assert stopped.started == began < stopped.ended
    assert f"step-{stopped.step:08d}.ckpt" in {path.name for path in (run / "checkpoints").iterdir()}


def test_the_best_probe_of_two_real_runs_is_found_compared_and_evaluated_by_its_path(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, recipe = make_scene(tmp_path / "tasks" / "scene"), tmp_path / "plain.yaml"
    recipe.write_text("objective: {nt_xent: {weight: 1}}\n")
    for seed in (0, 1):
        arguments = [
            "--config",
            str(recipe),
            f"data.shards={shards}",
            *TINY,
            *NT_XENT,
            f"seed={seed}",
            f"run={tmp_path / 'runs' / str(seed)}",
        ]
        process = started(*arguments, "probe.every=2", f"probe.tasks={task}", "trainer.checkpoint_every=6")
        assert process.wait(300) == 0, process.communicate()
    runs = find_runs([tmp_path / "runs"])
    best = max(runs, key=lambda run: ((found := run.best()) and found[1]) or 0.0)
    main(["best", str(tmp_path / "runs")])
    printed = capsys.readouterr()
    assert printed.out == f"{best.path / 'checkpoints' / 'best.ckpt'}\n"
    assert printed.err.endswith("the best of 2 runs\n")
    assert read_json(best.path / "checkpoints" / "best.json")["probe"] == pytest.approx((best.best() or (0, 0.0))[1], abs=1e-6)
    main(["compare", str(tmp_path / "runs"), "--out", str(tmp_path / "compare.html")])
    text = (tmp_path / "compare.html").read_text()
    assert "<p class=result>" in text
    assert "scene linear" in text
    assert "probe_scene_linear, at the best" in capsys.readouterr().out
