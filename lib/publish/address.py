"""The site's and the repository's address, from one setting: `repository` in _quarto.yml, or GITHUB_REPOSITORY."""

from __future__ import annotations

import email.utils
import html
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from lib.publish import notebook

LOCAL = "_quarto.yml.local"
FIRST = "# Derived from the repository's name by `python -m lib.publish address`; not committed."


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
    """Write `_quarto.yml.local`, which Quarto merges by itself, and the feed; without an address, remove them."""
    name = repository(root)
    local, feed = root / LOCAL, root / "feed.xml"
    if not name:
        if local.exists() and local.read_text(encoding="utf-8").startswith(FIRST):
            local.unlink()
            feed.unlink(missing_ok=True)
        return None
    notebook.write_whole(local, _settings(name).encode())
    notebook.write_whole(feed, _feed(root, site_url(name)).encode())
    return local


def _settings(name: str) -> str:
    url = site_url(name)
    return f"""{FIRST}
repository: "{name}"
project:
  resources:
    - "/feed.xml"
website:
  site-url: "{url}"
  repo-url: "https://github.com/{name}"
  repo-actions: [source, issue]
format:
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
        '<?xml version="1.0" encoding="utf-8"?>\n<rss version="2.0"><channel>\n'
        f"<title>{html.escape(about.get('title', ''))}</title><link>{url}</link>"
        f"<description>{html.escape(about.get('description', ''))}</description>\n{items}</channel></rss>\n"
    )


def _item(link: str, meta: dict[str, str]) -> str:
    day = datetime.fromisoformat(meta["date"]).replace(tzinfo=UTC)
    return (
        f"<item><title>{html.escape(meta['title'])}</title><link>{link}</link><guid>{link}</guid>"
        f"<pubDate>{email.utils.format_datetime(day)}</pubDate>"
        f"<description>{html.escape(meta.get('description', ''))}</description></item>\n"
    )
