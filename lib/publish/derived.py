"""Files that are derived and not committed: each begins with a mark, and no other file is ever replaced."""

from __future__ import annotations

from pathlib import Path

from lib.publish import notebook


def put(path: Path, mark: str, text: str) -> bool:
    """Write `mark` and `text` into `path`; return False, and say so, where the file is somebody's own.

    A file that says the same already is left untouched, since Quarto's preview renders again what changed.
    """
    if not _ours(path, mark):
        return False
    content = (mark + text).encode()
    if not path.exists() or path.read_bytes() != content:
        notebook.write_whole(path, content)
    return True


def remove(path: Path, mark: str) -> None:
    """Remove `path` where it is there and ours."""
    if path.exists() and path.read_bytes().startswith(mark.encode()):
        path.unlink()


def _ours(path: Path, mark: str) -> bool:
    if not path.exists() or path.read_bytes().startswith(mark.encode()):
        return True
    print(f"{path.name} in {path.parent} is not one that we made, so it stays as it is; remove it to have ours")
    return False
