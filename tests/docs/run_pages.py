"""Run the pages of docs/ as a reader would, by hand: python -m tests.docs.run_pages --work DIR [--write] [PAGE ...].

In the order of the navigation, the home page last: YAML and Python blocks become the files that the paragraph before them names; other
Python blocks, and blocks without a language, run in DIR. A line of an output block (```text) that the real output lacks is printed with
the real output; digits, times and paths do not count. --write puts the real lines into the output blocks. All output stays in DIR/outputs.
What a page installs with pip goes to DIR/installed, without dependencies. Run all pages in an empty DIR; a page alone needs the files of
those before it.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from docs.build_site import DOCS, ROOT
from tests.docs.compare_output import compare

BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)  # indent, language, text
STOP = re.compile(r" +# Ctrl-C after (.+)$")  # a command that the reader interrupts once this is printed
CHECKOUT = ("configs", "examples", "export", "train")  # folders that the pages name
TRANSFORMERS = {"transformers.md": [Path(sys.prefix) / "transformers"]}  # the folder that `make transformers` makes
ENVIRONMENT = "the environment is the one that runs this program"
PLACEHOLDERS = "NAME and ENV stand for what the reader has"
NOT_RUN: dict[str, dict[str, str]] = {  # page, "" for all -> beginning of a command or of a Python block -> why it is not run here
    "": {
        "python3 -m venv": ENVIRONMENT,
        ". .venv/bin/activate": ENVIRONMENT,
        "pip install -c": ENVIRONMENT,
        "class ": "an excerpt of an example: tests/docs/test_commands.py compares it",
    },
    "index.md": {"make quickstart": "is tried by itself"},
    "get_started/gpu.md": {"hear-ssl fit --config gpu.yaml": "takes hours without a GPU"},
    "get_started/slurm.md": {"sbatch": "needs a SLURM cluster"},
    "how_to/evaluate.md": {"hear-ssl tasks fetch": "downloads"},
    "how_to/sweeps.md": {"import hear_ssl": "the six runs of the command above; tests/training/test_sweep.py runs hs.sweep"},
    "foreign_modules.md": {
        "hear-ssl evaluate --module NAME": PLACEHOLDERS,
        "hear-ssl verify NAME": PLACEHOLDERS,
        "hear-ssl report --module NAME": PLACEHOLDERS,
        "import hear_ssl": PLACEHOLDERS,
    },
    "transformers.md": {"hear-ssl publish": "needs an account of the Hugging Face Hub"},
    "how_to/reference_model.md": {"make": "downloads 2.3 GB, takes 20 minutes or more"},
}


def main() -> int:
    """Run the pages that the command line names, or all; return 1 when an output differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.docs.run_pages", description="Run the pages of docs/ as a reader would.")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder to work in; kept from call to call")
    parser.add_argument("--write", action="store_true", help="put the real lines into the output blocks of the pages")
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="such as get_started/cpu.md (default: all)")
    args = parser.parse_args()
    work = args.work.absolute()
    (work / "outputs").mkdir(parents=True, exist_ok=True)
    for folder in CHECKOUT:
        if not (work / folder).exists():
            (work / folder).symlink_to(ROOT / folder)
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    listed = sorted((page for page in navigation() if (DOCS / page).exists()), key=lambda page: page == "index.md")  # no generated ones
    if unknown := sorted(set(args.pages) - set(listed)):
        parser.error(f"no page of the navigation: {', '.join(unknown)}; pages are named like get_started/cpu.md")
    return max(Page(page, work).run(args.write) for page in listed if page in (args.pages or listed))


def navigation(part: Any = None) -> Iterator[str]:
    """Yield the pages of a part of the navigation in mkdocs.yml, by default all, in order."""
    part = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"] if part is None else part
    if isinstance(part, str):
        yield part
    else:
        for inner in part.values() if isinstance(part, dict) else part:
            yield from navigation(inner)


class Page:
    """One page and the processes that its commands left running."""

    def __init__(self, name: str, work: Path) -> None:
        self.name, self.work, self.path = name, work, DOCS / name
        self.output = work / "outputs" / "none.txt"  # of the last block
        self.sessions: list[int] = []

    def run(self, write: bool) -> int:
        """Run the blocks in order; return 1 when an output differs."""
        text, last, differs = self.path.read_text(), 0, 0
        real, blocks = "", list[tuple[str, str]]()  # the last output; output blocks as they are and as they should be
        os.environ["PYTHONPATH"] = ":".join(map(str, [ROOT, self.work / "installed", *TRANSFORMERS.get(self.name, [])]))
        print(f"== {self.name}", flush=True)
        for number, block in enumerate(BLOCK.finditer(text)):
            paragraph = text[last : block.start()].rstrip().rpartition("\n\n")[2]
            _, language, inside = block.groups()
            named = re.search(r"`([\w./]+\.(?:yaml|py))`", paragraph)
            if language in ("yaml", "python") and named and paragraph.endswith(":"):
                (self.work / named[1]).write_text(inside)
            elif language in ("", "python"):
                self.output = self.work / "outputs" / f"{self.name.replace('/', '-')}.{number}.txt"
                self.output.write_text("")
                self.run_block(inside, language)
                real = self.shown(self.output.read_text())
            elif language == "text":
                new, missing = compare(inside, real)
                blocks.append((inside, new))
                if missing:
                    differs = 1
                    print("--- lines of the page that the real output lacks:\n", *missing, f"--- the real output:\n{real}", sep="\n")
            last = block.end()
        for session in self.sessions:
            with suppress(ProcessLookupError):
                os.killpg(session, signal.SIGTERM)
        for old, new in blocks if write else []:
            self.path.write_text(self.path.read_text().replace(old, new, 1))
        return differs

    def run_block(self, text: str, language: str) -> None:
        """Run the commands or the Python of a block, except those of NOT_RUN."""
        for command in commands(text, language):
            if why := reason(self.name, command):
                print(f"not run, {why}: {command.splitlines()[0]}", flush=True)
                continue
            print(f"$ {command.rstrip()}", flush=True)
            command = re.sub(r"^((python -m )?pip install) ", rf"\1 --no-deps --upgrade --target {self.work}/installed ", command)
            began, status = time.monotonic(), self.run_command(["python", "-c", command] if language else ["bash", "-c", command])
            print(f"  {time.monotonic() - began:.0f} s" + (f", exit status {status}" if status else ""), flush=True)

    def run_command(self, words: list[str]) -> int:
        """Run one command with its output appended to the file, and interrupt it where the page says so; return its status."""
        stop = STOP.search(words[-1])
        before = self.output.stat().st_size
        with self.output.open("a") as output:
            process = subprocess.Popen(words, cwd=self.work, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        self.sessions.append(process.pid)
        while stop and process.poll() is None:
            if stop[1] in self.output.read_text()[before:]:
                os.killpg(process.pid, signal.SIGINT)
                break
            time.sleep(0.1)
        return process.wait()

    def shown(self, output: str) -> str:
        """Return the output with the folders of a reader."""
        for folder, name in ((self.work, "/home/you"), (ROOT, "/home/you/hear_ssl"), (Path.home(), "/home/you")):
            output = output.replace(str(folder), name)
        return output


def commands(text: str, language: str) -> list[str]:
    """Return the commands of a block, with their continued lines, or its Python."""
    return [text] if language == "python" else re.split(r"(?<!\\)\n", text.strip())


def reason(page: str, command: str) -> str | None:
    """Return why a command of a page is not run here, None for one that is."""
    return next((why for start, why in (NOT_RUN[""] | NOT_RUN.get(page, {})).items() if command.startswith(start)), None)


if __name__ == "__main__":
    sys.exit(main())
