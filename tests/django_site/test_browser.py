"""The example site in a real browser: every button and link is pressed, and nothing that a run says is run.

With SCREENSHOTS=docs/images the screenshots of the docs are made anew.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from ..support.browser import chromium, needs_chromium
from ..support.packages import needs
from .browser import SitePage
from .running import ROOT, Server, Site, wait_until_ended

pytestmark = [
    needs("django", "gunicorn", "selenium", "axe_core_python"),
    pytest.mark.skipif(sys.version_info < (3, 13), reason="the browser runs on one Python"),
    needs_chromium(),
    pytest.mark.leaks_allowed("the browser starts and ends processes of its own as it likes; they end with it"),
    pytest.mark.timeout(400),
]

ABANDON_AFTER = 10

#: One for each test: who logs out ends all that the session was good for.
USERS = [f"user{number}" for number in range(20)]


@pytest.fixture(scope="module")
def server(runtime: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    site = Site(tmp_path_factory.mktemp("site"), runtime, ["browser", *USERS], abandon_after=ABANDON_AFTER)
    with site.serve("gunicorn-gthread", "--workers", "1", "--threads", "16") as server:
        yield server


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chromium")


@pytest.fixture(scope="module")
def driver(directory: Path, server: Server) -> Iterator[Any]:
    with chromium(directory) as driver:
        yield driver


@pytest.fixture
def page(driver: Any, server: Server) -> Iterator[SitePage]:
    """A tab, logged in by somebody who has not been here yet."""
    page = SitePage(driver, server.url, next(name for name in USERS if name in server.site.sessions))
    page.look()
    driver.delete_all_cookies()
    page.log_in(server.site.sessions.pop(page.user))
    page.complaints()
    yield page
    # Not even a policy that was violated, or an icon that is missing.
    assert page.complaints() == []


def test_logging_in_and_out(page: SitePage) -> None:
    page.driver.delete_all_cookies()
    page.open("/new/")
    assert page.path == "/login/?next=/new/"
    page.find("#id_username").send_keys("browser")
    page.find("#id_password").send_keys("wrong")
    page.press("Log in")
    page.wait_for("[role=alert]", "Please enter a correct username and password.")
    page.find("#id_password").send_keys("browser secret")
    page.press("Log in")
    page.find("#id_prompt")
    assert page.path == "/new/"
    page.press("Log out")
    page.find("#id_password")
    page.open("/")
    assert page.path == "/login/?next=/"


def test_a_run_from_start_to_download(page: SitePage, directory: Path, tmp_path: Path) -> None:
    words = directory / "words.txt"
    words.write_text("pear\napple\n")
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    page.open("/")
    page.press("New run")
    run = page.start(
        f"echo sorting; read line < {gate}; "
        "sort $INPUT_DIR/words.txt > $OUTPUT_DIR/sorted.txt; echo sorted; cat $OUTPUT_DIR/*",
        files=str(words),
    )
    page.wait_for("#log", "sorting")
    assert page.text("#status") == "Running"
    page.wait_for("#heard", "just now")
    # It says how long it has been, by the second.
    page.wait(lambda: re.fullmatch(r"[1-9]\d* s|\d+ min \d\d s", page.text("#elapsed")), "the seconds to go by")
    gate.write_text("\n")
    page.wait_for("#status", "Done")
    assert page.text("#result-text").strip() == "sorting\nsorted\napple\npear"
    assert not page.is_shown("#cancel")
    assert not page.is_shown("#reason")
    for link in ("#artifacts a", "#artifacts a"):
        page.find(link).click()
        page.wait((directory / "downloads" / "sorted.txt").exists, "the download")
        assert (directory / "downloads" / "sorted.txt").read_text() == "apple\npear\n"
        (directory / "downloads" / "sorted.txt").unlink()
        page.open(run)  # The same from what is recorded.
        assert page.text("#result-text").strip() == "sorting\nsorted\napple\npear"
    page.find("summary").click()
    assert "words.txt" in page.text("details")
    page.press("Start one like it")
    page.wait(lambda: "sort $INPUT_DIR" in page.find("#id_prompt").get_attribute("value"), "the prompt")
    page.press("Runs")
    page.wait_for("tbody tr", "echo sorting")
    page.wait_for("tbody tr", "Done")
    page.find("tbody a").click()
    page.find("#run")
    assert page.path == run
    page.press("Agent desk")
    page.find("table")


def test_cancel(page: SitePage) -> None:
    page.start("echo waiting; sleep 3600")
    page.wait_for("#log", "waiting")
    page.press("Cancel")
    page.wait_for("#status", "Cancelled")
    page.wait_for("#reason", f"Cancelled by {page.user}.")
    assert not page.is_shown("#cancel")
    page.open("/")
    page.wait_for("tbody tr .status", "Cancelled")


def test_reload_and_two_tabs(page: SitePage, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    run = page.start(f"echo before; read line < {gate}; echo $line; echo after", alone=True)
    page.wait_for("#log", "before")
    page.driver.refresh()
    page.wait_for("#log", "before")
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    page.open(run)
    page.wait_for("#log", "before")
    gate.write_text("meanwhile\n")
    texts = []
    for _ in range(2):
        page.wait_for("#status", "Done")
        texts.append(page.text("#log").split())
        if page.driver.current_window_handle != first:
            page.driver.close()
            page.driver.switch_to.window(first)
    assert texts == [["before", "meanwhile", "after"]] * 2


def test_what_went_wrong_is_said_in_words(page: SitePage) -> None:
    page.start("echo one; echo two >&2; exit 3", commands=True)
    page.wait_for("#status", "Failed")
    page.wait_for("#reason", "The command “echo one; echo two >&2; exit 3” failed with exit code 3.")
    page.wait_for("#log .stderr", "two")
    page.open("/new/")
    page.find("#id_prompt").send_keys("  ")
    page.press("Start")
    page.wait_for("[role=alert]", "Prompt or commands: This field is required.")
    page.complaints()  # that the answer was 400


def test_closing_the_page_ends_the_run(page: SitePage) -> None:
    run = page.start("echo pid $$; exec sleep 3600")
    page.wait_for("#log", "pid")
    process = int(page.text("#log").split()[-1])
    page.driver.get("about:blank")
    wait_until_ended(process)
    page.open(run)
    page.wait_for("#status", "Cancelled")
    page.wait_for("#reason", f"Nobody was watching any more for {ABANDON_AFTER} seconds.")


def test_a_connection_that_is_lost_comes_back(page: SitePage, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    page.start(f"echo before; read line < {gate}; echo after", alone=True)
    page.wait_for("#log", "before")
    network = {"latency": 0, "throughput": -1}
    page.driver.set_network_conditions(offline=True, **network)
    page.wait_for("#connection", "trying again")
    gate.write_text("\n")
    page.driver.set_network_conditions(offline=False, **network)
    page.wait_for("#status", "Done")
    assert page.text("#log").split() == ["before", "after"]
    assert not page.is_shown("#connection")
    page.complaints()  # that it was offline


def test_nothing_that_a_run_says_is_run(page: SitePage) -> None:
    evil = "<script>window.pwned = 1</script><img src=x onerror=window.pwned=2><a href=javascript:pwned=3>x</a>"
    run = page.start(f"echo '{evil}' | tee $OUTPUT_DIR/'<img src=x onerror=pwned=4>.html'")
    for live in (True, False):
        page.wait_for("#status", "Done")
        page.wait_for("#log", evil)
        page.wait_for("#result-text", evil)
        page.wait_for("#artifacts", "<img src=x onerror=pwned=4>.html")
        for inside in ("script", "img", "a[href^=javascript]"):
            assert page.script("return document.querySelectorAll('#run ' + arguments[0]).length", inside) == 0
        assert page.script("return window.pwned") is None
        if live:
            page.open(run)
    page.start(f"echo '{evil}'; echo '{evil}' >&2; exit 1", commands=True)
    page.wait_for("#status", "Failed")
    page.wait_for("#log", evil)
    page.wait_for("#reason", "window.pwned = 1")
    page.open("/")
    page.wait_for("table", "window.pwned = 1")
    assert page.script("return window.pwned") is None
    # And if a page had a hole: its policy stops what comes in there.
    page.script("document.body.insertAdjacentHTML('beforeend', arguments[0])", evil)
    complaints: List[str] = []

    def has_complained_of_both() -> bool:
        complaints.extend(page.complaints())
        return all(any(part in each for each in complaints) for part in ("Content Security Policy", "404"))

    # The image is looked for meanwhile, and what its failure would run is stopped only then.
    page.wait(has_complained_of_both, "the policy to stop it")
    assert page.script("return window.pwned") is None


def test_by_keyboard_alone(page: SitePage) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    def type_in(*keys: str) -> None:
        ActionChains(page.driver).send_keys(*keys).perform()

    def focused() -> Any:
        return page.driver.switch_to.active_element

    def tab_to(words: str) -> None:
        """Goes on with the Tab key until something with these words, or this name, has the focus, and shows it."""
        for _ in range(30):
            type_in(Keys.TAB)
            element = focused()
            if words in (element.text.strip(), element.get_attribute("name"), element.get_attribute("id")):
                outline = page.script("return getComputedStyle(arguments[0]).outlineStyle", element)
                assert outline != "none", f"the focus on {words!r} cannot be seen"
                return
        raise AssertionError(f"{words!r} cannot be reached")

    page.open("/")
    tab_to("Skip to the content")
    tab_to("New run")
    type_in(Keys.ENTER)
    page.find("#id_prompt")
    tab_to("kind")
    type_in(Keys.ARROW_DOWN, Keys.ARROW_UP)
    tab_to("prompt")
    type_in("echo by keyboard; sleep 3600")
    tab_to("files")
    tab_to("goes_on_alone")
    type_in(Keys.SPACE)
    tab_to("Start")
    type_in(Keys.ENTER)
    page.wait_for("#log", "by keyboard")
    assert "goes on alone" in page.text(".facts")
    tab_to("Cancel")
    type_in(Keys.ENTER)
    page.wait_for("#status", "Cancelled")
    page.wait(
        lambda: focused().get_attribute("id") == "main" or focused().tag_name == "body", "the focus to be somewhere"
    )
    tab_to("Start one like it")
    tab_to("log")
    page.open("/")
    tab_to("Log out")
    type_in(Keys.ENTER)
    page.find("#id_password")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_page_has_barriers(page: SitePage, dark: bool) -> None:
    """Nor does one have to scroll sideways on a phone."""
    page.look(width=390, height=844, dark=dark)
    found = {}

    def check(name: str) -> None:
        found[name] = page.barriers()
        assert not page.is_too_wide(), name

    page.open("/new/")
    check("the form")
    page.find("#id_prompt").send_keys(" ")
    page.press("Start")
    page.find("[role=alert]")
    page.complaints()
    check("the form with an error")
    page.start("cat in/words.txt; echo " + "long " * 40 + "; echo wrong >&2; exit 3", commands=True, files=__file__)
    page.wait_for("#status", "Failed")
    check("a failed run")
    page.start("echo " + "x" * 200 + "; echo made > $OUTPUT_DIR/made.txt")
    page.wait_for("#status", "Done")
    page.find("#artifacts a")
    check("a run that is done")
    page.start("echo waiting; sleep 3600")
    page.wait_for("#log", "waiting")
    check("a run in progress")
    page.press("Cancel")
    page.wait_for("#status", "Cancelled")
    check("a cancelled run")
    page.open("/")
    check("the list")
    page.open("/runs/00000000-0000-0000-0000-000000000000/")
    page.complaints()
    check("a page that is not there")
    page.press("Log out")
    page.find("#id_password")
    check("logging in")
    assert {name: barriers for name, barriers in found.items() if barriers} == {}


@pytest.mark.skipif(not os.environ.get("SCREENSHOTS"), reason="screenshots are made when they are asked for")
def test_screenshots(page: SitePage, tmp_path: Path) -> None:
    target = ROOT / os.environ["SCREENSHOTS"]
    target.mkdir(parents=True, exist_ok=True)

    def shoot(name: str) -> None:
        page.driver.save_screenshot(str(target / f"django-site-{name}.png"))

    readings = tmp_path / "readings.csv"
    readings.write_text("city,celsius\nBergen,8\nOslo,11\nSeville,24\nQuito,15\n")
    page.start("python3 -m unittest discover -s in\npython3 -m compileall --nothing", commands=True)
    page.wait_for("#status", "Failed")
    page.start("echo Looking for duplicates in the archive; sleep 3600")
    page.wait_for("#log", "Looking")
    page.press("Cancel")
    page.wait_for("#status", "Cancelled")
    report = (
        "echo I sort the cities, the warmest first.\n"
        "tail -n +2 $INPUT_DIR/readings.csv | sort -t, -k2 -nr > $OUTPUT_DIR/sorted.csv\n"
        "echo The warmest is $(head -n 1 $OUTPUT_DIR/sorted.csv | cut -d, -f1).\n"
    )
    page.start("# Sort the readings and write a report\n" + report, files=str(readings))
    page.wait_for("#status", "Done")
    page.look(dark=True)
    shoot("done-dark")
    page.look()
    page.start(
        "# Compare the readings with those of last year\necho I read the readings of both years.; "
        "echo There are $(tail -n +2 $INPUT_DIR/readings.csv | wc -l) cities in this one.; "
        "echo Two of them are warmer than last year. I look into these.; sleep 3600",
        files=str(readings),
    )
    page.wait_for("#log", "look into these")
    page.wait_for("#elapsed", "3 s")
    page.look(height=600)
    shoot("running")
    page.look(width=390, height=844)
    shoot("phone")
    page.look(height=520)
    page.open("/")
    shoot("list")
