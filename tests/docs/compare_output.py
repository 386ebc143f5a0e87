"""Compare an output block of a page with what its commands print: words count, numbers, times and folders do not."""

from __future__ import annotations

import re


def key(line: str) -> str:
    """Return a line of an output without numbers, times, folders and spaces, but with the step of a training."""
    numbers = re.sub(r"[\d:.,±]+( (s|min|h|MB|GB)\b)?", "", re.sub(r"(?<!\w)[~.]?/[\w./=,-]+", "PATH", line))
    return " ".join(re.findall(r"step \d+/\d+", line)) + "".join(numbers.split())


def compare(expected: str, real: str) -> tuple[str, list[str]]:
    """Return the output block with the lines of the real output, and its lines that the real output lacks in this order."""
    lines, at = real.splitlines(), 0
    found: list[str] = []
    missing: list[str] = []
    for line in expected.splitlines():
        hit = next((number for number, other in enumerate(lines[at:], at) if key(other) == key(line)), None)
        if line.strip() in ("", "..."):
            found.append(line)
        elif hit is None:
            found.append(line)
            missing.append(line)
        else:
            elided = any(other.strip() and "%|" not in other for other in lines[at:hit])
            if elided and next(filter(str.strip, reversed(found)), "...") != "...":
                found.append("...")  # the page leaves lines out, other than those of progress bars
            found.append(lines[hit].rstrip())
            at = hit + 1
    return "".join(line + "\n" for line in found), missing
