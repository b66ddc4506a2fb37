"""Pages in a real browser: one call that opens a page and ends, or a session to click through."""

import base64
import fcntl
import json
import os
import select
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome", "chrome")
                 if (found := shutil.which(name))), None)
needs_chromium = [pytest.mark.browser, pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium found; install it: apt-get install chromium")]
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--hide-scrollbars", "--disable-background-networking", "--disable-component-update",
         "--disable-sync")
ONCE = ("--enable-logging=stderr", "--virtual-time-budget=4000")
KEYS = {"Enter": (13, "\r"), "Escape": (27, ""), "End": (35, ""), "Home": (36, ""),
        "ArrowUp": (38, ""), "ArrowDown": (40, ""), "Tab": (9, "")}


def browse(folder: Path, html: str, *flags: str) -> str:
    """Chromium's output on the page; nothing may stand on its console."""
    page = folder / "report.html"
    page.write_text(html, encoding="utf-8", errors="backslashreplace")
    own = f"--user-data-dir={folder / 'profile'}"
    command = [str(CHROMIUM), *FLAGS, *ONCE, own, *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True,
                          encoding="utf-8", errors="replace")
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert console == []
    return done.stdout


def colours(png: bytes) -> tuple[int, int, int]:
    """Width, height and the number of different bytes in the picture's data."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    data, at = b"", 8
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at:at + 8])
        data += png[at + 8:at + 8 + size] if kind == b"IDAT" else b""
        at += 12 + size
    return width, height, len(set(zlib.decompress(data)))


class Tab:
    """A tab that is clicked and typed in: Chromium's own protocol (CDP) over two pipes.

    `with Tab(tmp_path) as tab`. Messages are JSON, each ended by a zero byte.
    """

    def __init__(self, folder: Path) -> None:
        self.console: list[str] = []
        """Whatever was said on the console, thrown, or blocked."""
        self.number, self.loads, self.rest, self.session = 0, 0, b"", {}
        theirs_in, self.out = os.pipe()
        self.into, theirs_out = os.pipe()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in (theirs_in, theirs_out)]
        quiet = os.open(os.devnull, os.O_RDWR)
        self.process = os.posix_spawn(
            str(CHROMIUM), [str(CHROMIUM), *FLAGS, "--remote-debugging-pipe",
                            f"--user-data-dir={folder / 'profile'}", "about:blank"], os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, place) for fd, place in (
                (high[0], 3), (high[1], 4), (quiet, 0), (quiet, 1), (quiet, 2))])
        for fd in (theirs_in, theirs_out, *high, quiet):
            os.close(fd)
        page = next(target for target in self.ask("Target.getTargets")["targetInfos"]
                    if target["type"] == "page")
        self.session = {"sessionId": self.ask("Target.attachToTarget", flatten=True,
                                              targetId=page["targetId"])["sessionId"]}
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def __enter__(self) -> "Tab":
        return self

    def __exit__(self, *_: object) -> None:
        self.session = {}
        self.ask("Browser.close")
        os.waitpid(self.process, 0)
        os.close(self.out)
        os.close(self.into)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to one command."""
        self.number += 1
        body = {"id": self.number, "method": method, "params": params, **self.session}
        os.write(self.out, json.dumps(body).encode() + b"\0")
        while True:
            message = self._read()
            if message.get("id") == self.number:
                assert "error" not in message, (method, message)
                return message["result"]

    def follow(self, act: Callable[[], object]) -> None:
        """Does what leads to another page, and waits until that is loaded."""
        before = self.loads
        act()
        while self.loads == before:
            self._read()

    def open(self, address: str) -> None:
        """Goes to an address."""
        self.follow(lambda: self.ask("Page.navigate", url=address))

    def _read(self, seconds: float = 30) -> dict[str, Any]:
        while b"\0" not in self.rest:
            assert select.select([self.into], [], [], seconds)[0], "Chromium says nothing"
            read = os.read(self.into, 1 << 16)
            assert read, "Chromium has ended"
            self.rest += read
        line, _, self.rest = self.rest.partition(b"\0")
        message = json.loads(line)
        self.loads += message.get("method") == "Page.loadEventFired"
        if message.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown",
                                     "Log.entryAdded"):
            self.console.append(json.dumps(message["params"])[:2000])
        return message

    def back(self, steps: int = 1) -> None:
        """What the browser's own button does."""
        known = self.ask("Page.getNavigationHistory")
        entry = known["entries"][known["currentIndex"] - steps]["id"]
        self.follow(lambda: self.ask("Page.navigateToHistoryEntry", entryId=entry))

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True,
                          awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """A real click into the middle of an element."""
        x, y = self.run(f"""(() => {{ const e = document.querySelector({json.dumps(selector)});
            e.scrollIntoView({{block: "center"}}); const r = e.getBoundingClientRect();
            return [r.x + r.width / 2, r.y + r.height / 2]; }})()""")
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, *keys: str) -> None:
        """Real key presses: `Enter`, `ArrowDown`, or single characters."""
        for key in keys:
            code, text = KEYS.get(key, (0, key))
            more = {"text": text} if text else {}
            self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, **more,
                     windowsVirtualKeyCode=code)
            self.ask("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def look(self, width: int, height: int, dark: bool) -> bytes:
        """The page as a PNG."""
        self.ask("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=False)
        return base64.b64decode(self.ask("Page.captureScreenshot")["data"])
