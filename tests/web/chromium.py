"""A real headless Chromium, spoken to by its own protocol (CDP) over one websocket: no driver, no other library."""

import base64
import itertools
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.api.jobs import eventually

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """One tab. What the page writes to its console as an error is in `errors`, refusals of its policy too."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.errors: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Performance"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Make one call and give its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            said = json.loads(self._socket.recv(timeout=60))
            if said.get("id") == number:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result
            self._note(said)

    def _note(self, said: dict[str, Any]) -> None:
        if said["method"] == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
            self.errors.append(said["params"]["entry"]["text"])
        if said["method"] == "Runtime.exceptionThrown":
            self.errors.append(said["params"]["exceptionDetails"]["text"])

    def js(self, text: str) -> Any:
        """Evaluate an expression in the page."""
        found = self.call("Runtime.evaluate", expression=text, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, url: str) -> None:
        """Go somewhere, and wait until the page is loaded."""
        self.call("Page.navigate", url=url)
        self.loaded()

    def loaded(self) -> None:
        """Wait until a page with a content is there."""
        eventually(lambda: self._state() == "complete", "a loaded page", limit_sec=60)

    def _state(self) -> str:
        with suppress(AssertionError):  # Between two documents there is nothing to ask.
            return str(self.js("document.querySelector('main') ? document.readyState : 'none'"))
        return "none"

    def size(self, width: int, height: int, *, phone: bool = False, scale: float = 2.0) -> None:
        """Make the window so large; of a phone with so many points for one of the page."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale if phone else 1, mobile=phone,
        )  # fmt: skip

    def scheme(self, scheme: str) -> None:
        """Prefer light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def shoot(self, path: Path, *, at_most: int = 5_000) -> None:
        """Write a picture of the whole page, or of so many points from its top."""
        path.parent.mkdir(parents=True, exist_ok=True)
        content = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": content["width"], "height": min(content["height"], at_most), "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser(home: Path) -> Iterator[Page]:
    """Run a browser with a profile of its own for as long as the block runs."""
    assert BROWSER is not None
    process = subprocess.Popen(
        [
            BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-extensions", "--disable-background-networking", "--hide-scrollbars", "--remote-debugging-port=0",
            f"--user-data-dir={home}", "about:blank",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        told = home / "DevToolsActivePort"
        eventually(lambda: told.exists() and told.read_text().count("\n") >= 1, "the browser's port", limit_sec=90)
        port = told.read_text().split()[0]
        found: list[dict[str, Any]] = []

        def tabs() -> bool:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=20) as reply:
                found[:] = [tab for tab in json.loads(reply.read()) if tab["type"] == "page"]
            return bool(found)

        eventually(tabs, "a tab", limit_sec=60)
        with connect(found[0]["webSocketDebuggerUrl"], max_size=None, open_timeout=60) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)
