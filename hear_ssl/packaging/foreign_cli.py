"""hear-ssl foreign hearbaseline.naive: create an environment for a foreign module, to evaluate and verify it there."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hear_ssl.evaluation.foreign.known import built_python, default_folder, known_modules
from hear_ssl.help_text import HelpText
from hear_ssl.machine import user_path


def main(arguments: Sequence[str] | None = None) -> int:
    """Create the environment of the given module and print the next commands; without a name, list the known modules."""
    given = parse_arguments(arguments)
    if given.module is None:
        width = max(map(len, known_modules()))
        for name, known in known_modules().items():
            print(f"{name:{width}}  {'ready' if built_python(name) else '-':5}  {known['about']}")
        return 0
    from hear_ssl.packaging.foreign_environment import make, recipe_of  # loads torch

    recipe = recipe_of(given.module, given.interpreter, given.torch)
    folder = Path(given.to) if given.to else default_folder(given.module)
    python = make(recipe, folder.absolute())
    print(f"environment  {folder}")
    print(f"evaluate     hear-ssl evaluate --module {given.module} --python {python} --tasks TASKS --out OUT")
    print(f"verify       hear-ssl verify {given.module} --python {python}")
    if not given.to:
        print(f"baseline     hear-ssl evaluate --module MINE --baselines logmel,untrained,{given.module} --tasks TASKS --out OUT")
    return 0


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="hear-ssl foreign",
        formatter_class=HelpText,
        description="Make a Python environment for another's HEAR module whose pins are known, and print the command that evaluates it"
        " there. Run again, it resumes, or checks that the module still loads. Without a name: list the modules.",
    )
    parser.add_argument("module", nargs="?", metavar="NAME", help="a module of the list, such as hearbaseline.naive")
    parser.add_argument(
        "--to",
        default="",
        type=user_path,
        metavar="FOLDER",
        help="where to make it (default: in ~/.cache/hear_ssl/foreign, where evaluate and verify find it by the module's name)",
    )
    parser.add_argument(
        "--interpreter",
        default="",
        type=user_path,
        metavar="PYTHON",
        help="the Python to make it of (default: the one that runs here, else the first on this machine that the module has pins for)",
    )
    parser.add_argument(
        "--torch",
        default="",
        metavar="REQUIREMENT",
        help="download this torch, such as torch==2.4.1, instead of linking the one that runs here",
    )
    return parser.parse_args(given)
