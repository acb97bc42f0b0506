"""The environment of kernels: reproducible, quiet, with inline figures, and told whether the hub can be reached."""

from __future__ import annotations

import os
import threading
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

HUB = "https://huggingface.co"
PATIENCE = 3.0  # seconds
QUIET = {
    "DIFFUSERS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


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
    shared = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))} if jobs > 1 else {}
    return shared | dict(os.environ) | ours


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
