"""What a post's hidden cell calls on Colab, once the repository is there."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

NOT_FOR_READING = ("jupyter", "papermill")


def install(root: Path | None = None) -> list[str]:
    """Install `lib`, and those pinned packages that are missing, which are returned; what Colab brings stays."""
    root = root or Path(__file__).resolve().parents[1]
    missing = []
    for line in (root / "requirements.txt").read_text().splitlines():
        pin = line.partition("#")[0].partition(";")[0].strip()
        name = re.match(r"[\w.-]*", pin)[0]
        if name and name not in NOT_FOR_READING and not _is_installed(name):
            missing.append(pin)
    pip = [sys.executable, "-m", "pip", "install", "-q"]
    subprocess.run([*pip, "--no-deps", "-e", str(root)], check=True)
    if missing:
        subprocess.run([*pip, *missing], check=True)
    return missing


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
