"""The files around the code agree with it: workflows, templates, citation, make targets, the version."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hear_ssl.version import __version__

ROOT = Path(__file__).resolve().parent.parent
YAML_FILES = sorted([*ROOT.glob(".github/**/*.yml"), ROOT / "CITATION.cff", ROOT / ".pre-commit-config.yaml"])
MAKEFILES = (ROOT / "Makefile", ROOT / "examples/reference/reference.mk")
TARGETS = {target for path in MAKEFILES for target in re.findall(r"^([a-z]+):", path.read_text(), re.MULTILINE)}


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_yaml_files_are_valid(path: Path) -> None:
    assert yaml.safe_load(path.read_text())


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", ".github/workflows/ci.yml", ".github/pull_request_template.md"])
def test_make_targets_in_texts_exist(name: str) -> None:
    commands = re.findall(r"^\s*(?:- run: )?make(?: PYTHON=\S+)? ([a-z]+)|`make ([a-z]+)`", (ROOT / name).read_text(), re.MULTILINE)
    named = {first or second for first, second in commands}
    assert named
    assert named <= TARGETS


def test_the_changelog_begins_with_the_version() -> None:
    headings = re.findall(r"^## \[?(\d+\.\d+\.\d+|Unreleased)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert __version__ in headings[:2]


def test_the_citation_has_the_licence_of_the_code() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["license"] in (ROOT / "pyproject.toml").read_text()


def test_no_file_exceeds_the_limit_of_the_large_file_hook() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    hooks = {hook["id"]: hook for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"] for hook in repo["hooks"]}
    hook = hooks["check-added-large-files"]
    limit = int(next(argument for argument in hook["args"] if argument.startswith("--maxkb=")).partition("=")[2])
    names = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT, check=True).stdout.split("\0")
    files = [ROOT / name for name in names if (ROOT / name).is_file()]
    assert files
    large = [path.relative_to(ROOT).as_posix() for path in files if path.stat().st_size > 1024 * limit]
    assert [name for name in large if not re.search(hook["exclude"], name)] == []
    assert [name for name in large if re.search(hook["exclude"], name)]  # the reference model: the exception is still needed


def test_only_version_py_has_the_version() -> None:
    assert "version" in re.findall(r'^dynamic = \["(.*)"\]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert "version" not in yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_hooks_leave_generated_files_alone() -> None:
    hooks = [hook for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"] for hook in repo["hooks"]]
    for hook in (hook for hook in hooks if "ruff" in hook.get("entry", "")):  # ruff excludes a file that is named only with this option
        command = [sys.executable, "-m", *hook["entry"].replace("--fix", "--diff").rpartition("/")[2].split()]
        if "--diff" not in command:
            command.append("--diff")
        done = subprocess.run(
            [*command, "export/reference/hear_reference/__main__.py"], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
