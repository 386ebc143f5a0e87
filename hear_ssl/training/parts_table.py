"""The tables of encoders, objectives and readouts in docs/parts.md, generated from their classes.

python -m hear_ssl.training.parts_table > docs/parts.md
"""

from __future__ import annotations

import sys

from hear_ssl.errors import run_main
from hear_ssl.model.readouts import READOUTS
from hear_ssl.training.config_parts import ANY_VIEW, OURS, Keys, part_keys
from hear_ssl.training.show_config import default_text, meaning, type_name

TITLES = {"encoder": "Encoders", "objective": "Objectives", "augment": "Augmentations"}
HEAD = """# Encoders, objectives, augmentations and readouts

<!-- Written by: python -m hear_ssl.training.parts_table > docs/parts.md -->

A config selects each of them by its name, or by the file of [a class of your own](extend.md):

```yaml
encoder: {vit: {depth: 6}}
objective: {nt_xent: {weight: 0.5}, barlow_twins: {}}  # their weighted sum
data: {crops: [{seconds: 0.96, count: 2}]}
views:  # crops with augmentations, applied in this order
  - {crop: 0, augment: [gain, {mixup: {share: 0.1}}]}
  - {crop: 1, augment: [gain, noise]}
scene: [{pooled: {how: mean}}, bands]  # readouts, concatenated in this order
```

On the command line: `encoder.vit.depth=6`, `objective.nt_xent.weight=0.5`; `scene.0.how=std` changes the first readout of `scene`.
"""


def page() -> str:
    """Return the page, with the reference and the config keys of every class."""
    return HEAD + "".join(section(kind) for kind in OURS) + readouts()


def section(kind: str) -> str:
    """Return the page's section on encoders, objectives or augmentations: the beginnings of their docstrings, and their keys."""
    text = f"\n## {TITLES[kind]}\n"
    for name, part in OURS[kind].items():
        needs = ", ".join(sorted(getattr(part, "needs", ())))
        documented = part.__doc__ if kind == "augment" else sys.modules[part.__module__].__doc__  # several augmentations share a file
        source = (documented or "").strip().split("\n\n")
        text += f"\n### `{name}`\n\n{source[0]}\n" + (f"\n{' '.join(source[1].split())}\n" if len(source) > 1 else "")
        text += f"\nRequires: {needs}.\n" if needs else ""
        text += table({key.removeprefix(ANY_VIEW): value for key, value in part_keys(kind, name, part).items()})
    return text


def readouts() -> str:
    """Return the page's section on readouts: for each class its docstring, its kinds (scene, timestamp) and its options."""
    text = "\n## Readouts\n"
    for name, part in READOUTS.items():
        text += f"\n### `{name}`\n\nIn {' and '.join(f'`{kind}`' for kind in part.kinds)}. {' '.join((part.__doc__ or '').split())}\n"
        keys = {key.rpartition(".")[2]: value for key, value in part_keys("readout", name, part).items()}
        text += table(keys) if keys else ""
    return text


def table(keys: Keys) -> str:
    """Return the table of some keys: each with its type, its default, and what it means with its unit and range.

    The site shows a table of the class `keys` as a list on a phone.
    """
    text = '\n<div class="keys" markdown>\n\n| key | default | meaning [unit, range] |\n|---|---|---|\n'
    for key, (hint, item) in keys.items():
        default = default_text(item)
        text += f"| `{key}` {type_name(hint)} | {f'`{default}`' if default else ''} | {meaning(item)} |\n"
    return f"{text}\n</div>\n"


def main() -> int:
    """Print the page."""
    print(page(), end="")
    return 0


if __name__ == "__main__":
    run_main(main)
