"""The built site is whole, and complete without a network: each link leads somewhere, nothing comes from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import List

import pytest

from .built import SITE, Link, markdown_links, needs_the_site, page, pages

pytestmark = needs_the_site

ROOT = Path(__file__).resolve().parents[2]

#: Mark-up that somebody forgot to close, or that nothing renders.
RAW = re.compile(
    r"```|~~~|^::: |^\s*[=!?]{3} \"|--8<--|\]\(|\{:? ?\.\w+ \}|:(?:class|func|meth|mod|attr|exc):`", re.MULTILINE
)


def test_there_is_a_page_for_each_file_of_the_docs() -> None:
    expected = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert {path for path in expected if not (SITE / path).is_file()} == set()
    assert (SITE / "repository" / "CHANGELOG.html").is_file()


def test_every_link_leads_to_a_page_and_an_anchor_in_it() -> None:
    broken: List[str] = []
    followed = 0
    for each in pages():
        for link in each.links:
            target = link.target()
            if target is None:
                continue
            path, anchor = target
            followed += 1
            # Of a folder, the file system would show the list of its files.
            leads_there = path.is_file() and (not anchor or path.suffix != ".html" or anchor in page(path).anchors)
            if not leads_there:
                broken.append(str(link))
    assert broken == []
    assert followed > 1000


def test_every_link_for_language_models_leads_to_a_file_and_an_anchor_of_its_page() -> None:
    broken: List[str] = []
    followed = 0
    for path in [*sorted(SITE.rglob("*.md")), SITE / "llms.txt", SITE / "llms-full.txt"]:
        for link in markdown_links(path):
            target = link.target()
            if target is None:
                continue
            file, anchor = target
            followed += 1
            # In the file of all pages, anchors of the same page have nothing to lead to.
            rendered = file.with_suffix(".html")
            leads_there = file.is_file() and (not anchor or not rendered.is_file() or anchor in page(rendered).anchors)
            if not leads_there:
                broken.append(str(link))
    assert broken == []
    assert followed > 500
    # What the build makes links from.
    assert [path.name for path in SITE.rglob("*.md") if "site.invalid" in path.read_text(encoding="utf-8")] == []


def test_there_is_no_sitemap_as_the_site_has_no_address() -> None:
    # Its entries would be absolute URLs. With `site_url` in mkdocs.yml there is one, and this test has to check it.
    assert [path.name for path in SITE.glob("sitemap*")] == []


def test_no_page_has_an_anchor_twice() -> None:
    # Those of the theme's own parts begin with two underscores.
    assert {each.name: each.repeated_anchors for each in pages() if each.repeated_anchors} == {}


def test_links_to_other_hosts_are_encrypted_and_whole() -> None:
    others = [link for each in pages() for link in each.links if link.target() is None]
    assert [str(link) for link in others if not re.match(r"https://[\w.-]+\.[a-z]+(/|$)|mailto:", link.url)] == []


def test_pages_load_nothing_from_elsewhere() -> None:
    loaded = [link for each in pages() for link in each.loaded if not link.url.startswith("data:")]
    assert [str(link) for link in loaded if not is_file(link)] == []
    assert len(loaded) > len(pages())


def is_file(link: Link) -> bool:
    target = link.target()
    return target is not None and target[0].is_file()


def test_style_sheets_load_nothing_from_elsewhere() -> None:
    sheets = list(SITE.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        urls = re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')\s]+)", sheet.read_text(encoding="utf-8"))
        assert [url for url in urls if not url.startswith(("data:", "#"))] == [], sheet


def test_no_page_shows_mark_up() -> None:
    raw = [(each.name, found.group()) for each in pages() for found in RAW.finditer(each.prose)]
    assert raw == []


@pytest.mark.parametrize("name", ["llms.txt", "llms-full.txt"])
def test_pages_are_there_for_language_models(name: str) -> None:
    text = (SITE / name).read_text(encoding="utf-8")
    assert text.startswith("# runtimeuse_sync\n\n> ")
    titles = {each: page_title(each) for each in (ROOT / "docs").rglob("*.md")}
    if name == "llms.txt":
        links = re.findall(r"\]\(([^)]+)\)", text)
        assert [link for link in links if not (SITE / link).is_file()] == []
        assert {path.relative_to(ROOT / "docs").as_posix() for path in titles} - set(links) == set()
        assert {f"repository/{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING")} - set(links) == set()
    else:
        assert {title for title in titles.values() if f"\n# {title}\n" not in text} == set()


def page_title(source: Path) -> str:
    """Returns the title as the Markdown for language models has it."""
    built = SITE / source.relative_to(ROOT / "docs")
    found = re.search(r"^# (.+)$", built.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, source
    return found.group(1)
