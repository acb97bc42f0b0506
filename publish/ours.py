"""What the commands may write, replace and remove: every change to a file goes through here. Standard library only.

1. A file is ours when it begins with our mark or stands in a folder of ours. No other one is replaced or removed; the
   one exception is the notebook of a post that its author asks to be executed in place.
2. A folder is ours when it holds our marker, of the same kind. One that is absent or empty becomes ours; the project,
   and a folder above it, never does.
3. Whatever is written or removed lies inside the folder that it was meant for, and is never a link.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARKER = ".made-by-publish"
# Kinds of folders.
BUILD, POSTS, SITE, COPY, ENVIRONMENT, GPU = "build", "posts", "site", "copy", "environment", "gpu"
TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.publish-tmp")


class NotOursError(ValueError):
    """A path that must be left alone; the message names it, says why, and what to do."""


def write(path: Path, content: bytes, folder: Path) -> None:
    """Write a file inside `folder`, whole or not at all: whoever reads `path` sees the old or the new content.

    The caller answers for what stood there. Raises NotOursError for a link, a folder, or a path outside of `folder`.
    """
    inside(path, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".publish-tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        os.replace(temporary, path)  # noqa: PTH105 - the call that the fault tests break
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def discard(path: Path, folder: Path) -> None:
    """Remove a file inside a folder of ours, where it is there."""
    inside(path, folder).unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what a killed `write` left of its temporary files."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def put(path: Path, mark: str, text: str, folder: Path) -> bool:
    """Write a derived file, `mark` and `text`; return False, and say so, where the path is somebody's own or elsewhere.

    A file that says the same already is left untouched, since Quarto's preview renders again what changed.
    """
    content = (mark + text).encode()
    if not _within(path, folder):
        print(f"{path.name} in {path.parent} would lie outside of {folder}, so it is not written")
        return False
    if not os.path.lexists(path):
        write(path, content, folder)
    elif not marked(path, mark):
        print(f"{path.name} in {path.parent} is not one that we made, so it stays as it is; remove it to have ours")
        return False
    elif path.read_bytes() != content:
        write(path, content, folder)
    return True


def remove(path: Path, mark: str, folder: Path) -> None:
    """Remove a derived file where it is there and ours."""
    if marked(path, mark) and _within(path, folder):
        discard(path, folder)


def marked(path: Path, mark: str) -> bool:
    """Tell whether there is a file, and no link, that begins with `mark`."""
    return path.is_file() and not path.is_symlink() and path.read_bytes().startswith(mark.encode())


def inside(path: Path, folder: Path) -> Path:
    """Return `path`, a place for a file inside `folder`; raise NotOursError if it is outside, a link or a folder."""
    if path.is_symlink():
        raise NotOursError(f"{path} is a link to {path.readlink()}, and nothing is written through a link")
    if path.is_dir():
        raise NotOursError(f"{path} is a folder where a file is expected: move it away")
    if not _within(path, folder):
        raise NotOursError(f"{path} lies outside of {folder}, where it was meant to be")
    return path


def _within(path: Path, folder: Path) -> bool:
    """Tell whether a path leads into a folder; a link counts where it stands, not where it leads."""
    return path.parent.resolve().is_relative_to(folder.resolve())


def claim(folder: Path, kind: str, root: Path) -> Path:
    """Return a folder of ours, which is made and marked where it is absent or empty; a link to one is followed.

    Raises NotOursError for any other, for the project `root`, and for a folder above it.
    """
    folder = check(folder, kind, root)
    if not (folder / MARKER).exists():
        mark(folder, kind)
    return folder


def mark(folder: Path, kind: str) -> None:
    """Put our marker into a folder."""
    write(folder / MARKER, _marker(kind), folder)


def check(folder: Path, kind: str, root: Path) -> Path:
    """Return the folder that a path leads to; raise NotOursError unless it is, or may become, one of ours."""
    folder, root = folder.resolve(), root.resolve()
    if root.is_relative_to(folder):
        raise NotOursError(f"{folder} holds the project itself: name another folder")
    if folder.exists() and not folder.is_dir():
        raise NotOursError(f"{folder} is a file where a folder is expected: move it away, or name another")
    if folder.exists() and any(folder.iterdir()) and not marked(folder / MARKER, _marker(kind).decode()):
        raise NotOursError(
            f"{folder} is not empty and is no {kind} folder of ours (it lacks our {MARKER}):"
            " move it away, or name another folder"
        )
    return folder


@contextmanager
def replaced(folder: Path, kind: str, root: Path) -> Iterator[Path]:
    """Give an empty folder to fill; put it in the place of `folder` when all went well, and leave that alone if not."""
    folder = check(folder, kind, root)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        new.mkdir()
        yield new
        mark(new, kind)
        check(folder, kind, root)  # it may have been filled meanwhile
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise


def clear(folder: Path, kind: str, root: Path) -> None:
    """Remove a folder of ours where it is there; say so where it is somebody's own."""
    if not folder.exists():
        return
    try:
        shutil.rmtree(check(folder, kind, root))
    except NotOursError as error:
        print(f"{error}; it stays as it is")


def _marker(kind: str) -> bytes:
    return f"A {kind} folder, made by publish: whatever is in it may be replaced or removed.\n".encode()
