"""The site's and the repository's address, from one setting: `repository` in _quarto.yml, or GITHUB_REPOSITORY."""

from __future__ import annotations

import email.utils
import html
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from publish import notebook, ours

LOCAL, FEED = "_quarto.yml.local", "feed.xml"
MARK = "# Derived from the repository's name by `python -m publish address`; not committed.\n"
FEED_MARK = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    "<!-- Derived from the posts by `python -m publish address`; not committed. -->\n"
)


def repository(root: Path) -> str:
    """Return "owner/name", or "" where the site has no address. Raises ValueError for anything else."""
    text = (root / "_quarto.yml").read_text(encoding="utf-8")
    found = re.search(r"^repository:[ \t]*[\"']?([^\"'#\n]*)", text, re.MULTILINE)
    name = os.environ.get("GITHUB_REPOSITORY", "").strip() or (found[1].strip() if found else "")
    if name and not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(f"repository must be like owner/name, got {name!r}")
    return name


def site_url(name: str) -> str:
    """Return where GitHub Pages serves the repository `owner/name`."""
    owner, _, project = name.partition("/")
    host = f"https://{owner.lower()}.github.io/"
    return host if project.lower() == f"{owner.lower()}.github.io" else f"{host}{project}/"


def write(root: Path) -> Path | None:
    """Write `_quarto.yml.local`, which Quarto merges by itself, and the feed; without an address, remove them.

    Files of these names that are somebody's own stay as they are.
    """
    name = repository(root)
    local, feed = root / LOCAL, root / FEED
    if not name:
        ours.remove(local, MARK, root)
        ours.remove(feed, FEED_MARK, root)
        return None
    written = ours.put(local, MARK, _settings(name, _footer(root, name)), root)
    ours.put(feed, FEED_MARK, _feed(root, site_url(name)), root)
    return local if written else None


def _footer(root: Path, name: str) -> str:
    """Return the setting that makes what the footer says of the licences a link to them."""
    config = (root / "_quarto.yml").read_text(encoding="utf-8")
    found = re.search(r"^  page-footer:\n    center: (.+)$", config, re.MULTILINE)
    link = f"https://github.com/{name}/blob/main/LICENSE"
    return f'  page-footer:\n    center: "[{found[1]}]({link})"\n' if found else ""


def _settings(name: str, footer: str) -> str:
    url = site_url(name)
    return f"""repository: "{name}"
project:
  resources:
    - "/feed.xml"
website:
  site-url: "{url}"
  repo-url: "https://github.com/{name}"
  repo-actions: [source, issue]
{footer}format:
  html:
    canonical-url: true
    include-in-header:
      - text: <link rel="alternate" type="application/rss+xml" title="Posts" href="{url}feed.xml">
"""


def _feed(root: Path, url: str) -> str:
    config = (root / "_quarto.yml").read_text(encoding="utf-8")
    about = dict(re.findall(r"^  (title|description): *[\"']?(.*?)[\"']?$", config, re.MULTILINE))
    posts = [(path.parent.name, notebook.front_matter(notebook.read(path))) for path in notebook.find(root)]
    items = "".join(_item(f"{url}posts/{name}/", meta) for name, meta in reversed(posts))
    return (
        '<rss version="2.0"><channel>\n'
        f"<title>{html.escape(about.get('title', ''))}</title><link>{url}</link>"
        f"<description>{html.escape(about.get('description', ''))}</description>\n{items}</channel></rss>\n"
    )


def _item(link: str, meta: dict[str, str]) -> str:
    day = datetime.fromisoformat(meta["date"]).replace(tzinfo=UTC) if "date" in meta else None
    dated = f"<pubDate>{email.utils.format_datetime(day)}</pubDate>" if day else ""
    return (
        f"<item><title>{html.escape(meta['title'])}</title><link>{link}</link><guid>{link}</guid>"
        f"{dated}"
        f"<description>{html.escape(meta.get('description', ''))}</description></item>\n"
    )
