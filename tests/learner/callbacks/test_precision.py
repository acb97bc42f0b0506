"""Mixed precision: nearly the same weights, and nothing left switched on."""

import pytest
import torch
import torch.nn.functional as F

from lib.learner import (
    Callback,
    CancelBatch,
    CancelStep,
    ClipGradients,
    DataLoaders,
    DeviceCallback,
    MixedPrecision,
    Recorder,
)
from tests.learner.problem import AdamW, learner, loaders, raising, same


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
    with pytest.raises(ValueError, match=r"torch\.bfloat16.*torch\.float16.*torch\.float64"):
        MixedPrecision(torch.float64)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_on_a_gpu_half_precision_trains_nearly_as_single(dtype):
    ours, theirs = Recorder(), Recorder()
    learner([DeviceCallback("cuda"), MixedPrecision(dtype), ours], AdamW).fit(2)
    learner([DeviceCallback("cuda"), theirs], AdamW).fit(2)
    assert ours.losses == pytest.approx(theirs.losses, rel=0.1)
    assert not torch.is_autocast_enabled("cuda")


class Accumulate(Callback):
    """Makes one step of every two batches, and of the last; `order` says whether before gradients are unscaled."""

    def __init__(self, event, order):
        self.order = order
        setattr(self, event, self.leave_out)

    def leave_out(self, learn):
        if learn.step_count % 2 and learn.step_count != 7:
            raise CancelStep


@pytest.mark.parametrize(("event", "order"), [("after_backward", 0), ("before_step", -31), ("before_step", 5)])
def test_a_step_that_is_left_out_keeps_scaled_gradients(event, order):
    precision, seen = MixedPrecision(torch.float16), []

    class Look(Callback):
        order = 9

        def before_step(self, learn):
            seen.append([p.grad.clone() for p in learn.model.parameters()])

    class Unscaled(MixedPrecision):
        """float16 without a scale: gradients of this size need none."""

        def before_fit(self, learn):
            self.scaler = torch.amp.GradScaler("cpu", enabled=False)

    learner([precision, Accumulate(event, order), Look()]).fit(1)
    ours, seen = seen, []
    learner([Unscaled(torch.float16), Accumulate("after_backward", 0), Look()]).fit(1)
    assert len(ours) == 4
    for mine, its in zip(ours, seen, strict=True):
        torch.testing.assert_close(mine, its, rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("event", ["after_backward", "before_step", "before_zero_grad"])
def test_in_float16_a_cancelled_batch_leaves_nothing_to_the_next(event):
    def cancel(self, learn):
        if learn.step_count % 2:
            raise CancelBatch

    steps = Recorder()
    precision = MixedPrecision(torch.float16)
    learner([precision, type("Cancels", (Callback,), {event: cancel})(), steps]).fit(2)
    assert len(steps.losses) == 14
    assert precision.scaler.get_scale() == 65536
