"""The environment of kernels: reproducible, quiet, with inline figures, and told whether the hub can be reached."""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

import psutil

HUB = "https://huggingface.co"
PATIENCE = 3.0  # seconds
LONG_SPIN, SHORT_SPIN = "30000", "300"
QUIET = {
    "DIFFUSERS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
NO_WIDGETS = "ignore:IProgress not found"  # what a Jupyter without its widgets says of progress bars, which are off
STAND_IN = ("ignore:the model never saw", "ignore:a prompt has")  # in a rehearsal a small model stands in for a large


def environment(root: Path, *, hub: bool, jobs: int = 1, committed: bool = False) -> dict[str, str]:
    """Return the environment variables for kernels: ours over what this process has.

    `lib` is taken from `root`, also where the installed one belongs to another copy of the repository. With several
    jobs the cores are shared out. A post whose outputs will be `committed` is told so: its claims must hold.
    """
    ours = QUIET | {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTHONHASHSEED": "0"}
    ours["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    if committed:
        ours["LIB_WILL_BE_COMMITTED"] = "1"
    if not hub:
        ours["HF_HUB_OFFLINE"] = "1"
    ignored = [NO_WIDGETS, *(STAND_IN if os.environ.get("LIB_GPU_SCALE") else ())]
    ours["PYTHONWARNINGS"] = ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), *ignored]))
    shared = {"OMP_NUM_THREADS": str(threads(jobs))} if jobs > 1 else {}
    return shared | dict(os.environ) | ours


def threads(jobs: int) -> int:
    """Return how many threads each of several jobs gets."""
    return max(1, (os.cpu_count() or 1) // jobs)


def spinning(idle: float, threads: int) -> dict[str, str]:
    """Return how long threads may wait for each other by spinning, given how many cores have nothing to do.

    OpenMP's threads spin at every barrier. On idle cores that is the fastest way to wait; where other work wants the
    cores, one that spins keeps away the very thread that it waits for, and a minute becomes a quarter of an hour. In
    steps of libgomp, whose own choice is 300,000; what the environment says already comes first.
    """
    return {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", LONG_SPIN if idle > threads - 0.5 else SHORT_SPIN)}


def idle_cores(seconds: float = 0.3) -> float:
    """Look for a moment at how many cores have nothing to do."""
    used = psutil.cpu_times_percent(interval=seconds)  # whose sum is not 100 over less than a second
    return (used.idle + getattr(used, "iowait", 0.0)) / (sum(used) or 1.0) * (os.cpu_count() or 1)


def hub_is_reachable(patience: float = PATIENCE) -> bool:
    """Ask the hub once whether it is there; never takes longer than `patience` seconds.

    Proxies and HF_ENDPOINT are respected; with HF_HUB_OFFLINE set nobody is asked.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    answers: list[bool] = []
    # A thread, because a name server or an answer that trickles in can take longer than any timeout of a socket.
    asking = threading.Thread(target=lambda: answers.append(_answers(patience)), daemon=True)
    asking.start()
    asking.join(patience)
    return answers == [True]


def _answers(patience: float) -> bool:
    try:
        request = urllib.request.Request(os.environ.get("HF_ENDPOINT") or HUB, method="HEAD")
        with urllib.request.build_opener().open(request, timeout=patience):
            return True
    except urllib.error.HTTPError as error:
        return error.code in (401, 404, 405)  # the hub itself; a proxy says 403, 407 or 5xx
    except (OSError, ValueError, HTTPException):
        return False
