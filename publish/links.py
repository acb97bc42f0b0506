"""Check a rendered site as its reader meets it: links, anchors, pictures, alt texts, weight, and who else is asked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LIMIT = 2_000_000  # bytes of a page with all that it alone loads
SHARED = "site_libs"  # where Quarto puts what all pages share; a browser fetches it once
SHARED_LIMIT = 2_000_000
REQUESTS = {
    "img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "video": "src", "embed": "src"
}  # fmt: skip
HARMLESS = {"canonical", "alternate", "next", "prev"}


@dataclass
class Html(HTMLParser):
    """What a page refers to."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    no_alt: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note ids, links, and everything that the browser fetches by itself."""
        about = {key: value or "" for key, value in attrs}
        self.ids |= {about[key] for key in ("id", "name") if about.get(key)}
        if tag == "a" and "href" in about:
            self.links.append(about["href"])
        wanted = about.get(REQUESTS.get(tag, ""), "")
        if wanted and not HARMLESS.intersection(about.get("rel", "").split()):
            self.requests.append(wanted)
        if tag == "img" and not about.get("alt", "").strip() and about.get("role") != "presentation":
            self.no_alt.append(wanted[:60])
        self.requests += re.findall(r"url\(\s*['\"]?(.*?)['\"]?\s*\)", about.get("style", ""))


def check(site: Path) -> list[str]:
    """Return what is wrong with the pages under `site`, a sentence each that names the page; empty when all is well."""
    pages = {path: _read(path) for path in sorted(site.rglob("*.html")) if SHARED not in path.parts}
    if not pages:
        return [f"no page in {site}"]
    problems = []
    shared: set[Path] = set()
    for path, page in pages.items():
        name = path.relative_to(site)
        problems += [f"{name}: picture {source} has no alt text" for source in page.no_alt]
        for target in sorted(set(page.requests)):
            if re.match(r"([a-z]+:)?//", target):
                problems.append(f"{name}: asks another host for {target}")
            elif not target.startswith("data:") and not _resolve(site, path, target).exists():
                problems.append(f"{name}: {target} is missing")
        for target in sorted(set(page.links)):
            problems += [f"{name}: {problem}" for problem in _follow(site, path, target, pages)]
        loaded = _loaded(site, path, page)
        shared |= {file for file in loaded if SHARED in file.parts}
        problems += _heavy(name, {path.resolve(), *loaded} - shared, LIMIT)
    return problems + _heavy(SHARED, shared, SHARED_LIMIT)


def _read(path: Path) -> Html:
    page = Html()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _resolve(site: Path, path: Path, target: str) -> Path:
    asked = unquote(urlsplit(target).path)
    if asked.startswith("/"):  # below the site's root, or below the folder in which its host keeps the site
        inside = asked.lstrip("/")
        return site / inside if (site / inside).exists() else site / inside.partition("/")[2]
    return path if not asked else path.parent / asked


def _follow(site: Path, path: Path, target: str, pages: dict[Path, Html]) -> list[str]:
    parts = urlsplit(target)
    if parts.scheme or parts.netloc or target in ("", "#") or parts.fragment.startswith("category="):
        return []
    there = _resolve(site, path, target).resolve()
    there = there / "index.html" if there.is_dir() else there
    if not there.exists():
        return [f"link to {target}, which is missing"]
    known = {page.resolve(): html for page, html in pages.items()}.get(there)
    if parts.fragment and known and unquote(parts.fragment) not in known.ids:
        return [f"link to {target}, where nothing has that anchor"]
    return []


def _loaded(site: Path, path: Path, page: Html) -> set[Path]:
    """Return the files of the site that a browser fetches with the page."""
    local = {_resolve(site, path, target).resolve() for target in page.requests if not target.startswith("data:")}
    return {file for file in local if file.is_file()}


def _heavy(name: object, files: set[Path], limit: int) -> list[str]:
    weight = sum(file.stat().st_size for file in files)
    return [f"{name}: weighs {weight / 1e6:.1f} MB, over the limit of {limit / 1e6:.0f} MB"] if weight > limit else []
