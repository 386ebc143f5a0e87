"""The model card: a row for each encoder, licences by kind, long lists of sources folded away."""

from __future__ import annotations

from typing import Any

import pytest

from hear_ssl.packaging.licenses import KINDS, kind_of_license
from hear_ssl.packaging.model_card import UNFOLDED, licenses_section, model_card, sources_section, training_record


def source(name: str, license: str, hours: float = 1.0) -> dict[str, Any]:
    return {"name": name, "license": license, "hours": hours, "clips": 2}


def card(*sources: dict[str, Any]) -> dict[str, Any]:
    return {"sources": list(sources), "hours": sum(one["hours"] for one in sources), "split": "train"}


def manifest(**training: Any) -> dict[str, Any]:
    config = {"objective": {"nt_xent": {"weight": 0.5}, "frame": {"weight": 0.5}}}
    return {
        "name": "hear_test",
        "version": "0.1.0",
        "embedder": {"encoder": {"vit": {}}},
        "sizes": {"sample_rate": 16000, "scene_embedding_size": 4, "timestamp_embedding_size": 4, "hop_ms": 40.0, "parameters": 9},
        "training": {"steps": 70, "batch_size": 8, "git_revision": "a", "data": card(source("x", "MIT")), "config": config, **training},
        "metrics": {},
    }


@pytest.mark.parametrize(
    ("license", "kind"),
    [
        ("CC0-1.0", "public domain"),
        ("CC-BY-4.0", "attribution"),
        ("CC-BY-SA-3.0", "share-alike"),
        ("CC-BY-NC-SA-4.0", "non-commercial"),
        ("CC-BY-ND-4.0", "no derivatives"),
        ("CC-BY-NC-ND-4.0", "non-commercial"),
        ("GPL-2.0-or-later AND CC0-1.0", "copyleft"),
        ("(MIT OR CC0-1.0) AND BSD-3-Clause", "attribution"),
        ("CC-BY-3.0 AND CC-BY-SA-3.0 AND GPL-2.0-or-later", "share-alike"),
        ("LicenseRef-Own", "other"),
        ("LicenseRef-Own AND MIT", "attribution"),
        ("", "other"),
    ],
)
def test_an_expression_has_the_kind_of_its_strictest_licence(license: str, kind: str) -> None:
    assert kind in KINDS
    assert kind_of_license(license) == kind


def test_hours_are_summed_by_kind() -> None:
    training = {"data": card(source("a", "CC0-1.0", 2.0), source("b", "CC-BY-4.0", 1.5), source("c", "CC-BY-3.0", 0.25))}
    rows = [line for line in licenses_section(training).splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0] for row in rows] == ["| attribution", "| public domain"]
    assert [row.split(" | ")[-2:] for row in rows] == [["2", "1.75 |"], ["1", "2.00 |"]]


def test_a_long_list_of_sources_is_folded() -> None:
    few = sources_section("Training data", card(*(source(f"s{number}", "MIT") for number in range(UNFOLDED))))
    many = sources_section("Training data", card(*(source(f"s{number}", "MIT") for number in range(UNFOLDED + 1))))
    assert "<details>" not in few
    assert many.count("<details>") == many.count("</details>") == 1
    assert many.index("hours, split train") < many.index("<details>")  # the sum stays in sight
    assert all(f"| s{number} | MIT | 1.000 | 2 |" in many for number in range(UNFOLDED + 1))


def test_every_encoder_has_a_row() -> None:
    assert "| vit | nt_xent, frame | 70 | 8 |" in model_card(manifest())
    listed = [{"encoder": name, "objectives": ["byol"], "steps": 5, "batch_size": 2} for name in ("vit", "audio_ntt")]
    text = model_card(manifest(trainings=listed, notes=["rescaled"]))
    assert [line for line in text.splitlines() if "byol" in line] == ["| vit | byol | 5 | 2 |", "| audio_ntt | byol | 5 | 2 |"]
    assert "\n- rescaled\n" in text


def test_a_class_of_a_file_is_named_without_its_path() -> None:
    config = {"objective": {"/home/me/own.py:Margin": {}, "nt_xent": {}}}
    record = training_record(config, {"encoder": {"/home/me/net.py:Net": {}}}, 3, 8)
    assert record == {"encoder": "Net", "objectives": ["Margin", "nt_xent"], "steps": 3, "batch_size": 8}


def test_an_untrained_encoder_has_no_objective() -> None:
    assert "| vit | none | 0 | 8 |" in model_card(manifest(steps=0))
