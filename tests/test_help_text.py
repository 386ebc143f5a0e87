"""The help of every command fits a terminal of 80 columns and states defaults and repeated options in one way."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from docs.generated_pages import subcommands
from hear_ssl.__main__ import COMMANDS, overview
from hear_ssl.help_text import blocks, wrapped

LIST = "A paragraph of\ntwo lines.\n\nWhat differs:\n  all    one-two three\n         four\n  score  five\nThe end.\n"


def test_paragraphs_and_lists_are_kept_and_wrapped_at_spaces_alone() -> None:
    assert list(blocks(LIST)) == [
        "A paragraph of two lines.",
        "",
        "What differs:",
        "  all    one-two three four",
        "  score  five",
        "The end.",
    ]
    assert wrapped("  all    one-two three four", 18) == ["  all    one-two", "         three", "         four"]
    assert wrapped("", 18) == [""]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_of_a_command_fits_80_columns(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for arguments in ([], *([sub] for sub in subcommands(name))):
        with pytest.raises(SystemExit) if name != "fit" else monkeypatch.context():
            import_module(COMMANDS[name][0]).main([*arguments, "--help"])
        text = capsys.readouterr().out
        assert text.startswith(f"usage: hear-ssl {name}")
        assert not [line for line in text.splitlines() if len(line) > 80]
        assert not re.findall(r"\(default [^s]|given again|given several times|\bDIR\b", " ".join(text.split()))


def test_the_list_of_commands_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    overview("--help")
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
