"""What Quarto runs before it renders: derive addresses, badges and results, and say which posts are out of date.

Quarto reads its settings again afterwards. This runs as a plain script under whatever Python there is, with the
standard library alone, and never fails.
"""

import sys
import traceback
from pathlib import Path


def main(root: Path) -> None:
    """Take each step; one that fails says so, and the others go on."""
    for step in (_write_address, _write_badges, _write_results, _warn):
        try:
            step(root)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(
                f"pre-render: {error!r} ({Path(where.filename).name}, line {where.lineno}); going on", file=sys.stderr
            )


def _warn(root: Path) -> None:
    from publish import listing

    old = [row for row in listing.rows(root) if row["state"] != "fresh"]
    for row in old:
        why = f" because of {', '.join(row['because'])}" if row["because"] else ""
        print(f"pre-render: {row['post']} is {row['state'].replace('never run', 'not run yet')}{why}")
    if old:
        print("pre-render: python -m publish run --stale --in-place executes these")


def _write_address(root: Path) -> None:
    from publish import address

    address.write(root)


def _write_badges(root: Path) -> None:
    from publish import badge

    badge.write(root)


def _write_results(root: Path) -> None:
    from publish import results

    results.write(root)


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[1]
    # The script's own folder goes: its modules must not stand in for others of the same name.
    sys.path[0] = str(here)
    sys.dont_write_bytecode = True
    main(here)
