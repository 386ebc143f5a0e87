"""`hear-ssl verify NAME --python ENV/bin/python`: what is no module, and an environment without torch, is one line."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from hear_ssl.packaging.official_validator import has_module
from hear_ssl.packaging.verify import RULES, verify


def program(file: Path, line: str) -> str:
    """Write a program that starts this Python in another way, and return its path."""
    file.write_text(f"#!/bin/sh\nexec {line}\n")
    file.chmod(0o755)
    return str(file)


def test_only_the_name_of_a_module_is_verified_elsewhere(tmp_path: Path) -> None:
    for subject in ("dist/hear_mine-0.1.0-py3-none-any.whl", "."):
        with pytest.raises(ValueError, match="--python is for the name of a module that is installed in an environment, not for"):
            verify(Path(subject), None, elsewhere=sys.executable)
    with pytest.raises(ValueError, match="not for --suites"):
        verify(Path("hear_mine"), None, suites=True, elsewhere=sys.executable)
    with pytest.raises(ValueError, match="not for --torch"):
        verify(Path("hear_mine"), None, fresh_torch="torch==2.4.1", elsewhere=sys.executable)


def test_an_environment_without_torch_is_one_line(tmp_path: Path) -> None:
    bare = program(tmp_path / "bare", f'{sys.executable} -S "$@"')
    assert not has_module(Path(bare), "torch")
    assert has_module(Path(bare), "json")
    with pytest.raises(ValueError, match="No module named 'torch'; install torch there"):
        verify(Path("hear_mine"), None, elsewhere=bare)
    with pytest.raises(ValueError, match="is not a program; give the path of a Python, such as ENV/bin/python"):
        verify(Path("hear_mine"), None, elsewhere=str(tmp_path / "none"))


def test_the_rules_parse_as_python_3_7() -> None:
    files = list(RULES.glob("*.py"))
    assert len(files) > 5
    for path in files:
        ast.parse(path.read_text(), feature_version=(3, 7))
