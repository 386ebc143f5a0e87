"""The built site: Zensical finds nothing wrong, and a page loads nothing from another host."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from docs.build_site import build
from docs.generated_pages import generated_pages
from tests.docs.run_pages import navigation

pytestmark = pytest.mark.slow
LOADED = {"script": "src", "link": "href", "img": "src", "source": "src", "iframe": "src", "audio": "src", "video": "src"}


class Loads(HTMLParser):
    """Collects what a page loads, and the text between its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the address of an element that loads something."""
        address = dict(attrs).get(LOADED.get(tag, ""))
        if address and dict(attrs).get("rel") not in ("next", "prev", "canonical"):
            self.addresses.append(address)


def test_every_page_is_built_and_loads_only_files_of_the_site(site: Path) -> None:
    for page in navigation():
        assert (site / page).with_suffix(".html").is_file()
    pages = sorted(site.rglob("*.html"))
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text())
        assert loads.addresses
        base = site if page.name == "404.html" else page.parent
        for address in loads.addresses:
            assert not re.match(r"(https?:)?//", address), f"{page} loads {address}"
            file = site / address.lstrip("/") if address.startswith("/") else base / address.partition("?")[0]
            assert file.is_file(), f"{page} loads {address}, which is not there"


def test_no_style_loads_from_another_host(site: Path) -> None:
    styles = sorted(site.rglob("*.css"))
    assert styles
    for style in styles:
        assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)\"']+", style.read_text())


def test_the_python_page_is_made_of_docstrings(site: Path) -> None:
    page = (site / "python.html").read_text()
    for name in ("training.verbs.fit", "loading.Model.scene", "objectives.base.Objective.forward", "views.base.Augmentation.random"):
        assert f'id="hear_ssl.{name}"' in page
    assert "Train an encoder, as <code>hear-ssl fit</code> does, and return its run folder." in page


def test_a_link_to_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Path) -> None:
    pages = {**generated_pages(), "recipes.md": "# Recipes\n\n[lost](nowhere.md)"}
    monkeypatch.setattr("docs.generated_pages.generated_pages", lambda: pages)
    with pytest.raises(ValueError, match=r"the site cannot be built: .*recipes\.md:3:8: page does not exist"):
        build(tmp_path)
