"""Keep a fit on disk after each epoch, and go on from there as if nothing had happened."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from lib.data import files
from lib.learner.callback import Callback, LearnerState, name_of
from lib.learner.callbacks.accelerate import first_process, unwrapped
from lib.nn.state import random_states, set_random_states


class Checkpoint(Callback):
    """Save weights, optimiser, callbacks, random states and position to `path` after each epoch; resume from it.

    On a CPU the resumed fit is bit for bit the uninterrupted one. The file is replaced as a whole, so a killed run
    leaves the last one. It is read without running code from it (`weights_only`). A finished fit is read and not
    repeated; with `resume=False` a fit starts anew, whatever checkpoint is there. A file of another kind is refused and
    never replaced. Of several processes the first one writes.
    """

    order = 110  # called last, at the end of an epoch and at the start
    whole_fit = True

    def __init__(self, path: str | Path, *, resume: bool = True) -> None:
        self.path, self.resume = Path(path), resume

    def before_fit(self, learn: LearnerState) -> None:
        self.stateful = _stateful(learn)
        if not self.path.exists():
            return
        state = read(self.path)  # also where it is only to be replaced: nothing but a checkpoint is
        if not self.resume:
            return
        try:
            _compare("weights", _shapes(state["model"]), _shapes(unwrapped(learn.model).state_dict()))
            _compare("callbacks", state["callbacks"].keys(), self.stateful.keys())
            learn.optimiser.load_state_dict(state["optimiser"])
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{self.path}: a checkpoint of another fit ({error}); remove it, or pass resume=False to replace it"
            ) from error
        unwrapped(learn.model).load_state_dict(state["model"])
        for name, callback in self.stateful.items():
            callback.load_state_dict(state["callbacks"][name])
        learn.epoch, learn.step_count = state["epoch"], state["step_count"]
        set_random_states(state["random"], learn.data.train, learn.data.valid)

    def after_epoch(self, learn: LearnerState) -> None:
        if not first_process():
            return
        state = {
            "model": unwrapped(learn.model).state_dict(),
            "optimiser": learn.optimiser.state_dict(),
            "callbacks": {name: callback.state_dict() for name, callback in self.stateful.items()},
            "epoch": learn.epoch + 1,
            "step_count": learn.step_count,
            "random": random_states(learn.data.train, learn.data.valid),
        }
        write(state, self.path)


def _stateful(learn: LearnerState) -> dict[str, Callback]:
    """Return the callbacks that have a state, under names that are the same in each run."""
    stateful = [callback for callback in learn.active_callbacks if hasattr(callback, "state_dict")]
    return {f"{i} {name_of(callback)}": callback for i, callback in enumerate(stateful)}


def _shapes(weights: dict[str, Any]) -> set[str]:
    return {f"{name} {list(getattr(value, 'shape', []))}" for name, value in weights.items()}


def _compare(what: str, saved: Iterable[str], current: Iterable[str]) -> None:
    saved, current = set(saved), set(current)
    if saved != current:
        differences = (", ".join(sorted(names)) or "nothing else" for names in (saved - current, current - saved))
        raise ValueError("its {} have {}, those of this fit {}".format(what, *differences))


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint; raises ValueError that names a file that is broken or something else."""
    content = io.BytesIO(path.read_bytes())
    try:
        with zipfile.ZipFile(content) as parts:  # torch.load does not compare the check sums
            broken = parts.testzip()
        if broken:
            raise ValueError(f"{broken} does not have its check sum")
        content.seek(0)
        state = torch.load(content, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a whole checkpoint ({type(error).__name__}); remove it to start anew") from error
    if not isinstance(state, dict) or "step_count" not in state:
        raise ValueError(f"{path}: a file of torch, but no checkpoint of a fit")
    return state


def write(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint wholly or not at all."""
    content = io.BytesIO()
    torch.save(state, content)  # not to the file: torch hides what goes wrong with it, such as a full disk
    files.replace(path, content.getbuffer())
