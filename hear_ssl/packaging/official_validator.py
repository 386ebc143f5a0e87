"""The official validator (hearvalidator 2021.0.6 from PyPI, unedited), run on the module in its clean environment.

It imports tensorflow only to distinguish the two kinds of model; a stub replaces it. On a current Python, pip would silently install
2021.0.2, which lacks most checks, therefore the Python requirement is ignored.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hear_ssl.files import atomic_write
from hear_ssl.machine import user_cache
from hear_ssl.packaging.clean_environment import link_layer, pip, requirement_closure, without_secrets
from hear_ssl.packaging.rules.rows import RuleResult

VERSION = "2021.0.6"
CACHE = "weights-cache"  # a new cache in the scratch folder: weights cached earlier would hide a dead URL
RULE = f"The official HEAR validator {VERSION} accepts the module."
STUB = '''"""Replaces tensorflow: a torch model is not a tf.Module."""


class Module:
    pass


float32 = "float32"


def convert_to_tensor(value):
    raise RuntimeError("tensorflow is not installed")
'''


def validator_folder(scratch: Path) -> Path:
    """Return the folder with the validator and the stub, installed once in the user's cache.

    They are installed in `scratch` when the cache cannot be written. Raises ValueError when the validator cannot be installed.
    """
    folder = user_cache() / f"hearvalidator-{VERSION}"
    if not (folder / "complete").is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "tensorflow").mkdir(exist_ok=True)
        except OSError:
            folder = scratch / folder.name
        arguments = ["install", "--no-deps", "--ignore-requires-python", "--upgrade", "--target", str(folder), f"hearvalidator=={VERSION}"]
        pip(Path(sys.executable), arguments, "cannot install the official validator")
        (folder / "tensorflow").mkdir(parents=True, exist_ok=True)
        atomic_write(folder / "tensorflow" / "__init__.py", STUB)
        atomic_write(folder / "complete", "")
    return folder


def validator_row(python: Path, module: str, weights: Path | None, scratch: Path, paths: list[str], elsewhere: bool = False) -> RuleResult:
    """Run the validator with `python` on a module, installed or on one of `paths`, and return its row.

    elsewhere: whether `python` belongs to an environment with its own numpy, and perhaps with tensorflow.
    """
    try:
        folder = validator_folder(scratch)
    except ValueError as error:
        return RuleResult("official validator", RULE, f"not measured: {error}", None)
    extras = scratch / "validator-layer"
    if elsewhere:
        extras.mkdir()
        for top in ("hearvalidator", *([] if has_module(python, "tensorflow") else ["tensorflow"])):
            (extras / top).symlink_to(folder / top)
    else:
        link_layer([name for name in requirement_closure("numpy") if name != "torch"], extras)
    command = [str(python), "-W", "ignore", "-c", "import sys; from hearvalidator.validate import main; sys.exit(main())", module]
    command += ["--model", str(weights)] if weights else []
    path = os.pathsep.join([*([] if elsewhere else [str(folder)]), str(extras), *paths])
    environment = without_secrets(scratch, PYTHONPATH=path, HEAR_WEIGHTS_CACHE=str(scratch / CACHE))
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=scratch)
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    passed = done.returncode == 0 and any("Looks good" in line for line in lines)
    return RuleResult("official validator", RULE, lines[-1][:160] if lines else "no output", passed)


def has_module(python: Path, name: str) -> bool:
    """Return whether an interpreter finds a module."""
    command = [str(python), "-c", f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"]
    return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0
