"""The app, started once, in a real browser."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

if not os.environ.get("CONCEPT_FORGET_BROWSER"):
    collect_ignore_glob = ["test_*.py"]  # they take minutes: CONCEPT_FORGET_BROWSER=1 asks for them

pytest.importorskip("gradio", reason="the app needs gradio")
pytest.importorskip("selenium", reason="the browser is driven with selenium")

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
PATIENCE = 240.0
"""Seconds before something is taken for broken: the machine may be busy, so this is no claim about speed."""


class Browser:
    """One browser window on the app."""

    def __init__(self, url: str, width: int = 1280, dark: bool = False) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
        # Whatever is asked of another machine fails and stands in the log.
        offline = ("--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        for flag in (*flags, *offline, f"--window-size={width},1000"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        if dark:
            feature = {"name": "prefers-color-scheme", "value": "dark"}
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        self.url = url
        self.driver.get(url)
        self.until("#cf-picture img")

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def until(self, css: str, holds: Callable[[WebElement], bool] | None = None) -> WebElement:
        """The first element that holds, waited for."""
        end, seen = time.monotonic() + PATIENCE, ""
        while time.monotonic() < end:
            for element in self.all(css):
                try:
                    seen = element.text
                    if holds is None or holds(element):
                        return element
                except WebDriverException:
                    continue
            time.sleep(0.02)
        raise AssertionError(f"{css} never came; last seen: {seen!r}; page says: {self.complaints()}")

    def step(self, name: str) -> None:
        """Open one of the six steps."""
        self.until("#cf-steps button[role=tab]", lambda tab: name in tab.text).click()

    def click(self, css: str) -> None:
        button = self.until(css, lambda element: element.is_displayed() and element.is_enabled())
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'}); arguments[0].click()", button)

    def choose(self, css: str, text: str) -> None:
        """Type in a dropdown and take what it finds."""
        box = self.until(f"{css} input")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
        box.click()
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(text)
        box.send_keys(Keys.ENTER)

    def slide(self, css: str, value: float) -> None:
        """Move a slider and let go of it."""
        slider = self.until(f"{css} input[type=range]")
        script = (
            "const s = arguments[0]; s.value = arguments[1];"
            "s.dispatchEvent(new Event('input', {bubbles: true}));"
            "s.dispatchEvent(new PointerEvent('pointerup', {bubbles: true}));"
        )
        self.driver.execute_script(script, slider, str(value))

    def upload(self, css: str, *paths: Path) -> None:
        self.until(f"{css} input[type=file], input[type=file]{css}").send_keys("\n".join(map(str, paths)))

    def panes(self) -> tuple[str, str]:
        """What is said before and after, once both are finished."""
        self.until("#cf-answers .cf-proof", lambda proof: len(proof.text) > 5)
        before, after = self.all("#cf-answers .cf-pane p")
        return before.text, after.text

    def complaints(self) -> str:
        """Messages on the page."""
        return " | ".join(toast.text for toast in self.all(".toast-body"))

    def quit(self) -> None:
        self.driver.quit()


@pytest.fixture(scope="session")
def app() -> Iterator[str]:
    """The address of the app on tiny-llava. Skips where there is no browser."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    from app.ui import desk
    from app.ui.serve import serve
    from app.workbench import Sizes

    # Enough for every path; how well a concept is removed is measured elsewhere.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(desk, "SIZES", Sizes(16, 12, 12))
        _, address, _ = serve("tiny-llava", prevent_thread_lock=True, quiet=True)
        yield address


@pytest.fixture
def browser(app: str) -> Iterator[Browser]:
    """A window of its own."""
    opened = Browser(app)
    yield opened
    opened.quit()


@pytest.fixture
def browsers(app: str) -> Iterator[Callable[..., Browser]]:
    """As many windows as wanted."""
    opened: list[Browser] = []

    def new(**options: Any) -> Browser:
        opened.append(Browser(app, **options))
        return opened[-1]

    yield new
    for one in opened:
        one.quit()
