"""What Quarto runs before it renders: say which posts are out of date, and write the results page's table.

Runs as a plain script under whatever Python there is, with the standard library alone, and never fails.
"""

import sys
import traceback
from pathlib import Path


def main(root: Path) -> None:
    """Warn about posts whose committed outputs are out of date; then write the results. Each does its best."""
    for step in (_warn, _write_results):
        try:
            step(root)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(
                f"pre-render: {error!r} ({Path(where.filename).name}, line {where.lineno}); going on", file=sys.stderr
            )


def _warn(root: Path) -> None:
    from lib.publish import listing

    old = [row for row in listing.rows(root) if row["state"] != "fresh"]
    for row in old:
        why = f" because of {', '.join(row['because'])}" if row["because"] else ""
        print(f"pre-render: {row['post']} is {row['state'].replace('never run', 'not run yet')}{why}")
    if old:
        print("pre-render: python -m lib.publish run --stale --in-place executes these")


def _write_results(root: Path) -> None:
    from lib.publish import results

    results.write(root)


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[2]
    # The script's own folder goes: its modules must not stand in for others of the same name.
    sys.path[0] = str(here)
    sys.dont_write_bytecode = True
    main(here)
