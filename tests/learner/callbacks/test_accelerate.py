"""Devices, precision, several processes: the same results by other means, and nothing left switched on."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn

from lib.learner import (
    Accelerated,
    BatchTransform,
    Callback,
    Checkpoint,
    ClipGradients,
    DataLoaders,
    DeviceCallback,
    MixedPrecision,
    Progress,
    Recorder,
)
from lib.learner.checkpoint import read
from lib.learner.device import to_device
from tests.learner.problem import AdamW, learner, loaders, net, normal, raising, same, weights
from tests.learner.process import train

# Devices


def test_every_tensor_of_a_batch_is_moved():
    batch = {"x": torch.ones(2), "more": [torch.ones(1), ("a", torch.ones(3))]}
    moved = to_device(batch, "meta")
    assert moved["x"].device.type == moved["more"][0].device.type == moved["more"][1][1].device.type == "meta"
    assert moved["more"][1][0] == "a"
    assert batch["x"].device.type == "cpu"


def test_model_and_batches_are_moved_together():
    seen = []

    class Look(Callback):
        def after_predict(self, learn):
            seen.append((learn.inputs[0].device.type, learn.targets.device.type, learn.preds.device.type))
            learn.batch = to_device(learn.batch, "meta")

        def loss(self, learn):
            learn.loss_value = torch.zeros((), requires_grad=True)

    learn = learner([DeviceCallback("meta"), Look()])
    learn.fit(1)
    assert seen == [("meta",) * 3] * 9
    assert next(learn.model.parameters()).device.type == "meta"
    assert learn.data.train.tensors[0].device.type == "cpu"
    seen.clear()
    assert learn.predict().device.type == "meta"  # outside of a fit batches go to where the model is
    assert len(seen) == 2


def test_a_device_is_where_the_model_was_moved():
    same_device = learner([DeviceCallback("cpu")]).fit(1)
    assert same(weights(same_device.model), weights(learner().fit(1).model))


def test_batches_are_transformed_where_asked():
    def double(batch):
        return batch[0] * 2, batch[1]

    x, y = loaders().valid.tensors
    ours = learner([BatchTransform(double, valid=False)])
    plain = learner()
    assert ours.evaluate() == plain.evaluate()
    doubled = DataLoaders([(a * 2, b) for a, b in loaders().train])
    assert same(weights(ours.fit(1).model), weights(learner(data=doubled).fit(1).model))
    valid = learner([BatchTransform(double, train=False)])
    assert valid.evaluate()["loss"] == plain.evaluate([(x * 2, y)])["loss"]


# Precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_trains_nearly_as_single(dtype):
    seen, ours, theirs = [], Recorder(), Recorder()

    class Look(Callback):
        def before_loss(self, learn):
            seen.append((learn.preds.dtype, torch.is_autocast_enabled("cpu")))

        def before_backward(self, learn):
            seen.append((learn.loss_value.dtype, torch.is_autocast_enabled("cpu")))

    precision = MixedPrecision(dtype)
    learn = learner([precision, ours, Look()], AdamW).fit(2)
    learner([theirs], AdamW).fit(2)
    assert ours.losses == pytest.approx(theirs.losses, rel=0.1)
    assert ours.losses != theirs.losses
    assert set(seen) == {(dtype, True), (torch.float32, False)}
    assert not torch.is_autocast_enabled("cpu")
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in learn.model.parameters() if p.grad is not None)
    assert precision.scaler.is_enabled() == (dtype == torch.float16)


def test_float16_scales_the_loss_and_unscales_before_clipping():
    gradients, scaled = [], []

    class Look(Callback):
        order = -31  # before the gradients are unscaled

        def before_step(self, learn):
            scaled.append(learn.model[4].bias.grad.norm().item())

    class After(Callback):
        def after_step(self, learn):  # scaled gradients would have been unscaled by the step itself
            gradients.append(torch.cat([p.grad.flatten() for p in learn.model.parameters()]).norm().item())

    precision = MixedPrecision(torch.float16)
    learner([precision, Look(), ClipGradients(0.3), After()]).fit(1)
    assert gradients == pytest.approx([0.3] * 7, rel=1e-3)  # they are longer than that: see the test of clipping
    assert min(scaled) > 1000
    assert precision.state_dict()["scale"] == precision.scaler.get_scale() == 65536


def test_a_step_whose_gradients_overflow_is_left_out_and_the_scale_halved():
    learn = learner([precision := MixedPrecision(torch.float16)], loss=lambda p, y: F.cross_entropy(p, y) * 1e30)
    learn.data = DataLoaders([next(iter(loaders().train))])
    before = [p.detach().clone() for p in learn.model.parameters()]
    learn.fit(1)
    assert same([p.detach() for p in learn.model.parameters()], before)
    assert precision.scaler.get_scale() == 32768


@pytest.mark.parametrize("event", ["before_predict", "predict", "after_predict", "loss", "before_backward"])
def test_autocast_ends_with_an_error(event):
    with pytest.raises(OSError, match="broken"):
        learner([MixedPrecision(), raising(event, OSError("broken"))]).fit(1)
    assert not torch.is_autocast_enabled("cpu")


def test_other_precisions_are_refused():
    with pytest.raises(ValueError, match=r"expected torch.bfloat16 or torch.float16, got torch.float64"):
        MixedPrecision(torch.float64)


# Several processes


def test_one_accelerated_process_is_the_plain_fit_and_leaves_the_model_bare():
    model = net(dropout=0.3)
    torch.manual_seed(0)
    callback = Accelerated(Accelerator(cpu=True))
    ours = learner([callback], model=model).fit(2)
    torch.manual_seed(0)
    assert same(weights(ours.model), weights(learner(model=net(dropout=0.3)).fit(2).model))
    assert ours.model is model
    assert "forward" not in vars(model)
    assert callback.accelerator._models == []


def test_an_error_leaves_the_model_bare():
    model = net()
    with pytest.raises(OSError, match="broken"):
        learner([Accelerated(Accelerator(cpu=True)), raising("after_loss", OSError("broken"))], model=model).fit(1)
    with pytest.raises(ValueError, match=r"can define the step 'backward', got Accelerated and MixedPrecision"):
        learner([Accelerated(Accelerator(cpu=True)), MixedPrecision()], model=model)
    assert "forward" not in vars(model)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What each of two processes found and said, and the checkpoint that they left."""
    folder = tmp_path_factory.mktemp("processes")
    here = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    here |= {"ACCELERATE_USE_CPU": "true", "ACCELERATE_MIXED_PRECISION": "no"}
    here |= {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    files = [folder / f"{rank}.pt" for rank in range(2)]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.learner.process", str(file), str(folder / "fit.checkpoint")],
            env=os.environ | here | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, file in enumerate(files)
    ]
    try:
        told = [process.communicate(timeout=150)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(told)
    return [torch.load(file) for file in files], told, folder / "fit.checkpoint"


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
    found, alone = two_processes[0], train()
    assert [len(batch) for batch in loaders(52, 9).train.tensors[0].split(9)] == [9] * 5 + [7]
    for process in found:
        for name, expected in alone.items():
            assert near(process[name], expected), name
    assert same(found[0]["gradients"], found[1]["gradients"])


@pytest.mark.slow
def test_the_first_of_two_processes_speaks_and_leaves_a_checkpoint_that_one_process_takes_up(two_processes):
    _, told, path = two_processes
    assert [text.count("train loss") for text in told] == [1, 0]
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
    with pytest.raises(ValueError, match="a batch of 1 is too small for 2 processes: drop_last leaves it out"):
        learner([Two()], data=data, model=nn.Linear(6, 3)).fit(1)
