"""What the site needs beyond its plugins: pages for files of the repository, and links for language models.

Pages link to files outside of docs/ as they do on GitHub: `../examples/quickstart.py`. The site has a page for each of
these files, below `repository/`, so that such links work without a network, too. A file's path relative to docs/ is
what MkDocs knows its page by; so MkDocs itself finds the target of a link, checks anchors in it, and takes
`../CHANGELOG.md` in `nav`.

The plugin `llmstxt` writes each page as Markdown, too, beside the page itself, and lists these files in llms.txt. It
gives all of their links one base URL. As the site has no address, this module makes the links relative to each file.
"""

from __future__ import annotations

import json
import posixpath
import re
from html import unescape
from pathlib import Path
from typing import Any, Dict, Iterator, List
from urllib.parse import quote, unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

#: What is shown of a directory that is linked to, and the language that each kind of file is highlighted as.
LANGUAGES = {
    ".cfg": "ini",
    ".css": "css",
    ".html": "html+django",
    ".ini": "ini",
    ".ipynb": "",
    ".js": "javascript",
    ".md": "markdown",
    ".py": "python",
    ".sh": "bash",
    ".toml": "toml",
    ".txt": "text",
    ".yml": "yaml",
}

#: Directories whose files come into being by running an example.
NOT_SHOWN = {"__pycache__", "var", "node_modules"}

#: The front door on GitHub and PyPI. Models may read it; the site's own is index.md, so search and `nav` do without it.
README = "../README.md"

#: Pages with a picture that needs the room of the table of contents.
WIDE = {"how-it-works.md"}

_FENCED = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2[`~]*$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(<?([^)\s>]+)")
_TAG = re.compile(r"<[^>]*>")
_INCLUDE = re.compile(r"--8 *< *--")


class RepositoryFile(File):
    """A file or directory outside of docs/, as a page."""

    def is_documentation_page(self) -> bool:
        return True


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Gives llms.txt the sections of `nav`."""
    sections: Dict[str, List[str]] = {}
    for group in config.nav or []:
        for title, content in group.items():
            sections.setdefault("Start" if isinstance(content, str) else title, []).extend(_pages_of(content))
    sections["Start"].insert(1, README)
    # Whoever has little room may leave out a section of this name: https://llmstxt.org
    sections["Optional"] = ["../examples/*"]
    config.plugins["llmstxt"].config.sections = sections
    return config


def _pages_of(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for each in nav.values() if isinstance(nav, dict) else nav:
            yield from _pages_of(each)


# Before the plugins, which shall know all files.
@event_priority(100)
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds a page for each file outside of docs/ that a page links to, and for those that these link to."""
    in_nav = set(_pages_of(config.nav or []))
    wanted = [README, *(uri for uri in sorted(in_nav) if uri.startswith("../"))]
    for page in files.documentation_pages():
        wanted += _outside(page.content_string, page.src_uri)
    for uri in wanted:
        path = ROOT / "docs" / uri
        # What does not exist is for MkDocs to complain about.
        if files.get_file_from_path(uri) is None and path.exists():
            content = _content(path)
            file = RepositoryFile.generated(
                config,
                uri,
                content=content,
                inclusion=InclusionLevel.INCLUDED if uri in in_nav else InclusionLevel.NOT_IN_NAV,
            )
            file.dest_uri = _destination(path)
            files.append(file)
            # The loop goes on with these.
            wanted += _outside(content, uri)
    return files


def on_page_markdown(markdown: str, page: Page, **_others: Any) -> str:
    """Keeps the code of examples out of the search, and makes room for pictures."""
    if page.file.src_uri in WIDE:
        page.meta["hide"] = ["toc"]
    if page.file.src_uri == README:
        # Its heading is that of the home page.
        page.meta["title"] = "README"
    if isinstance(page.file, RepositoryFile) and page.file.inclusion is not InclusionLevel.INCLUDED:
        page.meta["search"] = {"exclude": True}
    return markdown


def on_page_content(html: str, page: Page, **_others: Any) -> str:
    """Fails the build if a line that should include a file is on the page itself.

    Raises:
        PluginError: There is one, such as when a formatter has put blanks into it.
    """
    if _INCLUDE.search(unescape(_TAG.sub("", html))):
        raise PluginError(f'{page.file.src_uri}: a line that should include a file has no effect: --8<-- "file"')
    return html


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:
    """Leaves out the sitemap of a site without an address: its entries are absolute URLs, so it would be empty."""
    return "" if template_name == "sitemap.xml" and not config.site_url else output_content


# After the plugin that writes these files.
@event_priority(-100)
def on_post_build(config: MkDocsConfig) -> None:
    """Makes the links of all Markdown files relative, and leads them to other Markdown files where there are any."""
    site = Path(config.site_dir)
    base = config.plugins["llmstxt"].config.base_url
    link = re.compile(re.escape(base) + r"([^\s)>\"#]*)")
    for path in [*site.rglob("*.md"), site / "llms.txt", site / "llms-full.txt"]:
        directory = path.parent.relative_to(site).as_posix()

        def relative(found: re.Match[str], directory: str = directory) -> str:
            target = unquote(found.group(1))
            twin = target[:-5] + ".md" if target.endswith(".html") else target
            return quote(posixpath.relpath(twin if (site / twin).is_file() else target, directory))

        path.write_text(link.sub(relative, path.read_text(encoding="utf-8")), encoding="utf-8")


def _outside(markdown: str, uri: str) -> Iterator[str]:
    """Yields what the page at `uri` links to outside of docs/, relative to docs/."""
    for target in _LINK.findall(_FENCED.sub("", markdown)):
        path = unquote(target.partition("#")[0])
        if path and ":" not in path and not path.startswith("/"):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(uri), path))
            if path.startswith("../"):
                yield path


def _destination(path: Path) -> str:
    where = path.resolve().relative_to(ROOT).as_posix()
    if path.is_dir():
        return f"repository/{where}/index.html"
    return f"repository/{where[:-3] if path.suffix == '.md' else where}.html"


def _content(path: Path) -> str:
    """Returns a file of the repository as Markdown."""
    path = path.resolve()
    if path.is_dir():
        return _list_of(path)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        # The site's pages are found by absolute paths from wherever the file is.
        return _links_into_docs(text, path.parent)
    title = f"# {path.name}\n\nThe file `{path.relative_to(ROOT).as_posix()}` of the repository.\n\n"
    if path.suffix == ".ipynb":
        return title + "\n".join(_cells(json.loads(text)))
    return title + _fenced(text, LANGUAGES.get(path.suffix, "text"))


def _links_into_docs(text: str, directory: Path) -> str:
    def absolute(link: re.Match[str]) -> str:
        path, mark, anchor = link.group(1).partition("#")
        target = (directory / path).resolve()
        if path and ":" not in path and (ROOT / "docs") in target.parents:
            return f"](/{target.relative_to(ROOT / 'docs').as_posix()}{mark}{anchor}"
        return link.group()

    return _LINK.sub(absolute, text)


def _list_of(directory: Path) -> str:
    where = directory.relative_to(ROOT).as_posix()
    lines = [f"# {directory.name}", "", f"The directory `{where}` of the repository.", ""]
    for path in sorted(directory.rglob("*")):
        inside = path.relative_to(directory)
        if path.suffix in LANGUAGES and path.is_file() and not NOT_SHOWN & set(inside.parts):
            lines.append(f"- [`{inside.as_posix()}`]({directory.name}/{inside.as_posix()})")
    return "\n".join(lines) + "\n"


def _cells(notebook: Dict[str, Any]) -> Iterator[str]:
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        yield source + "\n" if cell["cell_type"] == "markdown" else _fenced(source, "python")


def _fenced(text: str, language: str) -> str:
    longest = max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"
