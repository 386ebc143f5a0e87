"""Verify a wheel's adapters for other benchmarks, each in a clean environment with the versions in suites.json.

MTEB runs its own mock tasks and X-ARES its own checker. XARES-LLM and EVAR are not on PyPI: `suite_checks` tests their documented
interfaces.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from hear_ssl.packaging.clean_environment import make_environment, pip, without_secrets
from hear_ssl.packaging.rules.rows import RuleResult

HERE = Path(__file__).resolve().parent
PINS = HERE / "suites.json"
TIMEOUT_SECONDS = 1800
RULES = {
    "mteb": "The adapter for MTEB passes its audio mock tasks, and embeds clips of different lengths as the HEAR API does.",
    "xares": "The adapter for X-ARES passes its checker and takes ten minutes of audio.",
    "xares_llm": "The adapter for XARES-LLM has its interface; padding marked by the mask does not change embeddings.",
    "evar": "The adapter for EVAR has its interface and returns the embeddings of the HEAR API.",
}


def suite_rows(wheel: Path, module: str, weights: Path | None, scratch: Path, only: tuple[str, ...] = tuple(RULES)) -> list[RuleResult]:
    """Return a row for each benchmark, measured on the wheel's adapter in an environment with only that benchmark.

    weights: the weights file, if neither the wheel nor its address has it yet.
    """
    pins = json.loads(PINS.read_bytes())
    return [suite_row(name, pins[name], wheel, module, weights, scratch / f"suite-{name}") for name in only]


def suite_row(name: str, pins: dict[str, Any], wheel: Path, module: str, weights: Path | None, scratch: Path) -> RuleResult:
    """Return the row of one benchmark; not measured when it cannot be installed."""
    row = RuleResult(f"benchmark {name}", RULES[name], "", None)
    scratch.mkdir(parents=True)
    try:
        python = make_environment(scratch, layers=("torch", "torchaudio"))
        for arguments in installs(pins):
            pip(python, ["install", *arguments], f"cannot install {' '.join(arguments)}")
        pip(python, ["install", "--no-deps", "--no-index", str(wheel)], "pip refuses the wheel", scratch)
    except ValueError as error:
        row.measured = str(error)
        return row
    if weights:
        place_weights(next((scratch / "env" / "lib").glob("python3*/site-packages")) / module, weights)
    command = [str(python), str(HERE / "suite_checks.py"), name, module]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=without_secrets(scratch), cwd=scratch, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        row.measured, row.passed = f"not finished after {TIMEOUT_SECONDS} s", False
        return row
    try:
        result = json.loads(done.stdout.splitlines()[-1])
        row.measured, row.passed = str(result["measured"]), result["passed"]
    except (IndexError, ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        row.measured, row.passed = f"the check ended with status {done.returncode}: {last[:160]}", False
    return row


def installs(pins: dict[str, Any]) -> list[list[str]]:
    """Return the arguments of each `pip install` for a benchmark: packages with requirements, without, and torchcodec for this torch."""
    torch = ".".join(metadata.version("torch").split("+")[0].split(".")[:2])
    codec = [f"torchcodec=={pins['torchcodec'][torch]}" if torch in pins["torchcodec"] else "torchcodec"] if "torchcodec" in pins else []
    found = [pins.get("install", []), [*(["--no-deps"] if "install_alone" in pins else []), *pins.get("install_alone", [])], codec]
    return [arguments for arguments in found if arguments]


def place_weights(package: Path, weights: Path) -> None:
    """Copy a weights file to the location of the installed package's own weights."""
    record = json.loads((package / "manifest.json").read_bytes())["weights"]
    shutil.copyfile(weights, package / Path(record["file"]).name)
