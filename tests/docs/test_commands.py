"""What the pages tell a reader to type: commands, options, keys and files that there are."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from docs.build_site import DOCS, ROOT
from docs.generated_pages import help_text, subcommands
from hear_ssl.__main__ import COMMANDS
from hear_ssl.training.config import load_config
from hear_ssl.training.config_parts import config_keys

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LISTS = ("encoder", "objective", "views", "scene", "timestamp")  # keys with classes, whose options depend on the class
PAGES = sorted(DOCS.rglob("*.md"))
help_of = cache(help_text)
names = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))


def commands(text: str) -> list[list[str]]:
    """Return the words of every hear-ssl command in the code blocks of a page and in its text."""
    blocks = [block for language, block in BLOCK.findall(text) if language in ("", "bash")]
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(hear-ssl [^`\n]+)`", BLOCK.sub("", text))
    given = [re.sub(r"^.*-m hear_ssl ", "hear-ssl ", line) for line in lines]
    return [shlex.split(line, comments=True)[1:] for line in given if line.startswith("hear-ssl ")]


@names
def test_every_command_has_the_options_that_a_page_gives_it(page: Path) -> None:
    for words in commands(page.read_text()):
        if words[0] in ("COMMAND", "--version", "..."):
            continue
        assert words[0] in COMMANDS, words
        described = help_of(*words[: 1 + (len(words) > 1 and words[1] in subcommands(words[0]))])
        for option in (word for word in words if word.startswith("--")):
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", described), f"hear-ssl {words[0]} has no {option}"
        if words[0] in ("fit", "config"):
            keys = [word.partition("=")[0] for word in words if "=" in word]
            assert [key for key in keys if key not in config_keys() and key.split(".")[0] not in LISTS] == []


def test_the_pages_have_many_commands() -> None:
    assert sum(len(commands(page.read_text())) for page in PAGES) > 60


@names
def test_every_recipe_on_a_page_is_one_that_loads(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "tiny.yaml").write_text("base: simclr\n")
    for language, block in BLOCK.findall(page.read_text()):
        if language == "yaml" and page.name not in ("extend.md", "augmentations.md"):  # those have files of the reader's
            (tmp_path / "block.yaml").write_text(block)
            load_config(tmp_path / "block.yaml", [])


@pytest.mark.parametrize("name", ["own_objective", "own_encoder", "own_view"])
def test_a_page_about_an_example_has_its_lines(name: str) -> None:
    page, source = (DOCS / "how_to" / f"{name}.md").read_text(), (ROOT / "examples" / f"{name}.py").read_text()
    blocks = [block for language, block in BLOCK.findall(page) if language == "python"]
    assert blocks
    assert all(block in source for block in blocks)
    assert f", {len(source.splitlines())} lines." in " ".join(page.split())
