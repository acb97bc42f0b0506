"""Averaged weights: as by hand, validated, and what a fit ends with."""

import pytest
import torch

from lib.learner import EMA, Callback, CancelFit, Metrics
from tests.learner.problem import Look, learner, net, raising, same


def averaged(start, steps, decay):
    """Average by hand, in double precision."""
    mean = [p.double() for p in start]
    out = []
    for n, step in enumerate(steps, 1):
        part = min(decay, (1 + n) / (10 + n))
        mean = [part * m + (1 - part) * p.double() for m, p in zip(mean, step, strict=True)]
        out.append(mean)
    return out


def close(left, right):
    return all(torch.allclose(a.double(), b, rtol=1e-5, atol=1e-6) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_the_average_is_that_by_hand_and_is_validated_and_ends_the_fit(decay):
    look, model = Look(), net()
    start = [p.detach().clone() for p in model.parameters()]
    learn = learner([look, EMA(decay), Metrics()], model=model).fit(2)
    means = averaged(start, look.steps, decay)
    assert close(look.validated[0], means[6])
    assert close(look.validated[1], means[13])
    assert close([p.detach() for p in model.parameters()], means[13])
    assert learn.evaluate()["loss"] == pytest.approx(learn.log["valid_loss"], rel=1e-6)
    plain = Look()
    learner([plain]).fit(2)
    assert same(look.steps, plain.steps)  # training itself does not see the average


def test_an_interrupted_fit_ends_with_its_own_weights():
    """In the middle of the validation, too, where the model has the average."""
    for event in ("after_train", "after_batch", "before_valid"):
        look = Look()

        class Later(Callback):
            order = 99

        setattr(Later, event, lambda self, learn: _stop_in_validation(learn) if event == "after_batch" else _stop())  # noqa: B023
        learn = learner([look, EMA(0.9), Later()])
        with pytest.raises(KeyboardInterrupt):
            learn.fit(1)
        assert same([p.detach() for p in learn.model.parameters()], look.steps[-1])


def _stop():
    raise KeyboardInterrupt


def _stop_in_validation(learn):
    if not learn.training:
        raise KeyboardInterrupt


def test_a_cancelled_fit_ends_with_the_average():
    look, model = Look(), net()
    start = [p.detach().clone() for p in model.parameters()]
    learner([look, EMA(0.9), raising("after_epoch", CancelFit())], model=model).fit(5)
    assert close([p.detach() for p in model.parameters()], averaged(start, look.steps, 0.9)[6])
    learner([EMA(0.9), raising("before_fit", CancelFit(), order=-1)], model=model).fit(5)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=f"decay.*0.*1.*{decay}"):
        EMA(decay)


def test_the_average_of_a_model_in_bfloat16_moves():
    """In bfloat16 an average that moves by less than 1/256 of itself would stay where it began."""
    ema, model = EMA(0.999), net().to(torch.bfloat16)
    learn = learner([ema], model=model)
    ema.before_fit(learn)
    start = [p.clone() for p in ema.averages]
    assert {p.dtype for p in ema.averages} == {torch.float32}
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05)
    ema.steps = 10_000
    for _ in range(5):
        ema.after_step(learn)
    for before, now, end in zip(start, ema.averages, model.parameters(), strict=True):
        expected = before + (end.float() - before) * (1 - 0.999**5)
        torch.testing.assert_close(now, expected, rtol=1e-4, atol=1e-6)
        assert not torch.equal(now, before)
