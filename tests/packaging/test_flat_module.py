"""One file of a package: what is needed and nothing else, in an order that runs; clashes of names are refused."""

from __future__ import annotations

import pytest

from hear_ssl.packaging.flat_module import Package, flat_source, with_flat_imports

SOURCES = {
    "__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .inner.deep import Deep\n",
    "base.py": "import math\nfrom typing import List\n\n# two\nTWO = 2  # and a half\nUNUSED = math.pi\n"
    "\n\ndef twice(x: int) -> int:\n    return TWO * x\n",
    "inner/__init__.py": "from .deep import Deep\n",
    "inner/deep.py": (
        "import functools\nfrom ..base import twice\nfrom math import tau as turn\n\n\n@functools.lru_cache(None)\n"
        "def Deep(x: int) -> float:\n    '''Deep.'''\n    return twice(x) + turn\n"
    ),
}
ENTRY = "from pack.inner import Deep\n\n\ndef main() -> float:\n    return Deep(3) - Deep(0)\n"


def flat(entry: str = ENTRY, **changed: str) -> str:
    sources = {**SOURCES, **{name.replace("__", "/") + ".py": text for name, text in changed.items()}}
    return flat_source(Package("pack", sources, entry), [], '"""Head."""\n', "")


def test_the_file_runs_with_what_is_needed_alone() -> None:
    source = flat()
    names: dict[str, object] = {}
    exec(source, names)
    main = names["main"]
    assert callable(main)
    assert main() == 6
    assert source.startswith('"""Head."""\n\nfrom __future__ import annotations\n\nimport functools\nfrom math import tau as turn\n\n\n')
    assert "# two\nTWO = 2" in source
    assert "UNUSED" not in source
    assert "import math" not in source
    assert flat() == source


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"base": SOURCES["base.py"] + "\n\ndef main() -> None:\n    twice(1)\n", "inner__deep": SOURCES["inner/deep.py"]}, None),
        (
            {"inner__deep": SOURCES["inner/deep.py"] + "    # uses main\n    main\n\n\ndef main() -> None: ...\n"},
            "defines main, which is also",
        ),
        ({"base": SOURCES["base.py"].replace("twice", "sum")}, "has no twice"),
        ({"base": SOURCES["base.py"].replace("TWO", "max")}, "base defines max, which is also a builtin"),
        ({"base": SOURCES["base.py"].replace("TWO", "turn")}, "base defines turn, which is also an import"),
    ],
)
def test_a_name_of_two_things_is_refused(changed: dict[str, str], line: str | None) -> None:
    if line is None:  # nothing needs the other one
        assert flat(**changed)
        return
    with pytest.raises(ValueError, match=line) as caught:
        flat(**changed)
    assert "\n" not in str(caught.value)


def test_imports_of_the_package_become_imports_of_the_one_file() -> None:
    source = (
        "import torch\nfrom pack import Deep, option as opt\n"
        "from pack.inner.deep import (\n    Deep,\n    other,\n)  # both\nfrom packer import pack\n"
        "\n\ndef later():\n    from pack.base import TWO\n    return TWO\n"
    )
    changed, places = with_flat_imports(source, "pack", "one")
    assert changed == (
        "import torch\nfrom .one import Deep, option as opt\nfrom .one import Deep, other  # both\nfrom packer import pack\n"
        "\n\ndef later():\n    from .one import TWO\n    return TWO\n"
    )
    assert sorted(places) == [
        ("pack", "Deep"),
        ("pack", "option"),
        ("pack.base", "TWO"),
        ("pack.inner.deep", "Deep"),
        ("pack.inner.deep", "other"),
    ]
