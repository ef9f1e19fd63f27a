"""The app, started once as people start it, in a real browser."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.parse import urlparse
from urllib.request import urlopen

import pytest

PATIENCE = 120.0
"""Seconds before something is taken for broken: the machine may be busy, so this is no claim about speed."""
HERE = Path(__file__).parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Whatever is asked of another machine fails and stands in the log.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class App(NamedTuple):
    """The running app."""

    url: str
    process: subprocess.Popen[bytes]
    seconds: float
    """From the command to the first page."""
    elsewhere: Path
    """What it tried to reach on other machines."""

    def memory(self) -> float:
        """Resident megabytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


class Browser:
    """A browser window. `open` begins a new session of the app in it."""

    def __init__(self) -> None:
        from selenium import webdriver
        from selenium.common.exceptions import WebDriverException
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys

        self.by, self.keys, self.gone = By, Keys, WebDriverException
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for flag in FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        self.asked: list[str] = []
        """Addresses of everything it loaded."""

    def open(self, url: str, width: int = 1280, dark: bool = False, height: int = 1000) -> Browser:
        """A new session."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(url)
        self.until("#cf-picture .cf-stage:not(.cf-empty)")
        return self

    def all(self, css: str) -> list[Any]:
        return self.driver.find_elements(self.by.CSS_SELECTOR, css)

    def until(self, css: str, holds: Callable[[Any], bool] | None = None, patience: float = PATIENCE) -> Any:
        """The first element that holds, waited for."""
        end, seen = time.monotonic() + patience, ""
        while time.monotonic() < end:
            for element in self.all(css):
                try:
                    if holds is None or holds(element):
                        return element
                    seen = element.text
                except self.gone:
                    continue
            time.sleep(0.02)
        raise AssertionError(f"{css} never came; last seen: {seen!r}; page says: {self.complaints()}")

    def step(self, name: str) -> None:
        """Open one of the six steps."""
        tab = self.until("#cf-steps button[role=tab]", lambda tab: name in tab.text)
        self.driver.execute_script("arguments[0].click()", tab)
        self.until("#cf-steps button[role=tab][aria-selected=true]", lambda tab: name in tab.text)

    def click(self, css: str) -> None:
        button = self.until(css, lambda element: element.is_displayed() and element.is_enabled())
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'}); arguments[0].click()", button)

    def choose(self, css: str, text: str) -> None:
        """Type in a dropdown and take what it finds."""
        box = self.until(f"{css} input", lambda box: box.is_displayed())
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
        box.click()
        box.send_keys(self.keys.CONTROL, "a")
        box.send_keys(text)
        box.send_keys(self.keys.ENTER)

    def slide(self, css: str, value: float) -> None:
        """Move a slider and let go of it."""
        slider = self.until(f"{css} input[type=range]", lambda slider: slider.is_displayed() and slider.is_enabled())
        script = (
            "const s = arguments[0]; s.value = arguments[1];"
            "s.dispatchEvent(new Event('input', {bubbles: true}));"
            "s.dispatchEvent(new PointerEvent('pointerup', {bubbles: true}));"
        )
        self.driver.execute_script(script, slider, str(value))

    def upload(self, css: str, *paths: Path) -> None:
        """Give files to the upload button with this id; its input stands before it."""
        field = f"//*[@id='{css[1:]}']/preceding-sibling::input[@type='file']"
        self.until(css)
        self.driver.find_element(self.by.XPATH, field).send_keys("\n".join(map(str, paths)))

    def taking(self, concept: str, model: str = "") -> None:
        """Wait until the recipe is about this concept."""
        self.until("#cf-recipe", lambda recipe: f"Taking {concept} out of {model}" in recipe.text)

    def panes(self) -> tuple[str, str]:
        """What is said before and after, once both are finished."""
        self.until("#cf-answers .cf-proof", lambda proof: len(proof.text) > 5)
        before, after = self.all("#cf-answers .cf-pane p")
        # Words taken out stand in the second pane too, struck through.
        read = "const p = arguments[0].cloneNode(true); p.querySelectorAll('del').forEach(d => d.remove()); return p"
        clean = self.driver.execute_script(f"{read}.innerText.replace(/\\s+/g, ' ').trim()", after)
        return before.text, clean

    def ready(self) -> None:
        """Wait until what is got ready ahead is there, so that what is measured next is not the waiting for it."""
        self.until("#cf-picture")
        time.sleep(0.3)
        end = time.monotonic() + PATIENCE
        while self.all("#cf-ready .cf-progress") and time.monotonic() < end:
            time.sleep(0.05)

    def begin(self, script: str = "") -> None:
        """Start the clock of `when`, and watch for a new answer: its panes are emptied first."""
        self.driver.execute_script(
            "const panes = document.querySelector('#cf-answers'); window.fresh = false; window.watch?.disconnect();"
            "window.watch = new MutationObserver(() => {"
            "  if (!panes.querySelector('.cf-proof').textContent.trim()) window.fresh = true; });"
            "window.watch.observe(panes, {childList: true, subtree: true, characterData: true});"
            f"window.began = performance.now(); {script}"
        )

    def when(self, script: str, patience: float = 30.0) -> float:
        """Milliseconds from `window.began` until a condition in JavaScript held, looked at in every frame."""
        self.driver.set_script_timeout(patience)
        return self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            f"const look = () => ({script}) ? done(performance.now() - window.began) : requestAnimationFrame(look);"
            "look();"
        )

    def finished(self) -> float:
        """Milliseconds from `begin` until the new answer was there with its proof."""
        return self.when("window.fresh && document.querySelector('#cf-answers .cf-proof').textContent.length > 5")

    def ask(self) -> tuple[str, str]:
        """Ask, and what is said before and after: of this question, not what stood there still."""
        self.begin("document.querySelector('#cf-ask').click()")
        self.finished()
        return self.panes()

    def complaints(self) -> str:
        """Messages on the page."""
        return " | ".join(toast.text for toast in self.all(".toast-body"))

    def requests(self) -> list[str]:
        """Addresses of everything that was loaded so far, from http and elsewhere."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.asked.append(message["params"]["request"]["url"])
        return self.asked

    def quit(self) -> None:
        self.driver.quit()


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """`concept-forget app` on tiny-llava, in a process of its own that can reach nobody."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("app")
    command = [sys.executable, str(HERE / "offline.py"), str(folder / "elsewhere"), "app", "--port", str(port)]
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(folder / "uploads"), "OMP_NUM_THREADS": "1"}
    started, url = time.perf_counter(), f"http://127.0.0.1:{port}/"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        while True:
            try:
                urlopen(url, timeout=5).read()
                break
            except (URLError, ConnectionError, TimeoutError):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.perf_counter() - started < PATIENCE, (folder / "log").read_text()
                time.sleep(0.05)
        yield App(url, process, time.perf_counter() - started, folder / "elsewhere")
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def windows() -> Iterator[list[Browser]]:
    """Browser windows that are open already."""
    opened: list[Browser] = []
    yield opened
    for one in opened:
        one.quit()


@pytest.fixture
def browsers(app: App, windows: list[Browser]) -> Iterator[Callable[..., Browser]]:
    """As many windows as wanted, each with a session of its own. Skips where there is no browser."""
    pytest.importorskip("selenium", reason="the browser is driven with selenium")
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    used = 0

    def new(query: str = "", **options: Any) -> Browser:
        nonlocal used
        if used == len(windows):
            windows.append(Browser())
        used += 1
        return windows[used - 1].open(app.url + query, **options)

    yield new
    for window in windows[:used]:
        others = {url for url in window.requests() if url.startswith(("http", "ws")) and not url.startswith(app.url)}
        assert {url for url in others if urlparse(url).netloc != urlparse(app.url).netloc} == set()


@pytest.fixture
def browser(browsers: Callable[..., Browser]) -> Browser:
    """A window with a session of its own."""
    return browsers()
