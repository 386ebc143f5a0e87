"""The pages of the site without a build: all are in the navigation, and those written from the code leave nothing out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import hear_ssl
from docs.build_site import DOCS, OTHERS, ROOT, with_site_links
from docs.generated_pages import generated_pages
from docs.notebook_page import notebook_page
from hear_ssl.__main__ import COMMANDS
from hear_ssl.objectives import OBJECTIVES
from hear_ssl.synthesis.__main__ import KINDS
from hear_ssl.training.recipes import recipe_names
from hear_ssl.training.settings import settings_keys
from tests.docs.run_pages import navigation


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    """Return the generated pages."""
    return generated_pages()


def test_every_page_is_in_the_navigation_once(generated: dict[str, str]) -> None:
    listed = list(navigation())
    assert len(listed) == len(set(listed))
    written = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    top = {page for page in generated if "/" not in page} | {place for place in OTHERS.values() if "/" not in place}
    assert set(listed) == written | top


def test_every_page_of_the_navigation_says_what_the_reader_has_made() -> None:
    for folder in ("get_started", "concepts", "how_to"):
        for page in (DOCS / folder).glob("*.md"):
            assert "## What you have now" in page.read_text(), page


def test_every_command_has_its_help(generated: dict[str, str]) -> None:
    page = generated["command_line.md"]
    for name, (_, summary) in COMMANDS.items():
        assert f"| [`{name}`](#{name}) | {summary} |" in page
        assert f"## `hear-ssl {name}` {{#{name}}}\n\n```text\nusage: hear-ssl {name} [-h]" in page
    others = {"runs": ("list", "compare", "best", "export"), "tasks": ("list", "fetch")}
    for name, names in ({"synth": KINDS} | others).items():
        for sub in names:
            assert f"### `hear-ssl {name} {sub}`\n\n```text\nusage: hear-ssl {name} {sub} [-h]" in page
    assert "config keys (name" not in page  # they are on the page of the configuration


def test_every_config_key_has_a_row_with_its_meaning(generated: dict[str, str]) -> None:
    rows = dict(re.findall(r"^\| `([\w.]+)` [^|]+ \|(.*)\|$", generated["configuration.md"], re.MULTILINE))
    assert set(rows) == set(settings_keys())
    assert all(settings_keys()[key][1].metadata["help"] in row for key, row in rows.items())
    assert "MISSING" not in generated["configuration.md"]


def test_the_python_page_names_every_public_function_and_class() -> None:
    text = (DOCS / "python.md").read_text()
    for name in set(hear_ssl.__all__) - {"__version__", "objectives"}:
        assert f"::: {getattr(hear_ssl, name).__module__}.{name}\n    options: {{heading: hs.{name}, toc_label: hs.{name}" in text
    losses = re.findall(r"^\| `hs\.objectives\.(\w+)` \| `(\w+)` \|$", text, re.MULTILINE)
    assert {config_name: name for name, config_name in losses} == {key: kind.__name__ for key, kind in OBJECTIVES.items()}


def test_the_notebook_is_a_page_with_its_code_and_its_pictures(generated: dict[str, str]) -> None:
    page, pictures = notebook_page(ROOT / "examples" / "first_model.ipynb")
    assert generated["examples/first_model.ipynb.md"] == page
    assert page.startswith("# A first model\n")
    assert list(pictures) == ["first_model_1.png", "first_model_2.png"]
    assert all(picture.startswith(b"\x89PNG") and f"]({name})" in page for name, picture in pictures.items())
    assert "run = hs.fit(" in page
    assert "step 100/100  loss" in page


def test_every_recipe_has_a_row_and_its_yaml(generated: dict[str, str]) -> None:
    page = generated["recipes.md"]
    assert re.findall(r"^\| \[`(\w+)`\]", page, re.MULTILINE) == recipe_names()
    for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL):
        assert yaml.safe_load(block)["name"]
    assert page.count("```yaml") == len(recipe_names())


def test_links_to_files_of_the_repository_lead_to_pages_of_the_site() -> None:
    text = "[a](../examples/own_encoder.py) `[b](../x.md)` [c](https://example.com/x) [d](parts.md#vit) [e](../SECURITY.md)"
    found = with_site_links(text, DOCS / "extend.md", "extend.md")
    assert found == "[a](examples/own_encoder.py.md) `[b](../x.md)` [c](https://example.com/x) [d](parts.md#vit) [e](security.md)"
    assert with_site_links("[a](../extend.md)", DOCS / "how_to" / "x.md", "how_to/x.md") == "[a](../extend.md)"
    with pytest.raises(ValueError, match=r"the link \.\./Makefile leads to a file that is no page"):
        with_site_links("[a](../Makefile)", Path(DOCS / "extend.md"), "extend.md")
