"""Licences of training data are known by SPDX in the spellings that data comes with; what is none is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hear_ssl.checkpoint import load_checkpoint
from hear_ssl.packaging import compliance
from hear_ssl.packaging.licenses import known_license, parse_data_licenses, with_licenses
from hear_ssl.packaging.model_card import sources_section
from hear_ssl.packaging.package import check_training_data, package
from hear_ssl.synthesis import spoken_pairs
from tests.packaging.test_package import request, script


@pytest.mark.parametrize(
    ("text", "spdx"),
    [
        ("CC0-1.0", "CC0-1.0"),
        ("cc-by-4.0", "CC-BY-4.0"),
        ("CC BY 4.0", "CC-BY-4.0"),
        ("CC BY-NC-SA 3.0", "CC-BY-NC-SA-3.0"),
        ("CC-SA-BY-3.0", "CC-BY-SA-3.0"),
        ("Creative Commons Attribution 4.0 International", "CC-BY-4.0"),
        ("Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International License", "CC-BY-NC-SA-4.0"),
        ("Attribution-NoDerivatives 4.0", "CC-BY-ND-4.0"),
        ("CC0", "CC0-1.0"),
        ("CC0 1.0 Universal", "CC0-1.0"),
        ("Creative Commons 0", "CC0-1.0"),
        ("http://creativecommons.org/licenses/by/3.0/", "CC-BY-3.0"),
        ("https://creativecommons.org/licenses/by-nc/4.0/deed.en", "CC-BY-NC-4.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("https://spdx.org/licenses/MIT.html", "MIT"),
        ("public domain", "LicenseRef-Public-Domain"),
        ("MIT License", "MIT"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("BSD 3-Clause", "BSD-3-Clause"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPLv3", "GPL-3.0-only"),
        ("Expat", "MIT"),
        ("CC0-1.0 OR MIT", "CC0-1.0 OR MIT"),
        ("CC0 and GPL-2+ or CC BY 4.0", "CC0-1.0 AND GPL-2.0-or-later OR CC-BY-4.0"),
        ("(MIT OR CC0-1.0) AND Zlib", "(MIT OR CC0-1.0) AND Zlib"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
        ("LicenseRef-our-own-recordings", "LicenseRef-our-own-recordings"),
    ],
)
def test_spellings_of_known_licences_are_normalised(text: str, spdx: str) -> None:
    assert known_license(text) == spdx
    assert known_license(f"  {text}\n") == spdx
    assert known_license(spdx) == spdx


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "unknown", "none", "N/A", "?", "yes", "free", "other", "various", "NOASSERTION", "proprietary", "all rights reserved"),
        *("see the package's copyright file", "see LICENSE", "CC-BY", "Attribution", "Creative Commons", "CC BY 99.0", "CC BY 4.0 and 3.0"),
        *("MIT OR", "OR", "MIT AND see LICENSE", "MIT, Apache-2.0", "(MIT", "()", "https://example.com/licenses/by/4.0", "MIT" * 10_000),
    ],
)
def test_what_names_no_licence_is_none(text: str) -> None:
    assert known_license(text) == ""


def test_corpora_rendered_here_have_known_licences() -> None:
    assert known_license(spoken_pairs.LICENSE)
    assert known_license(spoken_pairs.RECORDED_LICENSE)


def source(name: str, license: str) -> dict[str, Any]:
    return {"name": name, "license": license, "hours": 0.5, "clips": 3}


def checkpoint(*sources: dict[str, Any]) -> dict[str, Any]:
    return {"data_card": {"hours": 1.0, "split": "train", "sources": list(sources)}}


@pytest.mark.parametrize("license", ["", "unknown", "see the package's copyright file"])
def test_a_source_without_a_licence_is_named_with_the_option(license: str) -> None:
    card = checkpoint(source("a=b", license))["data_card"]
    with pytest.raises(ValueError, match=r"training source a=b has (no|the) licence.*--data-license 'a=b=NAME'") as caught:
        check_training_data(card)
    assert "\n" not in str(caught.value)


def test_a_licence_is_stated_for_a_source_that_has_none() -> None:
    given = checkpoint(source("a=b", "unknown"), source("c", "CC BY 4.0"), source("c", "cc-by-4.0"))
    fitted = {"fitted": {"data": checkpoint(source("a=b", "see LICENSE"))["data_card"], "clips": 3}}
    changed = with_licenses({**given, **fitted}, parse_data_licenses(["a=b=CC0"]))
    stated = {**source("a=b", "CC0-1.0"), "license_stated": "at export"}
    assert changed["data_card"]["sources"] == [stated, {**source("c", "CC-BY-4.0"), "hours": 1.0, "clips": 6}]
    assert changed["fitted"]["data"]["sources"] == [stated]
    assert given["data_card"]["sources"][0]["license"] == "unknown"
    check_training_data(changed["data_card"])
    section = sources_section("Training data", changed["data_card"])
    assert "| a=b | CC0-1.0 (stated at export) | 0.500 | 3 |" in section
    assert "| c | CC-BY-4.0 | 1.000 | 6 |" in section
    assert "CC0-1.0 (stated at export) (0.50 h)" in compliance.licences(changed["data_card"]["sources"])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["a"], "not of the form SOURCE=NAME"),
        (["=MIT"], "not of the form SOURCE=NAME"),
        (["a=see LICENSE"], "'see LICENSE' is not a known licence; give an SPDX name"),
        (["a=MIT", "a=CC0-1.0"], "--data-license gives a both MIT and CC0-1.0"),
        (["nowhere=MIT"], "'nowhere', which the model was not trained on; its sources: a, c"),
        (["c=MIT"], "states MIT for c, which has CC-BY-4.0 from its shards"),
    ],
)
def test_a_licence_that_cannot_be_stated_is_one_line(options: list[str], line: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        with_licenses(checkpoint(source("a", ""), source("c", "CC BY 4.0")), parse_data_licenses(options))
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "card", [None, [], {}, {"sources": None}, {"sources": [None]}, {"sources": [{"name": 3}]}, checkpoint({})["data_card"]]
)
def test_a_damaged_card_is_left_to_its_check(card: Any) -> None:
    assert with_licenses({"data_card": card}, {})["data_card"] == card


@pytest.mark.slow
def test_manifest_and_model_card_record_a_licence_stated_at_export(run: Path, tmp_path: Path) -> None:
    kept = load_checkpoint(run)
    kept["data_card"]["sources"][0]["license"] = "unknown"
    name = kept["data_card"]["sources"][0]["name"]
    (tmp_path / "run").mkdir()
    torch.save(kept, tmp_path / "run" / "last.ckpt")
    options = ["--checkpoint", str(tmp_path / "run"), "--name", "hear_test", "--version", "0.1.0", "--allow-unpublished"]
    options += ["--weights-url", "https://example.com/w.safetensors", "--out", str(tmp_path / "dist")]
    done = script(*options)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"--data-license '{name}=NAME'" in done.stderr
    done = script(*options, "--data-license", f"{name}=CC BY 4.0")
    assert done.returncode == 0, done.stderr
    tree = tmp_path / "dist" / "hear_test"
    (found,) = json.loads((tree / "hear_test" / "manifest.json").read_text())["training"]["data"]["sources"]
    assert (found["license"], found["license_stated"]) == ("CC-BY-4.0", "at export")
    assert "| CC-BY-4.0 (stated at export) |" in (tree / "MODEL_CARD.md").read_text()
    assert "CC-BY-4.0 (stated at export)" in (tree / "COMPLIANCE.md").read_text()


def test_an_export_from_python_takes_licences_too(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="which the model was not trained on"):
        package(request(run, data_licenses={"nowhere": "MIT"}), tmp_path)
