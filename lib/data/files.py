"""Files written whole or not at all; those that ship in data/, each listed in data/manifest.json, checked and noted."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.checks import check_choice

MANIFEST = Path(__file__).resolve().parents[2] / "data" / "manifest.json"
READ: list[tuple[str, str]] = []  # name and sha256 of what this process read of data/, in order: it is only added to
OURS = {"licence": "MIT", "source": "trained here"}  # of weights that this repository makes


def replace(path: Path, raw: bytes | memoryview) -> None:
    """Put a file of these bytes in the place of `path`; if that fails, what was there stays, and nothing else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
        Path(part).chmod(0o644)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def verify(path: str | Path, sha256: str) -> Path:
    """Return `path` when the file has this sha256; else raise a ValueError that names it, both sums and the remedy."""
    path = Path(path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(f"{path}: sha256 is {found}, expected {sha256}; the file is broken or another one: replace it")
    return path


def shipped(name: str, manifest: Path = MANIFEST) -> Path:
    """Return the path of a file of data/ that data/manifest.json lists, once its sha256 is checked.

    It is noted in `READ`, out of which a post's colophon tells which of the files that ship its results depend on.
    Raises ValueError when the manifest does not list it (the nearest name is given), or when it is missing or broken.
    """
    listed = json.loads(manifest.read_text())["files"]
    check_choice(f"file of {manifest}", name, listed)
    path = manifest.parent / name
    if not path.is_file():
        raise ValueError(f"{path} is missing, though {manifest.name} lists it; git checkout -- data brings it back")
    verify(path, listed[name]["sha256"])
    if manifest == MANIFEST:
        READ.append((name, listed[name]["sha256"]))
    return path


def export(
    contents: Mapping[str, tuple[bytes, Mapping[str, Any]]], *, manifest: Path = MANIFEST, replacing: str | None = None
) -> None:
    """Write files beside the manifest, and list each with its sha256, its size and its metadata.

    `contents` holds bytes and metadata by name; what the manifest lists below the folder `replacing` is taken off it.
    Each file is replaced whole, then the manifest: a run that is killed between leaves files that are not those listed,
    and `shipped` refuses them. What was taken off the list is removed last, and nothing else of that folder is.
    """
    whole = json.loads(manifest.read_text())
    listed = {
        name: entry
        for name, entry in whole["files"].items()
        if replacing is None or not name.startswith(f"{replacing}/")
    }
    for name, (raw, metadata) in contents.items():
        replace(manifest.parent / name, raw)
        listed[name] = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw), **metadata}
    gone = whole["files"].keys() - listed.keys()
    whole["files"] = dict(sorted(listed.items()))
    replace(manifest, (json.dumps(whole, indent=2) + "\n").encode())
    for name in gone:
        (manifest.parent / name).unlink(missing_ok=True)
