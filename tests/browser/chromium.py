"""A real Chromium without a window, spoken to by the DevTools protocol over the websocket of aiohttp."""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
START_S = 60.0
ANSWER_S = 60.0
WIDTH, HEIGHT = 1500, 950

Result = TypeVar("Result")


class Browser:
    """One window with one page. `errors` holds what the page's console called an error, and uncaught exceptions."""

    def __init__(self, folder: Path) -> None:
        assert PROGRAM is not None
        self.errors: list[str] = []
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._session: aiohttp.ClientSession | None = None
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            [PROGRAM, "--headless=new", *sandbox, "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--hide-scrollbars", "--disable-extensions", "--disable-background-networking",
             "--remote-debugging-port=0", f"--user-data-dir={folder}", f"--window-size={WIDTH},{HEIGHT}",
             "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            self._wait(self._connect(folder / "DevToolsActivePort"))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the browser and its helpers, which are in a session of their own."""
        if self._session is not None:
            self._loop.run_until_complete(self._session.close())
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait()
        self._loop.close()

    def open(self, address: str) -> None:
        """Go to an address and forget earlier errors; returns when the document is there, not when scripts are done."""
        self.errors.clear()
        self._wait(self._call("Page.navigate", url=address))
        self.until("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        answer = self._wait(self._call("Runtime.evaluate", expression=expression, returnByValue=True))
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self) -> str:
        """Return the text that the page shows."""
        return str(self.evaluate("document.body.innerText"))

    def until(self, condition: str, seconds: float = 60) -> None:
        """Wait for a JavaScript expression to be true."""
        end = time.monotonic() + seconds
        while not self.evaluate(condition):
            assert time.monotonic() < end, f"waited in vain for {condition}; the page says: {self.text()[:2000]}"
            time.sleep(0.2)

    def until_text(self, *texts: str, seconds: float = 60) -> None:
        """Wait until the page shows all of some texts."""
        self.until(f"{json.dumps(texts)}.every(text => document.body.innerText.includes(text))", seconds)

    def click(self, selector: str) -> None:
        """Wait for an element and click on the middle of it, as a mouse does."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.until(f"{found} !== null")
        self.evaluate(f"{found}.scrollIntoView({{block: 'center'}})")
        x, y = self.evaluate(
            f"(() => {{ const r = {found}.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2] }})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._wait(self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1))

    def screenshot(self, file: Path) -> None:
        """Write a PNG of the window."""
        answer = self._wait(self._call("Page.captureScreenshot", format="png"))
        file.write_bytes(base64.b64decode(answer["data"]))

    def _wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self._loop.run_until_complete(asyncio.wait_for(work, ANSWER_S))

    async def _connect(self, port_file: Path) -> None:
        end = time.monotonic() + START_S
        while not (port_file.exists() and port_file.read_text().count("\n")):
            assert time.monotonic() < end, "chromium did not start"
            assert self._process.poll() is None, "chromium ended at once"
            await asyncio.sleep(0.1)
        port = port_file.read_text().split()[0]
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [page for page in await answer.json() if page["type"] == "page"]
        self._socket = await self._session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=1 << 28)
        for domain in ("Page", "Runtime", "Log"):
            await self._call(f"{domain}.enable")

    async def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = json.loads(await self._socket.receive_str())
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        given = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            details = given["exceptionDetails"]
            self.errors.append(str(details.get("exception", {}).get("description") or details["text"]))
        elif event.get("method") == "Runtime.consoleAPICalled" and given["type"] == "error":
            self.errors.append(" ".join(str(each.get("value", each.get("description"))) for each in given["args"]))
        elif event.get("method") == "Log.entryAdded" and given["entry"]["level"] == "error":
            self.errors.append(f"{given['entry']['text']} {given['entry'].get('url', '')}")
