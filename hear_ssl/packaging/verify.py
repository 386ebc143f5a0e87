"""Verify a submission: install the wheel in a clean environment and measure every rule of the HEAR API on it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

from hear_ssl.errors import one_line, printable
from hear_ssl.evaluation.foreign.known import built_python, is_module_name
from hear_ssl.evaluation.foreign.process import checked_python
from hear_ssl.packaging.clean_environment import make_environment, pip, without_secrets
from hear_ssl.packaging.official_validator import CACHE, validator_row
from hear_ssl.packaging.rules.rows import RuleResult, read_results
from hear_ssl.packaging.suites import suite_rows
from hear_ssl.packaging.wheel_rules import AWAITED, wheel_rows
from hear_ssl.progress import report

RULES = Path(__file__).resolve().parent / "rules"
TIMEOUT_SECONDS = 1800


def verify(
    subject: Path,
    weights: Path | None,
    fresh_torch: str | None = None,
    progress: bool = False,
    memory: str = "all",
    suites: bool = False,
    elsewhere: str = "",
) -> list[RuleResult]:
    """Return one row per rule for a wheel, a source tree, or the name of a module on the path.

    memory: none leaves out the clips of ten and twenty minutes. suites: return a row for each other benchmark instead.
    elsewhere: the interpreter of the environment that has the module; by default the one made for it by `hear-ssl foreign`.

    Raises ValueError when there is nothing to verify under that name or the clean environment cannot be made.
    """
    elsewhere = elsewhere or built_python(str(subject))
    if elsewhere:
        return rows_elsewhere(
            subject, weights, elsewhere, progress, memory, asked="--suites" if suites else "--torch" if fresh_torch else ""
        )
    with tempfile.TemporaryDirectory(prefix="hear-verify-") as folder:
        scratch = Path(folder)
        wheel = as_wheel(subject, scratch)
        if suites:
            return adapter_rows(wheel, weights, scratch, progress)
        rows = wheel_rows(wheel, weights) if wheel else []
        module = module_name(wheel) if wheel else str(subject)
        say(progress, f"making a clean environment and installing {module}")
        python = make_environment(scratch, fresh_torch)
        if wheel:
            rows.append(install_row(python, wheel, alone=all(row.passed for row in rows if row.name == "depends on torch alone")))
            if not rows[-1].passed:
                return rows
        paths = [] if wheel else [str(Path(path).resolve()) for path in sys.path if path]
        say(progress, "running the official validator")
        rows.append(validator_row(python, module, weights, scratch, paths))
        say(progress, "measuring every rule (20 minutes of audio take the longest)")
        rows += measured_rows(python, module, weights, scratch, paths, memory)
        return [settled(row, fetched=any((scratch / CACHE).glob("*.safetensors"))) for row in rows]


def rows_elsewhere(subject: Path, weights: Path | None, python: str, progress: bool, memory: str, asked: str) -> list[RuleResult]:
    """Return the rows of a module in the environment of another interpreter. Raises ValueError when it is not a module there."""
    module = str(subject)
    if asked or not is_module_name(module):
        wrong = asked or f"{module}, which is not the name of a module"
        raise ValueError(f"--python is for the name of a module that is installed in an environment, not for {wrong}")
    interpreter = Path(checked_python(python))
    check_torch(interpreter)
    paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    with tempfile.TemporaryDirectory(prefix="hear-verify-") as folder:
        scratch = Path(folder)
        say(progress, f"running the official validator in {interpreter}")
        rows = [validator_row(interpreter, module, weights, scratch, paths, elsewhere=True)]
        say(progress, "measuring every rule (20 minutes of audio take the longest)")
        return rows + measured_rows(interpreter, module, weights, scratch, paths, memory)


def check_torch(python: Path) -> None:
    """Raise ValueError when an interpreter has no torch or is older than Python 3.7, since it measures the rules."""
    code = "import sys, torch\nif sys.version_info < (3, 7): raise ImportError('Python 3.7 or newer is needed')"
    try:
        done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise ValueError(f"{python} does not start: {error.strerror}; give ENV/bin/python of an environment") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise ValueError(f"the rules are measured with torch in {python}, but: {last[:200]}; install torch there")


def adapter_rows(wheel: Path | None, weights: Path | None, scratch: Path, progress: bool) -> list[RuleResult]:
    """Return a row for each benchmark for which a wheel has an adapter. Raises ValueError when it has none."""
    if wheel is None:
        raise ValueError("--suites verifies the adapters of a wheel or a source tree; a module's name is not enough")
    module = module_name(wheel)
    if f"{module}/suites/__init__.py" not in zipfile.ZipFile(wheel).namelist():
        raise ValueError(f"{wheel} has no adapters for other benchmarks; package the checkpoint again with hear-ssl package")
    say(progress, "making a clean environment for each benchmark (the downloads take minutes)")
    return suite_rows(wheel, module, weights, scratch)


def settled(row: RuleResult, fetched: bool) -> RuleResult:
    """Return a row that depends on the download by load_model() with its result; return other rows unchanged."""
    if row.passed is not None or not row.measured.endswith(AWAITED):
        return row
    what = "load_model() fetched and checked them" if fetched else "load_model() did not get them from there"
    return replace(row, measured=row.measured.replace(AWAITED, what), passed=fetched)


def install_row(python: Path, wheel: Path, alone: bool) -> RuleResult:
    """Install a wheel in a clean environment with torch. alone: without an index."""
    rule = "pip installs it in a clean environment that has torch."
    try:
        pip(python, ["install", *(["--no-index"] if alone else []), str(wheel)], "pip refuses", python.parents[2] if alone else None)
    except ValueError as error:
        return RuleResult(
            "installs with pip", rule, str(error), False, "Several submissions pin versions that no current Python can install."
        )
    return RuleResult(
        "installs with pip", rule, "installed" + (" with nothing else" if alone else ", what it requires from the index"), True
    )


def say(progress: bool, line: str) -> None:
    """Report the current step on stderr."""
    if progress:
        report(f"{printable(line)} ...", aside=True)


def as_wheel(subject: Path, scratch: Path) -> Path | None:
    """Return the wheel to install: the given one, or one built from a source tree; None for a module's name.

    Raises ValueError when the subject is none of the three.
    """
    if subject.suffix == ".whl":
        if not subject.is_file():
            raise ValueError(f"wheel {subject} does not exist; build it with hear-ssl package")
        return subject
    if subject.is_dir():
        if not (subject / "pyproject.toml").is_file() and not (subject / "setup.py").is_file():
            raise ValueError(f"{subject} is not a source tree: it has neither pyproject.toml nor setup.py")
        source = scratch / "source" / subject.resolve().name  # because building creates folders in the tree
        shutil.copytree(subject, source, ignore=shutil.ignore_patterns(".git", "build", "*.egg-info", "__pycache__"))
        arguments = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(scratch / "built"), str(source)]
        pip(Path(sys.executable), arguments, f"{subject} does not build", scratch)
        return next((scratch / "built").glob("*.whl"))
    if not str(subject).replace(".", "_").isidentifier():
        raise ValueError(f"{subject} is neither a wheel nor a source tree nor a module's name")
    if importlib.util.find_spec(str(subject).partition(".")[0]) is None:
        raise ValueError(f"there is no module {subject} to import; give a wheel or a source tree, or add its folder to PYTHONPATH")
    return None


def module_name(wheel: Path) -> str:
    """Return the package that a wheel installs."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            tops = {name.partition("/")[0] for name in archive.namelist() if name.endswith("/__init__.py")}
    except zipfile.BadZipFile:
        raise ValueError(f"{wheel} is damaged; build it again with hear-ssl package") from None
    tops = {top for top in tops if not top.endswith(".dist-info")}
    if not tops:
        raise ValueError(f"{wheel} installs no package: it has no __init__.py")
    return min(tops)


def measured_rows(
    python: Path, module: str, weights: Path | None, scratch: Path, paths: list[str], memory: str = "all"
) -> list[RuleResult]:
    """Run the checks with the Python of the clean environment and return their rows. memory: which long clips to measure, all or none."""
    home = scratch / "checks"
    home.mkdir()
    (home / "rules").symlink_to(RULES)
    out = scratch / "rows.jsonl"
    command = [str(python), "-m", "rules", module, str(out), *([str(weights)] if weights else []), "--memory", memory]
    environment = without_secrets(scratch, PYTHONPATH=os.pathsep.join([str(home), *paths]), HEAR_WEIGHTS_CACHE=str(scratch / CACHE))
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=scratch, timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        return read_results(out, f"not finished after {TIMEOUT_SECONDS} s")
    killed = ", out of memory?" if done.returncode == -signal.SIGKILL else ""
    last = (done.stderr.strip().splitlines() or ["no output"])[-1]
    return read_results(out, f"the process ended there with status {done.returncode}{killed}: {last[:160]}")


def print_rows(rows: list[RuleResult], ready: str = ": ready to submit") -> None:
    """Print the table, the reason of each broken rule, and the verdict, which is `ready` when all rules hold."""
    for row in rows:
        mark = {True: "ok  ", False: "FAIL", None: "--  "}[row.passed]
        print(f"{mark}  {printable(row.name)}: {printable(row.rule)}\n      measured: {one_line(row.measured)}")
        if row.passed is False and row.reason:
            print(f"      why: {printable(row.reason)}")
    broken, open_rows = [[row.name for row in rows if row.passed is verdict] for verdict in (False, None)]
    verdict = f"; broken: {', '.join(broken)}" if broken else ready
    unmeasured = f"; not measured: {', '.join(open_rows)}" if open_rows else ""
    print()
    print(printable(f"{len(rows) - len(broken) - len(open_rows)} of {len(rows)} rules hold{verdict}{unmeasured}"))
