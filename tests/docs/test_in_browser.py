"""The site in a real browser: navigation, search, copying of code, and the width of a phone. One browser for all of it."""

from __future__ import annotations

import asyncio
import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.browser import Page, new_page
from tests.evaluation.report.test_report import BROWSER
from tests.examples.test_browser import Quiet

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on the PATH (Debian: apt install chromium)"),
]
PHONE = 400  # pixels


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Serve the site and return its address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def seen(site: Path, address: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Use the site in a browser and return what was seen."""

    async def visit() -> dict[str, Any]:
        async with new_page(str(BROWSER), tmp_path_factory.mktemp("browser") / "profile") as page:
            await page.call("Emulation.setDeviceMetricsOverride", width=1400, height=900, deviceScaleFactor=1, mobile=False)
            await page.open(address)
            found = {"followed": await follow(page), "searched": await search(page), "copied": await copy(page, address)}
            found["palettes"] = [await palette(page, address, scheme) for scheme in ("dark", "light")]
            found["widths"] = await widths(page, address, sorted(site.rglob("*.html")), site)
            return {**found, "errors": page.errors, "addresses": page.addresses}

    return asyncio.run(visit())


async def follow(page: Page) -> list[str]:
    """Click on an entry of the navigation, then on the link to the next page; return the headings of both."""
    headings = []
    for link in ('.md-nav--primary a[href$="concepts/order.html"]', '.md-footer__link[rel="next"], .md-footer__link--next'):
        before = await page.value("location.href")
        await page.value(f"document.querySelector({json.dumps(link)}).click()")
        await page.until(f"location.href != {json.dumps(before)} && document.readyState == 'complete'")
        headings.append(await page.value("document.querySelector('h1').firstChild.textContent"))
    return headings


async def search(page: Page) -> dict[str, str]:
    """Search for words of an error message, and return the first result and the page that it leads to."""
    results = "document.activeElement.shadowRoot?.querySelectorAll('ol a')"
    await page.until("!!document.querySelector('.md-search__button')")
    await page.value("document.querySelector('.md-search__button').click()")
    await page.until("document.activeElement.shadowRoot?.querySelector('input') && true")
    await page.call("Input.insertText", text="embeddings collapsed")
    await page.until(f"{results}.length > 0")
    text = await page.value(f"{results}[0].innerText")
    await page.value(f"{results}[0].click()")
    await page.until("location.pathname == '/troubleshooting.html' && document.readyState == 'complete'")
    return {"text": text, "heading": await page.value("document.querySelector('h1').firstChild.textContent")}


async def copy(page: Page, address: str) -> list[str]:
    """Click on the button of a code block and return the clipboard and the code."""
    await page.call("Browser.grantPermissions", permissions=["clipboardReadWrite"])
    await page.open(address + "how_to/own_objective.html")
    await page.until("!!document.querySelector('pre .md-code__button')")
    code = await page.value("document.querySelector('pre .md-code__button').closest('pre').querySelector('code').innerText")
    await page.value("document.querySelector('pre .md-code__button').click()")
    copied = await page.until("navigator.clipboard.readText()")
    return [copied, code]


async def palette(page: Page, address: str, scheme: str) -> str:
    """Return the palette that the site has where the system prefers a scheme."""
    await page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    await page.open(address + "recipes.html")
    return str(await page.until("document.body.dataset.mdColorScheme"))


async def widths(page: Page, address: str, pages: list[Path], site: Path) -> dict[str, list[float]]:
    """Return for every page, on a phone, its width, and that of its text."""
    await page.call("Emulation.setDeviceMetricsOverride", width=PHONE, height=800, deviceScaleFactor=1, mobile=True)
    found = {}
    for file in pages:
        await page.open(address + str(file.relative_to(site)))
        size = "[document.documentElement.scrollWidth, document.querySelector('article, .md-content').getBoundingClientRect().width]"
        name = str(file.relative_to(site))
        found[name] = await page.value(size)
        cell = "document.querySelector('.keys td:last-child')?.getBoundingClientRect().width ?? 0"
        if meaning := await page.value(cell):
            found[f"{name} keys"] = [0, meaning]
    return found


def test_the_navigation_and_the_footer_lead_to_pages(seen: dict[str, Any]) -> None:
    assert seen["followed"] == ["Exact order and resume", "Pairs and invariances"]


def test_the_search_finds_an_error_message(seen: dict[str, Any]) -> None:
    assert "the embeddings collapsed: effective rank" in seen["searched"]["text"]
    assert seen["searched"]["heading"] == "Troubleshooting"


def test_the_button_of_a_code_block_copies_the_code(seen: dict[str, Any]) -> None:
    copied, code = seen["copied"]
    assert copied.strip() == code.strip()
    assert copied.startswith("class AngularMargin(Objective):")


def test_no_page_scrolls_sideways_on_a_phone(seen: dict[str, Any]) -> None:
    assert len(seen["widths"]) > 30
    assert {name: width for name, (width, _) in seen["widths"].items() if width > PHONE} == {}
    assert all(text > PHONE * 0.8 for _, text in seen["widths"].values())  # a text is there to be read


def test_a_phone_gives_the_meaning_of_a_key_the_whole_line(seen: dict[str, Any]) -> None:
    assert {"configuration.html keys", "parts.html keys"} <= set(seen["widths"])


def test_the_site_is_dark_where_the_system_is(seen: dict[str, Any]) -> None:
    assert seen["palettes"] == ["slate", "default"]


def test_the_browser_asks_no_other_host_and_reports_no_error(seen: dict[str, Any], address: str) -> None:
    asked = [one for one in seen["addresses"] if not one.startswith("data:")]
    assert len(asked) > 40
    assert [one for one in asked if not one.startswith(address)] == []
    assert seen["errors"] == []
