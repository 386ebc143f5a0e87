"""Build the documentation site: python -m docs.build_site [--out FOLDER] (make docs). Open FOLDER/site/index.html.

The pages of docs/ and those written from the code are put into FOLDER/source, with files of the repository that a page links to.
Zensical builds them strictly: a link to a page, an anchor or a docstring that is not there is an error.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from docs.notebook_page import notebook_page
from hear_ssl.errors import run_main

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(\]\()([^)#\s]+)([^)\s]*\))")  # of Markdown: ](target#anchor)
CODE = re.compile(r"(^ *```.*?^ *```$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
OTHERS = {  # files of the repository that are pages of the site, by the folder they are in
    **{path: f"measurements/{path.name}" for path in sorted((ROOT / "tests" / "benchmarks").glob("*.md"))},
    **{path: f"{path.stem.lower()}.md" for path in sorted(ROOT.glob("[CS]*.md"))},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site into the folder that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m docs.build_site", description="Build the documentation site.")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "docs", metavar="FOLDER", help="folder for the site (default build/docs)"
    )
    index = build(parser.parse_args(arguments).out.absolute())
    print(f"the site: {index}")
    return 0


def build(out: Path) -> Path:
    """Write the site to out/site and return its first page. Raises ValueError with what Zensical found wrong, or without it."""
    if importlib.util.find_spec("zensical") is None:
        raise ValueError("zensical is not installed; with Python 3.11 or newer run: pip install -c constraints.txt -e '.[docs]'")
    write_source(out / "source")
    (out / "mkdocs.yml").write_text(yaml.safe_dump(settings(), sort_keys=False))
    shutil.rmtree(out / "site", ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", str(out / "mkdocs.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"the site cannot be built: {problems(done.stdout + done.stderr)}")
    return out / "site" / "index.html"


def problems(printed: str) -> str:
    """Return what Zensical found wrong: 'PAGE:LINE:COLUMN: problem' for each, or the end of what it printed."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed)
    found = re.findall(r"Warning: (.+)\n.*\[ (\S+) \]", plain)
    return "; ".join(f"{place}: {problem}" for problem, place in found) or plain[-500:]


def settings() -> dict[str, Any]:
    """Return mkdocs.yml with the folders of the build."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    docstrings = next(plugin["mkdocstrings"] for plugin in found["plugins"] if "mkdocstrings" in plugin)
    python = docstrings["handlers"]["python"]
    python["paths"] = [str(ROOT)]
    python["options"]["extensions"] = [f"{ROOT}/{extension}" for extension in python["options"]["extensions"]]
    return {**found, "docs_dir": "source", "site_dir": "site"}


def write_source(folder: Path) -> None:
    """Write the Markdown of all pages, and the files that they show, to a new folder."""
    from docs.generated_pages import generated_pages  # loads torch

    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DOCS, folder, ignore=shutil.ignore_patterns("*.py", "*.md", "__pycache__"))
    pages = {path: str(path.relative_to(DOCS)) for path in sorted(DOCS.rglob("*.md"))} | OTHERS
    for path, place in pages.items():
        write(folder / place, with_site_links(path.read_text(), path, place))
    for place, text in generated_pages().items():
        write(folder / place, text)
    for path in (ROOT / "examples").glob("*.ipynb"):
        shutil.copy(path, folder / "examples" / path.name)
        for name, picture in notebook_page(path)[1].items():
            (folder / "examples" / name).write_bytes(picture)


def write(path: Path, text: str) -> None:
    """Write a page in a folder that may be new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def with_site_links(text: str, path: Path, place: str) -> str:
    """Return a page whose links to files of the repository lead to pages of the site.

    path: of the page in the repository; place: on the site. Raises ValueError when a link leads to a file that is no page.
    """

    def changed(link: re.Match[str]) -> str:
        target = link[2]
        if re.match(r"[a-z]+:", target):
            return link[0]
        file = (path.parent / target).resolve()
        return f"{link[1]}{os.path.relpath(site_place(file, path, target), Path(place).parent)}{link[3]}"

    parts = CODE.split(text)  # code at odd places
    return "".join(part if number % 2 else LINK.sub(changed, part) for number, part in enumerate(parts))


def site_place(file: Path, page: Path, target: str) -> str:
    """Return where a file of the repository is on the site. Raises ValueError when it is not there."""
    if file in OTHERS:
        return OTHERS[file]
    if file.is_relative_to(DOCS):
        return str(file.relative_to(DOCS))
    if file.parent == ROOT / "examples" and file.is_file():
        return f"examples/{file.name}.md"
    if file.is_relative_to(ROOT / "configs"):
        return "recipes.md"
    raise ValueError(f"{page}: the link {target} leads to a file that is no page of the site; link a page of docs/, an example or a recipe")


if __name__ == "__main__":
    run_main(main)
