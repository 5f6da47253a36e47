"""The built site as a browser finds it: its pages, and what they link to and load. `tox -e docs` builds it."""

from __future__ import annotations

import functools
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Set, Tuple
from urllib.parse import unquote, urlsplit

import pytest

SITE = Path(os.environ.get("BUILT_SITE", ""))

needs_the_site = pytest.mark.skipif(
    "BUILT_SITE" not in os.environ, reason="needs the built site: tox -e docs, or the path in BUILT_SITE"
)

#: Which attribute of an element has the browser load something at once. (A link does so by some relations only.)
LOADS = dict.fromkeys(("script", "img", "iframe", "source", "video", "audio", "embed"), "src")


#: What is no link in Markdown, whatever it looks like.
_CODE = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2[`~]*$|(?<!`)(`+)(?!`).+?(?<!`)\3(?!`)", re.DOTALL | re.MULTILINE)


class Link(NamedTuple):
    """Where a page leads to, or what it loads: the URL as it stands there."""

    page: Path
    url: str

    def target(self) -> Optional[Tuple[Path, str]]:
        """Returns the file of the site and the anchor in it; None if it is elsewhere."""
        parts = urlsplit(self.url)
        if parts.scheme or parts.netloc:
            return None
        path = (self.page.parent / unquote(parts.path)).resolve() if parts.path else self.page
        return path, unquote(parts.fragment)

    def __str__(self) -> str:
        return f"{self.page.relative_to(SITE)}: {self.url}"


class _Reader(HTMLParser):
    #: Whose text is no prose.
    CODE = frozenset({"code", "pre", "script", "style"})

    def __init__(self) -> None:
        super().__init__()
        self.anchors: List[str] = []
        self.links: List[str] = []
        self.loaded: List[str] = []
        self.prose: List[str] = []
        self._within: List[str] = []

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        attributes: Dict[str, str] = {name: value or "" for name, value in attrs}
        if "id" in attributes:
            self.anchors.append(attributes["id"])
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        elif tag == "link" and "href" in attributes:
            self.loaded.append(attributes["href"])
        elif tag in LOADS and LOADS[tag] in attributes:
            self.loaded.append(attributes[LOADS[tag]])
        if tag in self.CODE:
            self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._within and self._within[-1] == tag:
            self._within.pop()

    def handle_data(self, data: str) -> None:
        if not self._within:
            self.prose.append(data)


class Page(NamedTuple):
    """What a page has."""

    path: Path
    anchors: Set[str]
    repeated_anchors: Set[str]
    links: List[Link]
    loaded: List[Link]
    prose: str

    @property
    def name(self) -> str:
        return self.path.relative_to(SITE).as_posix()


@functools.lru_cache(maxsize=None)
def page(path: Path) -> Page:
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    return Page(
        path,
        set(reader.anchors),
        {anchor for anchor in reader.anchors if reader.anchors.count(anchor) > 1},
        [Link(path, url) for url in reader.links],
        [Link(path, url) for url in reader.loaded],
        "".join(reader.prose),
    )


def pages() -> List[Page]:
    # The page that a server would send in place of one that is missing links by absolute paths.
    return [page(path) for path in sorted(SITE.rglob("*.html")) if path.name != "404.html"]


def markdown_links(path: Path) -> List[Link]:
    """Returns the links of a Markdown file that was written for language models."""
    text = _CODE.sub("code", path.read_text(encoding="utf-8"))
    return [Link(path, url) for url in re.findall(r"\]\(<?([^)>\s]+)", text)]
