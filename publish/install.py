"""Make `.venv` and install into it what is asked for, once. Runs before anything is installed."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from publish import ours

FREE_GIB = 9
QUARTO = "quarto-cli==1.10.19"
STAMP = "installed.json"
PINS = ("requirements.txt", "pyproject.toml")

NETWORK = (
    "the package index cannot be reached: check the network, or set PIP_INDEX_URL or HTTPS_PROXY,"
    " and run the same command again"
)
DISK = f"the disk is full: free {FREE_GIB} GiB (the GPU build of torch is large) and run the same command again"
FOLDER = "this folder cannot be written: clone into one that can, and run the command there"
NOT_OFFERED = (
    "a pinned package is not offered for this machine: the posts need a 64-bit Python 3.11 or 3.12"
    " (PYTHON=/path/to/python3.12 picks another)"
)
REMEDIES = {
    "NewConnectionError": NETWORK,
    "NameResolutionError": NETWORK,
    "name resolution": NETWORK,
    "ProxyError": NETWORK,
    "ReadTimeout": NETWORK,
    "ConnectTimeout": NETWORK,
    "No space left": DISK,
    "Read-only file system": FOLDER,
    "Permission denied": FOLDER,
    "No matching distribution": NOT_OFFERED,
    "DO NOT MATCH THE HASHES": "a download arrived broken: run the same command again",
}


class CannotInstallError(Exception):
    """What is in the way, and the remedy, in a sentence."""


def check_venv_module(find: Callable[[str], object] = importlib.util.find_spec) -> None:
    """Refuse a Python without `venv` or `ensurepip`, as Debian ships it."""
    missing = [name for name in ("venv", "ensurepip") if find(name) is None]
    if missing:
        version = "{}.{}".format(*sys.version_info)
        raise CannotInstallError(
            f"this Python has no module {' or '.join(missing)}: on Debian or Ubuntu run"
            f" apt install python{version}-venv, elsewhere install Python from python.org"
        )


def check_disk(folder: Path) -> None:
    """Refuse to start an installation that would end in a full disk."""
    free = shutil.disk_usage(folder).free / 2**30
    if free < FREE_GIB:
        raise CannotInstallError(
            f"{free:.1f} GiB are free here and the installation needs {FREE_GIB}: free some, or clone to a larger disk"
        )


def remedy(output: str) -> str:
    """Return, for what a failed step printed, a sentence that says what to do."""
    for sign, sentence in REMEDIES.items():
        if sign in output:
            return sentence
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return "pip failed: " + (lines[-1] if lines else "it printed nothing")


def digest(root: Path) -> str:
    """Return a digest of the files that say what to install."""
    return hashlib.sha256(b"".join((root / name).read_bytes() for name in PINS)).hexdigest()


def read_stamp(venv: Path) -> dict:
    """Return what an earlier, finished installation noted in `venv`, or an empty dict."""
    try:
        return json.loads((venv / STAMP).read_text())
    except (OSError, ValueError):
        return {}


def write_stamp(venv: Path, stamp: dict) -> None:
    """Note a finished installation, so that the next call has nothing to do."""
    ours.write(venv / STAMP, json.dumps(stamp).encode(), venv)


def call(command: list[str | Path]) -> None:
    """Run a step quietly; raise `CannotInstallError` with the remedy when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise CannotInstallError(remedy(done.stdout))


def quarto_found(venv: Path) -> bool:
    """Return whether Quarto can be run: named by QUARTO_PATH, on the PATH, or in `venv`."""
    named = os.environ.get("QUARTO_PATH", "")
    return any(shutil.which(name) for name in (named, "quarto", str(venv / "bin" / "quarto")) if name)


def install(root: Path, venv: Path, extras: Iterable[str]) -> None:
    """Bring `venv` up to date with requirements.txt and these extras of pyproject.toml; say what is done."""
    wanted, stamp, python = digest(root), read_stamp(venv), venv / "bin" / "python"
    have = set(stamp.get("extras", ())) if stamp.get("digest") == wanted else set()
    if have.issuperset(extras) and python.exists():
        return
    if not (venv / STAMP).exists():
        ours.claim(venv, ours.ENVIRONMENT, root)
    if not python.exists():
        check_venv_module()
        check_disk(root)
        print(f"making {venv.name} with Python {sys.version.split()[0]}", flush=True)
        call([sys.executable, "-m", "venv", venv])
    extras = sorted(have.union(extras))
    print(f"installing the pinned packages for {', '.join(extras)}: several GB, minutes the first time", flush=True)
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "-q"]
    call([*pip, "-r", root / "requirements.txt", "-e", f"{root}[{','.join(extras)}]"])
    if not quarto_found(venv):
        try:
            call([*pip, QUARTO])
        except CannotInstallError:
            print("Quarto could not be installed here; the preview renderer makes the site instead", flush=True)
    write_stamp(venv, {"digest": wanted, "extras": extras})


def unpack(root: Path, wheels: Path) -> None:
    """Install a folder of wheels into `_build/wheels`, beside what this Python has, for a machine without a network."""
    found = sorted(wheels.glob("*.whl"))
    if not found:
        raise CannotInstallError(f"there are no wheels (*.whl) in {wheels}")
    folder = ours.claim(root / "_build", ours.BUILD, root) / "wheels"
    stamp = {"wheels": [wheel.name for wheel in found]}
    if read_stamp(folder) == stamp:
        return
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    call([*pip, "--no-index", "--no-deps", "--no-compile", "--upgrade", "--target", folder, *found])
    write_stamp(folder, stamp)


def main(arguments: list[str] | None = None) -> int:
    """Install, or explain in one sentence why not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--venv", type=Path, default=Path(".venv"))
    parser.add_argument("--extras", default="site", help="comma separated extras of pyproject.toml")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels, to install beside this Python's packages")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.wheels:
            unpack(chosen.root.resolve(), chosen.wheels)
            return 0
        install(chosen.root.resolve(), chosen.venv.absolute(), chosen.extras.split(","))
    except (CannotInstallError, ours.NotOursError) as error:
        print(f"cannot install: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cannot install: {remedy(str(error))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
