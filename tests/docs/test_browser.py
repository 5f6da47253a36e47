"""The built site in a real browser, from the file system: no page complains, none is too wide for a phone.

With SCREENSHOTS=directory each page is shown there, light and dark, wide and narrow.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from ..support.browser import Page, chromium, needs_chromium
from ..support.packages import needs
from .built import SITE, needs_the_site, pages

pytestmark = [
    needs_the_site,
    needs("selenium"),
    pytest.mark.skipif(sys.version_info < (3, 13), reason="the browser runs on one Python"),
    needs_chromium(),
    pytest.mark.leaks_allowed("the browser starts and ends processes of its own as it likes; they end with it"),
    pytest.mark.timeout(400),
]

#: Pages of the manual. Those of the repository's files are all made alike, so a few are enough.
EXAMPLES = ("repository/CHANGELOG", "repository/examples/sandboxes/")


def names() -> List[str]:
    every = [page.name for page in pages()]
    return [name for name in every if not name.startswith("repository/") or name.startswith(EXAMPLES)]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def tab(driver: Any) -> Iterator[Page]:
    tab = Page(driver, SITE.as_uri() + "/")
    tab.complaints()
    yield tab
    assert tab.complaints() == []


def test_no_page_complains_or_is_too_wide(tab: Page) -> None:
    tab.look(width=390, height=844)
    for name in names():
        tab.open(name)
        assert tab.complaints() == [], name
        assert not tab.is_too_wide(), name
        assert tab.script("return document.querySelector('h1').textContent.length > 1"), name
        from_elsewhere = (
            "return performance.getEntriesByType('resource').filter(each => !/^(file|data):/.test(each.name))"
        )
        assert tab.script(from_elsewhere) == [], name


def test_the_search_finds_what_is_on_a_page(tab: Page) -> None:
    tab.look(width=1280)
    tab.open("index.html")
    tab.find("[data-md-component=search-query]").send_keys("reconnect")
    found = wait_for(tab, "return [...document.querySelectorAll('.md-search-result__link')].map(each => each.href)")
    assert any("sessions.html" in url for url in found)


def test_colours_follow_the_system_and_can_be_chosen(tab: Page) -> None:
    tab.look(width=1280, dark=True)
    tab.open("index.html")
    wait_for_scheme(tab, "slate")
    tab.look(width=1280)
    wait_for_scheme(tab, "default")
    # From the system's colours to the light, and on to the dark.
    for expected in ("default", "slate", "default"):
        tab.script("document.querySelector('[data-md-component=palette] label:not([hidden])').click()")
        wait_for_scheme(tab, expected)


def wait_for_scheme(tab: Page, expected: str) -> None:
    wait_for(tab, f"return document.body.getAttribute('data-md-color-scheme') === '{expected}'")


def test_each_tab_of_the_quick_start_shows_its_program(tab: Page) -> None:
    tab.look(width=1280)
    tab.open("index.html")
    labels = tab.driver.find_elements("css selector", ".tabbed-labels label")
    assert [label.text for label in labels] == ["Local", "E2B", "Daytona", "Modal", "Vercel"]
    blocks = tab.driver.find_elements("css selector", ".tabbed-block")
    for label in labels:
        label.click()
        (block,) = [block for block in blocks if block.is_displayed()]
        assert f"on_{label.text.lower()}.py" in block.text
        assert "def work(sandbox: Sandbox)" in block.text


def test_code_can_be_copied(tab: Page) -> None:
    tab.look(width=1280)
    tab.open("sessions.html")
    assert wait_for(tab, "return document.querySelectorAll('.md-clipboard, .md-code__button').length") > 3


def wait_for(tab: Page, script: str) -> Any:
    """Returns what the script returns as soon as that is something."""
    return tab.wait(lambda: tab.script(script), script)


@pytest.mark.skipif("SCREENSHOTS" not in os.environ, reason="only to look at the site: SCREENSHOTS=directory")
def test_screenshots(tab: Page) -> None:
    directory = Path(os.environ["SCREENSHOTS"])
    for name in names():
        for width, dark in ((1280, False), (1280, True), (390, False), (390, True)):
            tab.look(width=width, height=900, dark=dark)
            tab.open(name)
            shown = f"{name[:-5].replace('/', '-')}-{width}-{'dark' if dark else 'light'}.png"
            tab.driver.save_screenshot(str(directory / shown))
