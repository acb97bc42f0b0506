"""Render the site with Pandoc, where Quarto cannot be had: the same notebooks, pages, styles and checks."""

from __future__ import annotations

import html
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

from publish import badge, cells, links, notebook, ours, results
from publish.address import FEED, LOCAL

REQUIRED = ("title", "description", "order", "image", "image-alt")
KEYS = {*REQUIRED, "date", "categories", "bibliography", "toc", "listing", "page-layout", "search"}
FRAME = ("page.css", "page.js")
DROPPED = ("*.ipynb", ".*", badge.FILE, "*.scss", "*.lua", "preview")


class RenderError(ValueError):
    """The site cannot be rendered; the message has a line for each problem, and each names its place."""

    status = 1


@dataclass
class Source:
    """A page of the site: its file, the executed copy shown in its place (or itself), its name, and what it says."""

    path: Path
    shown: Path
    name: str
    page: cells.Page
    badge: dict[str, str]

    @property
    def url(self) -> str:
        """The page's address below the site's root."""
        return f"{self.name.rsplit('.', 1)[0]}.html"

    @property
    def up(self) -> str:
        """The way from the page to the site's root."""
        return "../" * self.name.count("/")


def render(root: Path, site: Path, posts: Path | None = None) -> list[str]:
    """Render all pages into the empty folder `site`; return the pages' addresses, and print what was done without.

    Raises RenderError with every problem found.
    """
    pandoc = find_pandoc()
    results.write(root, posts)
    config = _config(root)
    sources = _sources(root, posts)
    _copy(root, site, sources)
    with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        found = list(pool.map(lambda source: _page(pandoc, root, site, source, sources, config), sources))
    problems = [problem for page in found for problem in page]
    problems += [] if problems else links.check(site)
    if problems:
        raise RenderError("\n".join(problems))
    _index(site)
    return [source.url for source in sources]


def find_pandoc() -> str:
    """Return Pandoc's path, from the `pypandoc_binary` package or the PATH; raises RenderError with the remedy."""
    try:
        import pypandoc

        return pypandoc.get_pandoc_path()
    except (ImportError, OSError):
        if found := shutil.which("pandoc"):
            return found
    raise RenderError(
        "the preview needs Pandoc, which is not installed: run make setup, or pip install pypandoc_binary"
    )


def _config(root: Path) -> dict:
    def merge(first: object, second: object) -> object:
        if isinstance(first, dict) and isinstance(second, dict):
            return first | {key: merge(first.get(key), value) for key, value in second.items()}
        return second

    config = yaml.safe_load((root / "_quarto.yml").read_text(encoding="utf-8"))
    local = root / LOCAL
    return merge(config, yaml.safe_load(local.read_text(encoding="utf-8"))) if local.exists() else config


def _base(config: dict) -> str:
    url = config["website"].get("site-url")
    return re.sub(r"^https?://[^/]+", "", url) if url else "/"


def _sources(root: Path, posts: Path | None) -> list[Source]:
    sources, problems = [], []
    for path in [*sorted(root.glob("*.qmd")), *notebook.find(root)]:
        name, shown = path.relative_to(root).as_posix(), results.pick(path, posts)
        try:
            nb = None if path.suffix == ".qmd" else notebook.read(shown)
            page = cells.from_notebook(nb) if nb else cells.from_qmd(path)
            if unknown := page.meta.keys() - KEYS:
                raise cells.PageError(f"unknown in the front matter: {', '.join(sorted(unknown))}")
            if "/" in name and (missing := set(REQUIRED) - page.meta.keys()):
                raise cells.PageError(f"the front matter lacks {', '.join(sorted(missing))}")
            sources.append(Source(path, shown, name, page, badge.of(nb) if nb else {}))
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise RenderError("\n".join(problems))
    return sources


def _copy(root: Path, site: Path, sources: list[Source]) -> None:
    """Copy assets, and each post's folder with the pictures of its outputs and the notebook that is shown."""
    shutil.copytree(root / "assets", site / "assets", ignore=shutil.ignore_patterns(*DROPPED))
    (site / "assets" / "preview").mkdir()
    for name in FRAME:
        shutil.copy(root / "assets" / "preview" / name, site / "assets" / "preview")
    if (root / FEED).exists():
        shutil.copy(root / FEED, site)
    for source in sources:
        folder = (site / source.name).parent
        if folder != site:
            shutil.copytree(source.path.parent, folder, ignore=shutil.ignore_patterns(*DROPPED))
            shutil.copy(source.shown, folder)
        for name, content in source.page.pictures.items():
            ours.write(folder / name, content, site)


def _page(pandoc: str, root: Path, site: Path, source: Source, sources: list[Source], config: dict) -> list[str]:
    """Write one page, and return its problems."""
    target = site / source.url
    meta = source.page.meta
    defaults = {
        "from": "markdown",
        "to": "html5",
        "standalone": True,
        "wrap": "none",
        "template": str(root / "assets" / "preview" / "page.html"),
        "html-math-method": {"method": "mathml"},
        "toc": meta.get("toc", True),
        "toc-depth": 3,
        "filters": [str(root / "assets" / "preview" / "filter.lua"), str(root / "assets" / "post.lua"), "citeproc"],
        "bibliography": [str((source.path.parent / name).resolve()) for name in _bibliography(root, source, config)],
        "metadata": {"title": meta["title"], "link-citations": True, "repository": config.get("repository") or ""}
        | source.badge,
        "variables": _variables(source, sources, config),
        "output-file": str(target),
    }
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "page.json"
        settings.write_text(json.dumps(defaults), encoding="utf-8")
        done = subprocess.run(
            [pandoc, "--defaults", settings],
            input=source.page.markdown,
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=target.parent,
            env=os.environ | {"PREVIEW_ROOT": str(root), "PREVIEW_SOURCE": source.name},
        )
    problems = _problems(done.stderr, source)
    if done.returncode and not problems:
        problems = [f"{source.name}: pandoc failed: {done.stderr.strip()}"]
    if not problems:
        target.write_text(_finish(target.read_text(encoding="utf-8"), source, sources), encoding="utf-8")
    return problems


def _bibliography(root: Path, source: Source, config: dict) -> list[str]:
    given = source.page.meta.get("bibliography")
    if given is None and config.get("bibliography"):
        given = os.path.relpath(root / config["bibliography"], source.path.parent)
    return [given] if isinstance(given, str) else list(given or [])


def _problems(stderr: str, source: Source) -> list[str]:
    """Turn Pandoc's warnings into sentences that name the page, and the cell where it can be found."""
    warnings = re.findall(r"^\[(?:WARNING|ERROR)\] (.*(?:\n  .*)*)", stderr, re.MULTILINE)
    named = []
    for text in (
        re.sub(r"Scripting warning at .*? column \d+: ", "", " ".join(warning.split())) for warning in warnings
    ):
        token = re.search(r"(?:@|label |citation |picture (?:index_files/figure-html/)?)([\w:./-]+\w)", text)
        named.append(f"{source.name}{_cell(source, token[1]) if token else ''}: {text}")
    return named


def _cell(source: Source, token: str) -> str:
    if source.path.suffix != ".ipynb":
        return ""
    if made := re.match(r"(cell-(\d+)|[\w-]+)-output-\d+\.\w+$", token):
        if made[2]:
            return f", cell {made[2]}"
        token = made[1]
    whole = re.compile(re.escape(token) + r"(?![\w-])")
    nb = notebook.read(source.shown)
    for number, cell in enumerate(nb["cells"], start=1):
        if whole.search(notebook.source(cell)) or whole.search(json.dumps(cell.get("outputs", []))):
            return f", cell {number}"
    return ""


def _variables(source: Source, sources: list[Source], config: dict) -> dict:
    website, meta = config["website"], source.page.meta
    url = website.get("site-url")
    up = _base(config) if source.name == "404.qmd" else source.up
    about = html.escape(meta.get("description", ""), quote=True)
    pages = _order(sources)
    variables = {
        "pagetitle": html.escape(
            meta["title"] if source.url == "index.html" else f"{meta['title']} · {website['title']}"
        ),
        "site": html.escape(website["title"]),
        "lang": config.get("lang", "en"),
        "root": up,
        "about": about,
        "navigation": "\n".join(_entry(page, source, up) for page in pages),
        "pager": _pager(source, pages, up) if source in pages else "",
        "facts": _facts(meta),
        "wide": meta.get("page-layout") == "full" or not meta.get("toc", True),
        "contents": meta.get("toc", True),
        "indexed": meta.get("search", True),
        "search": _pagefind() is not None,
        "footer": _footer(config),
    }
    if url:
        image = (Path(source.name).parent / meta["image"]).as_posix() if "image" in meta else website.get("image", "")
        variables |= {"canonical": url + source.url, "feed": f"{url}feed.xml", "social": url + image if image else ""}
    return variables


def _footer(config: dict) -> str:
    """Return the text of the site's footer; of Markdown it may hold links."""
    text = html.escape(config["website"].get("page-footer", {}).get("center", ""))
    return re.sub(r"\[([^\]]*)\]\(([^)]*)\)", r'<a href="\2">\1</a>', text)


def _order(sources: list[Source]) -> list[Source]:
    """Return the pages of the sidebar in reading order: the front page, the posts, the results."""
    by_name = {source.name: source for source in sources}
    posts = sorted((source for source in sources if "order" in source.page.meta), key=lambda s: s.page.meta["order"])
    return [page for page in (by_name.get("index.qmd"), *posts, by_name.get("results.qmd")) if page]


def _entry(page: Source, current: Source, up: str) -> str:
    here = ' aria-current="page"' if page is current else ""
    number = f'<span class="number">{page.page.meta["order"]}</span>' if "order" in page.page.meta else ""
    return f'<li><a href="{up}{page.url}"{here}>{number}<span>{_name(page)}</span></a></li>'


def _name(page: Source) -> str:
    return "All posts" if page.url == "index.html" else html.escape(page.page.meta["title"])


def _pager(source: Source, pages: list[Source], up: str) -> str:
    at = pages.index(source)
    before = f'<a rel="prev" href="{up}{pages[at - 1].url}">← {_name(pages[at - 1])}</a>' if at else ""
    after = (
        f'<a class="next" rel="next" href="{up}{pages[at + 1].url}">{_name(pages[at + 1])} →</a>'
        if at + 1 < len(pages)
        else ""
    )
    return before + after


def _facts(meta: dict) -> str:
    tags = "".join(f'<span class="quarto-category">{html.escape(tag)}</span>' for tag in meta.get("categories", []))
    date = f'<time datetime="{meta["date"]}">{meta["date"]}</time>' if "date" in meta else ""
    return f"{tags}{date}"


def _finish(text: str, source: Source, sources: list[Source]) -> str:
    """Point links at the pages that notebooks and .qmd files become, and put in the listing."""
    names = {page.name: page.url for page in sources}

    def point(found: re.Match) -> str:
        there = os.path.normpath(f"{Path(source.name).parent.as_posix()}/{found[2]}").replace(os.sep, "/")
        known = there in names and "data-noresolveinput" not in found[0]
        return f"{found[1]}{found[2].rsplit('.', 1)[0]}.html{found[3]}" if known else found[0]

    text = re.sub(r'(<a\b[^>]*?\bhref=")([^"#:]+\.(?:ipynb|qmd))((?:#[^"]*)?"[^>]*>)', point, text)
    listing = source.page.meta.get("listing")
    if listing:
        posts = [page for page in _order(sources) if "order" in page.page.meta]
        place = re.compile(rf'<div id="{re.escape(listing["id"])}"[^>]*>\s*</div>')
        text = place.sub(lambda _: _listing(posts), text, count=1)
    return text


def _listing(posts: list[Source]) -> str:
    tags = sorted({tag for post in posts for tag in post.page.meta.get("categories", [])})
    buttons = "".join(
        f'<button aria-pressed="false" data-category="{html.escape(tag)}">{html.escape(tag)}</button>' for tag in tags
    )
    return (
        f'<div class="categories" role="group" aria-label="Categories">{buttons}</div>\n'
        f'<div class="list">{"".join(map(_card, posts))}</div>'
    )


def _card(post: Source) -> str:
    meta = post.page.meta
    tags = meta.get("categories", [])
    on = f"<span>Computed on {html.escape(post.badge['computed'])}</span>" if post.badge else ""
    shown = "".join(f'<span class="listing-category">{html.escape(tag)}</span>' for tag in tags)
    folder = post.name.rsplit("/", 1)[0]
    return (
        f'<article class="quarto-grid-item card" data-categories="{html.escape(json.dumps(tags))}">'
        f'<a class="quarto-grid-link" href="{post.url}">'
        f'<img src="{folder}/{meta["image"]}" alt="{html.escape(meta["image-alt"])}" loading="lazy">'
        f'<div class="card-body"><h3 class="card-title">{html.escape(meta["title"])}</h3>'
        f'<p class="card-text">{html.escape(meta["description"])}</p>'
        f'<div class="card-foot">{shown}<span>{_minutes(post.page)} min</span>{on}</div></div></a></article>\n'
    )


def _minutes(page: cells.Page) -> int:
    """Estimate the reading time as Quarto does: prose without the first heading, 200 words a minute."""
    words = re.sub(r"^#+\s.*$", "", page.prose, count=1, flags=re.MULTILINE).split(" ")
    return math.ceil(len(words) / 200)


def _pagefind() -> list[str] | None:
    try:
        import pagefind  # noqa: F401
    except ImportError:
        return None
    return [sys.executable, "-m", "pagefind"]


def _index(site: Path) -> None:
    command = _pagefind()
    if command is None:
        print("no search on the site: pagefind is not installed (make setup, or pip install 'pagefind[bin]')")
        return
    done = subprocess.run([*command, "--site", site, "--quiet"], capture_output=True, text=True)
    if done.returncode:
        raise RenderError(f"the search index could not be made: {done.stderr.strip() or done.stdout.strip()}")
