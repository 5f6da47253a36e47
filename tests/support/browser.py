"""A headless Chromium, Debian's `chromium` and `chromium-driver`, driven by selenium. It reaches this machine alone."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest

from .threads import when

#: For what must come in the end: a page takes its time. Only a failure waits for it.
PATIENCE = 60.0

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


def needs_chromium() -> pytest.MarkDecorator:
    """Marks a test that is skipped without Chromium, but not in CI on Linux, where `.ci/run` sees to it."""
    in_ci = sys.platform == "linux" and bool(os.environ.get("CI"))
    missing = CHROMIUM is None or DRIVER is None
    return pytest.mark.skipif(missing and not in_ci, reason="needs chromium and chromium-driver, packages of Debian's")


@contextlib.contextmanager
def chromium(directory: Path) -> Iterator[Any]:
    """Yields a driver of a new browser, whose downloads are in `directory / "downloads"`."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    assert CHROMIUM is not None, "there is no chromium, whose tests must not be left out in CI"
    assert DRIVER is not None, "there is no chromedriver, whose tests must not be left out in CI"
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-proxy-server",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-extensions",
        "--hide-scrollbars",
        "--lang=en-GB",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={directory / 'profile'}",
    ):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(directory / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    environment = {**os.environ, "TMPDIR": str(directory), "HOME": str(directory), "TZ": "UTC"}
    driver = webdriver.Chrome(options=options, service=Service(DRIVER, env=environment))
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """What somebody sees and does in a tab of the browser."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self, path: str) -> None:
        self.driver.get(self.url + path)

    @property
    def path(self) -> str:
        url: str = self.driver.current_url
        return url[len(self.url) :]

    def find(self, selector: str) -> Any:
        """Returns an element once it is there and shown."""
        return self.wait(lambda: self._shown(selector), selector)

    def _shown(self, selector: str) -> Optional[Any]:
        from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException

        try:
            element = self.driver.find_element("css selector", selector)
            return element if element.is_displayed() else None
        except (NoSuchElementException, StaleElementReferenceException):
            return None

    def is_shown(self, selector: str) -> bool:
        return self._shown(selector) is not None

    def text(self, selector: str) -> str:
        """Returns the text of an element; empty if it is not shown."""
        return str(self.script("const e = document.querySelector(arguments[0]); return e ? e.innerText : ''", selector))

    def wait_for(self, selector: str, text: str) -> None:
        try:
            self.wait(lambda: text in self.text(selector), "")
        except AssertionError:
            raise AssertionError(f"{text!r} is not in {selector}, but {self.text(selector)!r}") from None

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Returns what the condition returns as soon as that is something; in vain, says what the page shows."""
        try:
            return when(condition, what, patience=PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{error} in {self.text('body')!r}") from None

    def script(self, source: str, *arguments: Any) -> Any:
        return self.driver.execute_script(source, *arguments)

    def press(self, words: str) -> None:
        """Presses the button or link with these words, once it is there."""
        self.wait(lambda: self._with_words(words), f"{words!r} to press").click()

    def _with_words(self, words: str) -> Optional[Any]:
        from selenium.common.exceptions import StaleElementReferenceException

        try:
            elements = self.driver.find_elements("css selector", "button, a")
            return next((element for element in elements if element.text.strip() == words), None)
        except StaleElementReferenceException:
            return None

    def look(self, *, width: int = 1000, height: int = 760, dark: bool = False) -> None:
        """Has the browser be a phone, or its user prefer the dark."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        calm = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, calm]})

    def complaints(self) -> List[str]:
        """Returns what the browser has complained about since the last time."""
        entries: List[Dict[str, Any]] = self.driver.get_log("browser")
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def barriers(self) -> List[str]:
        """Returns what axe-core finds that keeps people out."""
        if not self.script("return typeof axe === 'object'"):
            self.script(_axe())
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run().then(results => done(results.violations), error => done([{id: String(error), nodes: []}]))"
        )
        return [f"{each['id']}: {[node['html'] for node in each['nodes']]}" for each in found]

    def is_too_wide(self) -> bool:
        """Whether one would have to scroll sideways."""
        return bool(self.script("return document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def _axe() -> str:
    spec = importlib.util.find_spec("axe_core_python")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")
