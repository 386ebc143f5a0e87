"""The pages of the site that are written from the code: recipes, configuration, command line, examples."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
from collections.abc import Sequence
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

from docs.notebook_page import notebook_page
from hear_ssl.__main__ import COMMANDS
from hear_ssl.training.config import load_config
from hear_ssl.training.parts_table import table
from hear_ssl.training.recipes import recipe_names, recipe_path
from hear_ssl.training.settings import Config, settings_keys

ROOT = Path(__file__).resolve().parents[1]
HELP_COLUMNS = "80"  # of a help text on the page


def generated_pages() -> dict[str, str]:
    """Return the Markdown of every generated page by its path from the folder of the pages."""
    pages = {"recipes.md": recipes_page(), "configuration.md": configuration_page(), "command_line.md": command_line_page()}
    return {**pages, **example_pages()}


def recipes_page() -> str:
    """Return the page of the recipes: a table, then the comment and the YAML of each file in configs/."""
    text = (
        "# Recipes\n\nA recipe is a YAML file in `configs/` with only the keys that differ from the defaults. Train one by its name, and\n"
        "change any key on the command line. Keys: [configuration](configuration.md). Parts: [parts](parts.md).\n\n"
        "```\nhear-ssl fit --config simclr data.shards=shards trainer.steps=500\n"
        "hear-ssl config simclr          # print every key, with its origin and meaning\n```\n\n"
        "A file of yours starts with `base: simclr` and lists only what it changes.\n\n"
        "| recipe | objective | positives | crop, s | steps | based on |\n|---|---|---|---|---|---|\n"
    )
    return text + "".join(map(recipe_row, recipe_names())) + "".join(map(recipe_section, recipe_names()))


def recipe_row(name: str) -> str:
    """Return the row of a recipe in the table of recipes."""
    config = load_config(recipe_path(name), [])
    pair = "pairs of clips" if config.data.positives == "pairs" else positives([view.crop for view in config.views])
    base = re.search(r"^base: (\w+)", recipe_path(name).read_text(), re.MULTILINE)
    seconds = ", ".join(sorted({f"{crop.seconds:g}" for crop in config.data.crops}))
    link = f"[`{base[1]}`](#{base[1]})" if base else ""
    return f"| [`{name}`](#{name}) | {', '.join(config.objective)} | {pair} | {seconds} | {config.trainer.steps} | {link} |\n"


def positives(crops: Sequence[int]) -> str:
    """Return in words what the views of a recipe are cut from."""
    return "two crops of a clip" if len(set(crops)) > 1 else "two views of one crop"


def recipe_section(name: str) -> str:
    """Return the section of a recipe: the comment at the top of its file, and its keys."""
    lines = recipe_path(name).read_text().splitlines()
    comment = [line.lstrip("# ") for line in lines if line.startswith("#")]
    keys = "\n".join(line for line in lines if not line.startswith("#"))
    return f"\n## `{name}` {{#{name}}}\n\n{' '.join(comment)}\n\n```yaml\n{keys.strip()}\n```\n"


def configuration_page() -> str:
    """Return the page of all config keys but those of encoders, objectives, augmentations and readouts, which parts.md has."""
    text = (
        "# Configuration\n\nEvery key of a config, from the code. Set a key in a YAML file or after a command: `trainer.steps=500`.\n"
        "Encoders, objectives, augmentations and readouts have keys of their own: [parts](parts.md). `views`, `scene` and `timestamp`\n"
        "are lists of them.\n\n```\nhear-ssl config simclr trainer.steps=500   # print the resolved config, with the origin of each value\n"
        "hear-ssl config simclr --changed           # only what differs from the defaults\n```\n"
    )
    keys = settings_keys()
    plain = {key: value for key, value in keys.items() if "." not in key}
    text += f"\n## Top level\n\n{table(plain)}"
    for section, kind in get_type_hints(Config).items():
        found = {key: value for key, value in keys.items() if key.startswith(f"{section}.")}
        if is_dataclass(kind) and found:
            text += f"\n## `{section}` {{#{section}}}\n\n{' '.join((kind.__doc__ or '').split())}\n{table(found)}"
    return text


def command_line_page() -> str:
    """Return the page of the command line: the help of every command and of its subcommands."""
    rows = "".join(f"| [`{name}`](#{name}) | {summary} |\n" for name, (_, summary) in COMMANDS.items())
    text = (
        "# Command line\n\nThis page is what `hear-ssl COMMAND --help` prints. A mistake ends a command with one line and exit status 2,\n"
        f"Ctrl-C with 130, a closed pipe (`| head`) with 141.\n\n| `hear-ssl ...` | |\n|---|---|\n{rows}"
    )
    for name in COMMANDS:
        text += f"\n## `hear-ssl {name}` {{#{name}}}\n\n" + block(help_text(name))
        text += "".join(f"\n### `hear-ssl {name} {sub}`\n\n{block(help_text(name, sub))}" for sub in subcommands(name))
        if name == "fit":
            text += "\nThe keys: [configuration](configuration.md) and [parts](parts.md).\n"
    return text


def help_text(name: str, *subcommand: str) -> str:
    """Return what a command prints for --help; of fit without the list of all keys."""
    out = io.StringIO()
    before, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), HELP_COLUMNS
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            import_module(COMMANDS[name][0]).main([*subcommand, "--help"])
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    return out.getvalue().partition("\nconfig keys (")[0].rstrip()


def subcommands(name: str) -> list[str]:
    """Return the subcommands that the help of a command lists: indented names under a line in capitals or braces."""
    listed = re.search(r"^  (?:[A-Z]+|\{[\w,]+\})\n((?:    .*\n?)+)", help_text(name), re.MULTILINE)
    return re.findall(r"^    (\w+)(?= |$)", listed[1], re.MULTILINE) if listed else []


def block(text: str) -> str:
    """Return a text as a code block."""
    return f"```text\n{text}\n```\n"


def example_pages() -> dict[str, str]:
    """Return a page with the source of each file in examples/, and examples.md, which lists them."""
    files = sorted(path for pattern in ("*.py", "*.sh") for path in (ROOT / "examples").glob(pattern) if path.name != "__init__.py")
    pages = {f"examples/{path.name}.md": example_page(path) for path in files}
    rows = "".join(f"| [`{path.name}`](examples/{path.name}.md) | {about(path)[0]} |\n" for path in files)
    for path in (ROOT / "examples").glob("*.ipynb"):
        pages[f"examples/{path.name}.md"] = notebook_page(path)[0]
        rows += f"| [`{path.name}`](examples/{path.name}.md) | A notebook with plots and audio players. |\n"
    head = "# Examples\n\nFiles of `examples/`. Each takes a minute or two on the embedded corpus, and the tests run them.\n"
    return {"examples.md": f"{head}\n| file | |\n|---|---|\n{rows}", **pages}


def example_page(path: Path) -> str:
    """Return the page of an example."""
    language = {".py": "python", ".sh": "bash"}[path.suffix]
    return f"# `{path.name}`\n\n{about(path)[0]}\n\n```{language}\n{path.read_text()}```\n"


def about(path: Path) -> list[str]:
    """Return the paragraphs that an example begins with: its docstring, or its first comment."""
    text = path.read_text()
    if path.suffix == ".py":
        start = ast.get_docstring(ast.parse(text)) or ""
    else:
        start = "\n".join(line.lstrip("# ") for line in text.splitlines()[1:] if line.startswith("#"))
    return [" ".join(part.split()) for part in start.split("\n\n")]
