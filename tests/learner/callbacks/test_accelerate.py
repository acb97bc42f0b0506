"""Several processes: the same results as in one, and a model left as it was."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from lib.learner import Accelerated, Callback, CancelStep, Checkpoint, DataLoaders, MixedPrecision, Progress
from lib.learner.callbacks.checkpoint import read
from tests.learner.problem import SGD, learner, loaders, net, normal, raising, same, weights
from tests.learner.process import train


def test_one_accelerated_process_is_the_plain_fit_and_leaves_the_model_unwrapped():
    model = net(dropout=0.3)
    torch.manual_seed(0)
    callback = Accelerated(Accelerator(cpu=True))
    ours = learner([callback], model=model).fit(2)
    torch.manual_seed(0)
    assert same(weights(ours.model), weights(learner(model=net(dropout=0.3)).fit(2).model))
    assert ours.model is model
    assert "forward" not in vars(model)
    assert callback.accelerator._models == []


def test_an_error_leaves_the_model_unwrapped():
    model = net()
    with pytest.raises(OSError, match="broken"):
        learner([Accelerated(Accelerator(cpu=True)), raising("after_loss", OSError("broken"))], model=model).fit(1)
    with pytest.raises(ValueError, match=r"'backward'.*Accelerated and MixedPrecision"):
        learner([Accelerated(Accelerator(cpu=True)), MixedPrecision()], model=model)
    assert "forward" not in vars(model)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What each of two processes computed and printed, and the checkpoint that they left."""
    folder = tmp_path_factory.mktemp("processes")
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    here |= {"ACCELERATE_USE_CPU": "true", "ACCELERATE_MIXED_PRECISION": "no"}
    here |= {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    files = [folder / f"{rank}.pt" for rank in range(2)]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.learner.process", str(file), str(folder / "fit.checkpoint")],
            env=os.environ | here | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, file in enumerate(files)
    ]
    try:
        printed = [process.communicate(timeout=150)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(printed)
    return [torch.load(file) for file in files], printed, folder / "fit.checkpoint"


def near(ours, theirs) -> bool:
    """Say whether nested values agree within 1e-6 of the largest of a tensor, figures as nearly."""
    if isinstance(theirs, torch.Tensor):
        return ours.shape == theirs.shape and bool((ours - theirs).abs().max() <= 1e-6 * theirs.abs().max().clamp(1))
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(near(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(map(near, ours, theirs))
    return ours == pytest.approx(theirs, rel=2e-6)


@pytest.mark.slow
def test_two_processes_have_the_gradients_losses_and_metrics_of_one(two_processes):
    results, alone = two_processes[0], train()
    assert [len(batch) for batch in loaders(52, 9).train.tensors[0].split(9)] == [9] * 5 + [7]
    for process in results:
        for name, expected in alone.items():
            assert near(process[name], expected), name
    assert same(results[0]["gradients"], results[1]["gradients"])


@pytest.mark.slow
def test_the_first_of_two_processes_speaks_and_leaves_a_checkpoint_that_one_process_takes_up(two_processes):
    _, printed, path = two_processes
    assert [text.count("train loss") for text in printed] == [1, 0]
    ours = learner([Progress(), Checkpoint(path)], model=net(seed=5)).fit(1)
    assert same(weights(ours.model), read(path)["model"])


def test_a_batch_of_fewer_rows_than_processes_is_refused():
    class Two(Accelerated):
        def __init__(self):
            self.accelerator = type("Two", (), {"num_processes": 2, "process_index": 0, "device": "cpu"})()

        def before_fit(self, learn):
            pass

        cleanup_fit = before_fit

    data = DataLoaders([(normal(1, 6), torch.zeros(1).long())])
    with pytest.raises(ValueError, match=r"batch of 1 .* 2 processes.*drop_last"):
        learner([Two()], data=data, model=nn.Linear(6, 3)).fit(1)


@pytest.mark.parametrize("steps", [1, 4])
def test_gradients_are_accumulated_as_the_accelerator_says(steps):
    """Four batches of 8 make one step, that of their mean; at the end of the epoch three are left."""
    model, step_count = net(), []
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=steps)
    counts = type("Counts", (Callback,), {"after_step": lambda self, learn: step_count.append(learn.step_count)})()
    learner([Accelerated(accelerator), counts], model=model).fit(2)

    theirs, data = net().train(), loaders()
    optimiser = SGD(theirs.parameters())
    for _ in range(2):
        for i, (x, y) in enumerate(data.train, 1):
            (torch.nn.functional.cross_entropy(theirs(x), y) / steps).backward()
            if i % steps == 0 or i == len(data.train):
                optimiser.step()
                optimiser.zero_grad()
    assert same(weights(model), weights(theirs))
    assert step_count == ([4, 7, 11, 14] if steps == 4 else [*range(1, 15)])


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("order", [-40, 0, 1000])
def test_random_numbers_are_drawn_for_the_whole_batch_whatever_the_order(order, first):
    drawn, seen = [], []

    class Half(Accelerated):
        """The second of two processes, of which there is no first."""

        def __init__(self):
            self.accelerator = type("Two", (), {"num_processes": 2, "process_index": 1, "device": "cpu"})()

        def before_fit(self, learn):
            pass

        def _gather(self, learn):
            seen.append(learn.batch[0])

        cleanup_fit = cleanup_batch = before_fit

    class Noised(Callback):
        def before_batch(self, learn):
            drawn.append(torch.randn_like(learn.batch[0]))
            learn.batch = (learn.batch[0] + drawn[-1], *learn.batch[1:])

    noised = Noised()
    noised.order = order
    callbacks = [noised, Half()] if first else [Half(), noised]
    learn = learner(callbacks)
    learn.evaluate()
    x = learn.data.valid.tensors[0]
    assert [len(noise) for noise in drawn] == [16, 4]
    assert torch.equal(seen[0], (x[:16] + drawn[0])[8:])


def test_gradients_that_were_unscaled_for_a_step_left_out_are_scaled_again(monkeypatch):
    """As in float16 on a GPU, where the accelerator has a scaler."""
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    monkeypatch.setattr(
        accelerator, "unscale_gradients", lambda prepared: accelerator.scaler.unscale_(prepared.optimizer)
    )

    class Accumulate(Callback):
        def before_step(self, learn):
            if learn.step_count % 4 and learn.step_count != 7:
                raise CancelStep

    scaled = learner([Accelerated(accelerator), Accumulate()]).fit(1)
    plain = learner([Accumulate()]).fit(1)
    for name, value in weights(plain.model).items():
        torch.testing.assert_close(scaled.model.state_dict()[name], value)
