"""A page in a headless Chromium, driven by its debugging protocol (https://chromedevtools.github.io/devtools-protocol/)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

SECONDS = 60.0  # for any answer of the browser


class Page:
    """One tab. addresses: of everything that it has asked for; errors: what it has written to its console as an error."""

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self.socket, self.asked = socket, 0
        self.addresses: list[str] = []
        self.errors: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return what a method of the protocol answers. Raises RuntimeError when it is an error."""
        self.asked += 1
        await self.socket.write_message(json.dumps({"id": self.asked, "method": method, "params": parameters}))
        while True:
            answer = json.loads(await asyncio.wait_for(self.socket.read_message(), SECONDS) or "{}")
            if answer.get("id") == self.asked:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self.note(answer)

    def note(self, event: dict[str, Any]) -> None:
        """Keep what an event says about requests and errors."""
        parameters = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.addresses.append(parameters["request"]["url"])
        elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        elif event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"].get("exception", {}).get("description", "")))

    async def value(self, script: str) -> Any:
        """Return the value of an expression, awaited when it is a promise."""
        answer = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in answer, f"{script}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    async def until(self, script: str) -> Any:
        """Return the value of an expression once it is true. Raises TimeoutError when it stays false."""
        async with asyncio.timeout(SECONDS):
            while True:
                with suppress(RuntimeError):  # the page is being left for another
                    found = await self.value(script)
                    if found:
                        return found
                await asyncio.sleep(0.05)

    async def open(self, address: str) -> None:
        """Load a page and wait until it is whole."""
        await self.call("Page.navigate", url=address)
        await self.until(f"document.readyState == 'complete' && location.href == {json.dumps(address)}")


@asynccontextmanager
async def new_page(browser: str, profile: Path) -> AsyncIterator[Page]:
    """Start a browser with an empty profile, yield its page, and end it."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen([browser, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("DevTools listening on "))
        port = line.split(":")[2].partition("/")[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=SECONDS) as answer:
            tab = next(target for target in json.load(answer) if target["type"] == "page")
        page = Page(await websocket_connect(tab["webSocketDebuggerUrl"], max_message_size=2**26))
        for domain in ("Page", "Network", "Log", "Runtime"):
            await page.call(f"{domain}.enable")
        yield page
    finally:
        process.terminate()
        process.wait(SECONDS)
