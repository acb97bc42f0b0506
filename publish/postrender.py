"""What Quarto runs after it rendered: its pages for language models, without pictures and in reading order.

Runs as a plain script under whatever Python there is, with the standard library alone, and never fails.
"""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

PICTURES = re.compile(r"!\[((?:\\.|[^\]\\])*)\]\(data:[^)]*\)(?:\s*!\[(?:\\.|[^\]\\])*\]\(data:[^)]*\))*")
LINK = re.compile(r"^- \[.*\]\((.*)\)$", re.MULTILINE)


def main(site: Path, root: Path, *, whole: bool) -> None:
    """Tidy every `.llms.md` page of the site, and `llms.txt`, which lists them.

    When a `whole` site was rendered Quarto has emptied its folder before, so that it is ours from now on.
    """
    try:
        from publish import ours

        if whole and site.resolve().is_relative_to(root):
            ours.mark(site, ours.SITE)
        for page in site.rglob("*.llms.md"):
            _rewrite(page, without_pictures)
        _rewrite(site / "llms.txt", in_reading_order)
    except Exception as error:
        print(f"post-render: {error!r}; going on", file=sys.stderr)


def without_pictures(text: str) -> str:
    """Put, in the place of pictures that are inside the text, what the first of each row of them shows."""
    return PICTURES.sub(r"(Picture: \1)", text)


def in_reading_order(text: str) -> str:
    """Sort the list of pages: the front page, the posts, the rest."""
    links = sorted(LINK.finditer(text), key=lambda found: _place(found[1]))
    lines = iter([link[0] for link in links])
    return LINK.sub(lambda _: next(lines), text)


def _place(address: str) -> tuple[int, str]:
    return (1 if "posts/" in address else 0 if address.endswith("index.llms.md") else 2), address


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    if path.exists():
        before = path.read_text(encoding="utf-8")
        after = change(before)
        if after != before:
            path.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[1]
    # The script's own folder goes: its modules must not stand in for others of the same name.
    sys.path[0] = str(here)
    sys.dont_write_bytecode = True
    if output := os.environ.get("QUARTO_PROJECT_OUTPUT_DIR"):
        main(here / output, here, whole=os.environ.get("QUARTO_PROJECT_RENDER_ALL") == "1")
