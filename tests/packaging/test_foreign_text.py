"""What comes from others stays text: in model cards, COMPLIANCE.md, the report and its figures, and in the environment of wheels."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hear_ssl.evaluation.report.build import data_card
from hear_ssl.evaluation.report.figures import confusion, curves
from hear_ssl.evaluation.report.score_table import faults_text
from hear_ssl.evaluation.tasks.task_parameters import read_parameters
from hear_ssl.model.download import check_url
from hear_ssl.packaging import clean_environment, compliance
from hear_ssl.packaging.clean_environment import without_secrets
from hear_ssl.packaging.model_card import sources_section
from hear_ssl.packaging.naming import check_name
from hear_ssl.packaging.rules.rows import read_results
from hear_ssl.packaging.wheel_rules import top_level_row

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a | b |\n| forged | row |",
    "a\r\n\r\n# A heading of ours",
    "[click](javascript:alert(1))",
    "![x](http://tracker/x.png)",
    "`a` \\| b",
    "\x1b[31mred\x07",
    "&lt;b&gt;",
    "\ud800",
    "\u2028| forged |",
    "---\nlicense: other\n",
]


def card(text: Any) -> dict[str, Any]:
    return {"hours": text, "split": text, "sources": [{"name": text, "license": text, "hours": text, "clips": text}]}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_foreign_data_card_is_text_in_the_report(text: str) -> None:
    for page in (data_card(card(text)), faults_text({"faults": {text: {text: text}}})):
        page.encode()
        assert re.sub(r"</?(?:p|b|div|table|tr|th|td)(?: class=scroll)?>", "", page).count("<") == 0
        assert page.isprintable()


@pytest.mark.parametrize("wrong", [None, [], "x", 3, {"sources": 3}, {"sources": [3, None]}, {"sources": [{}]}, {"hours": None}])
def test_a_data_card_of_another_form_does_not_fail(wrong: Any) -> None:
    assert "<table>" in data_card(wrong if isinstance(wrong, dict) else {"sources": wrong})


@pytest.mark.parametrize("text", HOSTILE)
def test_a_foreign_data_card_is_one_row_of_a_model_card(text: str) -> None:
    section = sources_section("Training data", card(text))
    section.encode()
    lines = section.strip().splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("## Training data: ")
    assert all(len(re.findall(r"(?<!\\)\|", line.replace("\\\\", ""))) == 5 for line in lines[2:])
    assert not re.search(r"<|(?<!\\)\]\(", section)


@pytest.mark.parametrize("text", HOSTILE)
def test_an_address_forges_no_row_of_the_compliance_report(text: str) -> None:
    line = compliance.weights_line({"bytes": 1, "sha256": "0", "url": f"https://host/{text}"}, published=True)
    assert len(line.splitlines()) == 1
    if "&" not in text:
        with pytest.raises(ValueError, match="is not allowed") as error:
            check_url(f"https://host/{text}")
        assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "url",
    ["https://user:hunter2@host/w", "https://hunter2@host/w", "https://host:99999/w", "https://[::1/w", "https:///w", "https://host/ü"],
)
def test_addresses_that_no_package_may_have(url: str) -> None:
    with pytest.raises(ValueError, match=r"is not allowed|leave them out") as error:
        check_url(url)
    assert "hunter2" not in str(error.value)


def test_labels_with_dollar_signs_are_no_formulas() -> None:
    labels = ["$\\frac{", "$a$ & <b>", "\x1b[2J\n"]
    rows = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture, _ = confusion(rows, rows, labels)
        curve = curves([{"step": "1", "probe_x": "0.5"}, {"step": "2", "probe_x": "0.5"}], {"probe_x": "$\\frac{ <b>"})
    for figure in (picture, curve):
        assert "\\frac{" in figure
        assert "<b>" not in figure
        assert "\x1b" not in figure


def test_a_module_that_is_measured_cannot_forge_its_rows(tmp_path: Path) -> None:
    for line in ("{}", "[" * 100_000, "nonsense", '{"name": 1}'):
        (tmp_path / "rows.jsonl").write_text(line + "\n")
        assert [row.passed for row in read_results(tmp_path / "rows.jsonl", "ended")] == [False]


@pytest.mark.parametrize("name", ["hidden_dim", "hidden_layers", "batch_size", "max_epochs"])
def test_a_task_cannot_ask_for_a_predictor_of_any_size(name: str) -> None:
    with pytest.raises(ValueError, match="at most"):
        read_parameters("x", {"task_specific_param_grid": {name: [10**9]}})
    with pytest.raises(ValueError, match="must be a list"):
        read_parameters("x", {"task_specific_param_grid": {name: [2] * 10**5}})


@pytest.mark.parametrize(
    "name",
    [
        *(
            "sitecustomize",
            "usercustomize",
            "sympy",
            "filelock",
            "mpmath",
            "networkx",
            "jinja2",
            "torchgen",
            "functorch",
            "distutils",
            "imp",
        ),
        *("typing_extensions", "asyncore", "rules", "pkg_resources", "conftest", "setup", "tensorflow", "librosa", "pil", "pillow", "attr"),
        *("yaml", "scikit_learn", "sklearn", "pytorch_lightning", "hypothesis", "vermin"),
    ],
)
def test_names_that_would_hide_another_module_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="would hide another package"):
        check_name(name)
    assert check_name("hear_mymodel") is None


def test_a_wheel_that_hides_a_module_is_named() -> None:
    for top in ("sympy", "sitecustomize", "torch"):
        row = top_level_row({f"{top}/__init__.py": b"", "x.dist-info/METADATA": b""}, "x.dist-info")
        assert not row.passed
        assert f"{top} hides another module" in row.measured
    assert top_level_row({"hear_x/__init__.py": b""}, "x.dist-info").passed


SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "hunter2",
    "GITHUB_TOKEN": "hunter2",
    "WANDB_API_KEY": "hunter2",
    "MY_OWN_THING": "hunter2",
    "SSH_AUTH_SOCK": "hunter2",
    "PIP_INDEX_URL": "https://me:hunter2@index/simple",
    "https_proxy": "http://me:hunter2@proxy:8080",
    "HTTP_PROXY": "me:hunter2@proxy:8080",
    "NETRC": "/hunter2",
    "PYTHONPATH": "/hunter2",
}


def test_code_of_others_sees_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    environment = without_secrets(tmp_path, PYTHONPATH="/given")
    assert "hunter2" not in str(environment)
    assert (environment["HOME"], environment["PYTHONPATH"], environment["OMP_NUM_THREADS"]) == (str(tmp_path), "/given", "1")
    assert environment["PATH"] == os.environ["PATH"]
    assert (environment["https_proxy"], environment["HTTP_PROXY"]) == ("http://proxy:8080", "proxy:8080")


def test_a_source_tree_is_built_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Building runs its setup.py."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    tree = tmp_path / "tree"
    tree.mkdir()
    seen = tmp_path / "seen.txt"
    (tree / "setup.py").write_text(
        f"import os, pathlib, setuptools\npathlib.Path({str(seen)!r}).write_text(str(dict(os.environ)))\nsetuptools.setup(name='x')\n"
    )
    arguments = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path / "built"), str(tree)]
    clean_environment.pip(Path(sys.executable), arguments, "does not build", tmp_path)
    assert "PATH" in seen.read_text()
    assert "hunter2" not in seen.read_text()


def test_measuring_a_package_passes_no_secret_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The three commands that run a wheel's code start it with this environment alone."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setenv("MY_OWN_THING", "hunter2")

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append(options)
        return subprocess.CompletedProcess(command, 0, "", "")

    from hear_ssl.packaging import verify

    monkeypatch.setattr(subprocess, "run", run)
    verify.measured_rows(Path(sys.executable), "hear_x", None, tmp_path, [])
    compliance.measure({"hear_x/__init__.py": b""}, "hear_x", b"", accepted=("measurement",))
    assert len(calls) == 2
    assert all("hunter2" not in str(call["env"]) for call in calls)
