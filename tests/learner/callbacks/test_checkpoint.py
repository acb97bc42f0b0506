"""A fit that was stopped goes on as if nothing had happened, to the bit; a broken file is named and not used."""

import errno
import io
import os
import re

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lib.learner import (
    EMA,
    Accuracy,
    Callback,
    Checkpoint,
    DataLoaders,
    EarlyStopping,
    Metrics,
    MixedPrecision,
    Progress,
    Recorder,
    Scheduled,
    momentum_cycle,
    one_cycle,
)
from lib.learner.callbacks.checkpoint import read, write
from lib.nn.state import random_states
from tests.learner.problem import SGD, AdamW, learner, loaders, net, same, weights


def torch_loaders(generator=None):
    x, y = loaders().train.tensors
    data = TensorDataset(x, y)
    return DataLoaders(DataLoader(data, 8, shuffle=True, generator=generator), DataLoader(data, 16, shuffle=True))


DATA = {
    "fast": loaders,
    "torch": torch_loaders,
    "torch, own generator": lambda: torch_loaders(torch.Generator().manual_seed(5)),
}


class Interrupt(Callback):
    """Raises in the middle of the third epoch."""

    def __init__(self, error):
        self.error = error

    def after_backward(self, learn):
        if (learn.epoch, learn.batch_index) == (2, 3):
            raise self.error


def whole_fit(data, optimiser, dtype=torch.bfloat16, seed=0):
    """A learner with everything that has a state, as a new process makes it."""
    torch.manual_seed(seed)
    callbacks = [
        *(
            Recorder(),
            EMA(0.9),
            Metrics(accuracy=Accuracy()),
            EarlyStopping(patience=9),
            MixedPrecision(dtype),
            Progress(),
        ),
        Scheduled(lr=one_cycle(), momentum=momentum_cycle()),
    ]
    return learner(callbacks, optimiser, model=net(seed, dropout=0.3), data=data())


def snapshot(learn):
    """All that a fit leaves, but the seconds."""
    recorder = learn.callbacks[0]
    return {
        "weights": weights(learn.model),
        "optimiser": learn.optimiser.state_dict(),
        "batches": [recorder.losses, recorder.lrs, recorder.momenta],
        "epochs": [{k: v for k, v in row.items() if k != "seconds"} for row in recorder.history],
        "rows": len(learn.callbacks[5].rows),
        "random": random_states(learn.data.train),
        "position": [learn.epoch, learn.step_count, learn.callbacks[1].steps, learn.callbacks[3].best],
    }


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("optimiser", [SGD, AdamW])
@pytest.mark.parametrize("error", [OSError("power"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_a_resumed_fit_is_the_uninterrupted_one_to_the_bit(data, optimiser, error, tmp_path):
    expected = snapshot(whole_fit(DATA[data], optimiser).fit(4))
    path = tmp_path / "deep" / "fit.pt"
    broken = whole_fit(DATA[data], optimiser)
    with pytest.raises(type(error)):
        broken.fit(4, callbacks=[Checkpoint(path), Interrupt(error)])
    assert read(path)["epoch"] == 2
    resumed = whole_fit(DATA[data], optimiser, seed=8).fit(4, callbacks=[Checkpoint(path)])
    assert same(snapshot(resumed), expected)
    assert read(path)["epoch"] == 4

    # and the broken learner itself, in the same process, from a file that is as it was then
    again = tmp_path / "again.pt"
    with pytest.raises(type(error)):
        whole_fit(DATA[data], optimiser).fit(4, callbacks=[Checkpoint(again), Interrupt(error)])
    assert same(snapshot(broken.fit(4, callbacks=[Checkpoint(again)])), expected)


def test_the_scale_of_the_loss_is_resumed(tmp_path):
    expected = snapshot(whole_fit(loaders, SGD, torch.float16).fit(4))
    with pytest.raises(OSError, match="power"):
        whole_fit(loaders, SGD, torch.float16).fit(
            4, callbacks=[Checkpoint(tmp_path / "fit.pt"), Interrupt(OSError("power"))]
        )
    resumed = whole_fit(loaders, SGD, torch.float16, seed=3).fit(4, callbacks=[Checkpoint(tmp_path / "fit.pt")])
    assert same(snapshot(resumed), expected)


def test_a_finished_fit_is_read_and_not_repeated(tmp_path):
    expected = whole_fit(loaders, SGD).fit(2, callbacks=[Checkpoint(tmp_path / "fit.pt")])
    again = whole_fit(loaders, SGD, seed=4).fit(2, callbacks=[Checkpoint(tmp_path / "fit.pt")])
    assert same(weights(again.model), weights(expected.model))
    assert same(snapshot(again), snapshot(expected))


def test_without_resume_a_fit_begins_anew_and_replaces_the_file(tmp_path):
    path = tmp_path / "fit.pt"
    learner(model=net(1)).fit(2, callbacks=[Checkpoint(path)])
    learn = learner().fit(1, callbacks=[Checkpoint(path, resume=False)])
    assert same(weights(learn.model), weights(learner().fit(1).model))
    assert read(path)["epoch"] == 1


@pytest.mark.parametrize("resume", [True, False])
def test_a_file_that_is_no_checkpoint_is_never_replaced(tmp_path, resume):
    path = tmp_path / "notes.txt"
    path.write_text("a page of my own")
    with pytest.raises(ValueError, match=r"notes\.txt.*remove it"):
        learner().fit(1, callbacks=[Checkpoint(path, resume=resume)])
    assert path.read_text() == "a page of my own"


@pytest.fixture
def kept(tmp_path):
    path = tmp_path / "fit.pt"
    learner().fit(1, callbacks=[Checkpoint(path)])
    return path


def flip(content: bytes) -> bytes:
    """Change one bit of one weight, which leaves a file that torch reads."""
    place = content.index(torch.load(io.BytesIO(content))["model"]["0.weight"].numpy().tobytes())
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [lambda c: b"", lambda c: c[: len(c) // 2], lambda c: c[:-10], flip, lambda c: b"some text", lambda c: c[100:]],
    ids=["empty", "half", "cut", "one bit", "text", "headless"],
)
def test_a_broken_file_is_named_and_not_used(kept, spoil):
    kept.write_bytes(spoil(kept.read_bytes()))
    learn = learner(model=net(2))
    before, content = weights(learn.model), kept.read_bytes()
    with pytest.raises(ValueError, match=f"{re.escape(str(kept))}.*remove it"):
        learn.fit(1, callbacks=[Checkpoint(kept)])
    assert same(weights(learn.model), before)
    assert kept.read_bytes() == content


def test_a_file_that_runs_code_is_not_read(tmp_path):
    path = tmp_path / "fit.pt"
    torch.save({"step_count": 1, "model": torch.nn.Linear(1, 1)}, path)
    with pytest.raises(ValueError, match=r"fit\.pt.*UnpicklingError"):
        read(path)
    torch.save(net().state_dict(), path)
    with pytest.raises(ValueError, match=r"fit\.pt.*no checkpoint"):
        read(path)


@pytest.mark.parametrize(
    ("other", "fault"),
    [
        (lambda: learner(model=torch.nn.Linear(6, 3)), r"weights.*0\.bias \[12\].* bias \[3\]"),
        (lambda: learner([EMA()]), "callbacks.*0 EMA"),
        (lambda: learner(optimiser=lambda p: torch.optim.SGD([*p][:2], lr=1)), "parameter group"),
    ],
)
def test_the_checkpoint_of_another_fit_is_refused_and_changes_nothing(kept, other, fault):
    learn = other()
    before, content = weights(learn.model), kept.read_bytes()
    with pytest.raises(ValueError, match=f"{re.escape(str(kept))}.*{fault}.*resume=False") as caught:
        learn.fit(1, callbacks=[Checkpoint(kept)])
    assert caught.value.__notes__ == ["in Checkpoint.before_fit"]
    assert same(weights(learn.model), before)
    assert kept.read_bytes() == content


class FullDisk:
    """A file of which only the first bytes find room."""

    def __init__(self, file):
        self.file = file

    def write(self, content):
        self.file.write(content[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def test_a_full_disk_leaves_the_old_file_and_no_litter(kept, monkeypatch):
    content, fdopen = kept.read_bytes(), os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda *args: FullDisk(fdopen(*args)))
    with pytest.raises(OSError, match=rf"{os.strerror(errno.ENOSPC)}(.|\n)*in Checkpoint.after_epoch"):
        learner().fit(2, callbacks=[Checkpoint(kept)])
    assert kept.read_bytes() == content
    assert os.listdir(kept.parent) == [kept.name]  # noqa: PTH208


def test_an_interrupted_write_leaves_the_old_file(kept, monkeypatch):
    content = kept.read_bytes()

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fdopen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write({"step_count": 0}, kept)
    assert kept.read_bytes() == content
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]
