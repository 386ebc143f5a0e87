"""The page of errors quotes messages that the code has."""

from __future__ import annotations

import ast
import re

from docs.build_site import DOCS, ROOT

QUOTED = re.compile(r"^`([^`\n]+)`(?: or `([^`\n]+)`)?\n:   ", re.MULTILINE)


def texts() -> list[str]:
    """Return every text of the code, with ... for what an f-string fills in."""
    found = []
    for path in sorted((ROOT / "hear_ssl").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_every_quoted_message_is_one_of_the_code() -> None:
    messages = [text for pair in QUOTED.findall((DOCS / "troubleshooting.md").read_text()) for text in pair if text]
    assert len(messages) >= 25
    known = texts()
    for message in messages:
        for fragment in filter(None, (part.strip(" ;:,.") for part in message.split("..."))):
            assert any(fragment in text for text in known), f"no error says {fragment!r} any more; quote the new text of {message!r}"
