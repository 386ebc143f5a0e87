"""A notebook as a page of the site: its text, its code, and the pictures and the text that its cells printed."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return the Markdown of a notebook, and the pictures that it shows, PNG files by their names."""
    pictures: dict[str, bytes] = {}
    title, *cells = json.loads(path.read_text())["cells"]
    parts = [source(title), f"[Download this notebook]({path.name})."]
    for cell in cells:
        parts.append(source(cell) if cell["cell_type"] == "markdown" else f"```python\n{source(cell)}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}_{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![what this cell plots]({name})")
            else:
                parts.append(f"```text\n{''.join(output.get('text') or data['text/plain']).rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures


def source(cell: dict[str, Any]) -> str:
    """Return the text of a cell."""
    return "".join(cell["source"])
