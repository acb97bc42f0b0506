"""Remove what the commands of this package made: folders that hold our marker, and files that begin with our mark."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from publish import address, badge, notebook, ours, results
from publish.process import locked


def clean(root: Path) -> None:
    """Remove `_build`, `_site` and the derived files; of each only what is ours. Raises UsageError during a run."""
    with locked(root) as build:
        ours.remove(root / address.LOCAL, address.MARK, root)
        ours.remove(root / address.FEED, address.FEED_MARK, root)
        for path in notebook.find(root):
            ours.remove(path.with_name(badge.FILE), badge.MARK, root)
        for name in (results.RECORDS, results.FRONT):
            ours.remove(root / name, results.MARK, root)
        with suppress(OSError):  # not empty, or not there
            (root / results.RECORDS).parent.rmdir()
        ours.clear(root / "_site", ours.SITE, root)
        ours.clear(build, ours.BUILD, root)
