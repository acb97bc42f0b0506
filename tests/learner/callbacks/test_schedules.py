"""Schedules against torch's, at every step."""

import math
from functools import partial

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from lib.learner import Callback, Recorder, Scheduled, cosine, momentum_cycle, one_cycle, through
from tests.learner.problem import AdamW, learner, net

BATCHES, EPOCHS = 7, 4
STEPS = BATCHES * EPOCHS


class Rates(Callback):
    """Notes what each batch was trained with, in every parameter group."""

    def __init__(self):
        self.seen = []

    def before_step(self, learn):
        groups = learn.optimiser.param_groups
        self.seen.append([(g["lr"], g["betas"][0] if "betas" in g else g.get("momentum")) for g in groups])


def groups(kind, model, **options):
    """Return an optimiser with two groups of parameters, the second with a tenth of the learning rate."""
    head = [*model[4].parameters()]
    body = [p for p in model.parameters() if all(p is not q for q in head)]
    return kind([{"params": body}, {"params": head, "lr": 0.01}], lr=0.1, **options)


def seen(kind, scheduled, **options):
    model, lrs = net(), Rates()
    learner([lrs, scheduled], lambda _: groups(kind, model, **options), model=model).fit(EPOCHS)
    return torch.tensor(lrs.seen, dtype=torch.float64)


def expected(kind, schedule, every=1, **options):
    optimiser = groups(kind, net(), **options)
    scheduler = schedule(optimiser)
    out = []
    for step in range(STEPS):
        out.append([(g["lr"], g["betas"][0] if "betas" in g else g.get("momentum")) for g in optimiser.param_groups])
        optimiser.step()
        if (step + 1) % every == 0:
            scheduler.step()
    return torch.tensor(out, dtype=torch.float64)


def close(left, right):
    return torch.allclose(left, right, rtol=1e-12, atol=1e-15)


KINDS = [(torch.optim.SGD, {"momentum": 0.9}), (torch.optim.AdamW, {})]


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("warmup", [1 / 4, 3 / 7])
def test_one_cycle_is_that_of_torch(kind, options, warmup):
    theirs = partial(
        OneCycleLR,
        max_lr=[0.1, 0.01],
        total_steps=STEPS + 1,
        pct_start=(warmup * STEPS + 1) / (STEPS + 1),  # torch counts from the last step before
        div_factor=20,
        final_div_factor=500,
        base_momentum=0.8,
        max_momentum=0.95,
    )
    scheduled = Scheduled(
        lr=one_cycle(warmup, start=1 / 20, end=1 / 20 / 500), momentum=momentum_cycle(0.95, 0.8, warmup)
    )
    assert close(seen(kind, scheduled, **options), expected(kind, theirs, **options))


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize(("by", "every", "period"), [("batch", 1, STEPS), ("epoch", BATCHES, EPOCHS)])
def test_cosine_is_that_of_torch_by_batch_and_by_epoch(kind, options, by, every, period):
    theirs = partial(CosineAnnealingLR, T_max=period)
    ours = seen(kind, Scheduled(lr=cosine(), by=by), **options)
    assert torch.allclose(ours, expected(kind, theirs, every, **options), rtol=1e-9, atol=1e-15)


def test_a_cosine_ends_where_it_is_told():
    theirs = partial(CosineAnnealingLR, T_max=STEPS, eta_min=0.02)
    ours = seen(torch.optim.SGD, Scheduled(lr=cosine(end=0.2)), momentum=0.9)
    assert torch.allclose(ours[:, 0], expected(torch.optim.SGD, theirs, momentum=0.9)[:, 0], rtol=1e-9)


@pytest.mark.parametrize("schedule", [one_cycle(), cosine(), one_cycle(0.1, 0.5, 0.2)])
def test_schedules_are_factors_up_to_one(schedule):
    values = [schedule(step / 1000) for step in range(1001)]
    assert max(values) == 1
    assert min(values) >= 0
    assert schedule(1.5) == schedule(1.0)  # a little late does no harm


def test_momentum_is_low_where_the_rate_is_high():
    lr, momentum = one_cycle(), momentum_cycle()
    assert (momentum(0), momentum(1)) == (0.95, 0.95)
    assert momentum(0.25) == pytest.approx(0.85)
    assert lr(0.25) == 1
    assert lr(0) == pytest.approx(1 / 25)


def test_a_recorder_notes_the_rate_that_is_used():
    recorder, lrs = Recorder(), Rates()
    learner([recorder, lrs, Scheduled(lr=one_cycle(), momentum=momentum_cycle())], AdamW).fit(2)
    assert list(zip(recorder.lrs, recorder.momenta, strict=True)) == [groups[0] for groups in lrs.seen]


def test_the_betas_besides_the_first_stay():
    learn = learner([Scheduled(momentum=lambda progress: 0.5)], partial(torch.optim.AdamW, lr=0.1, betas=(0.9, 0.7)))
    assert learn.fit(1).optimiser.param_groups[0]["betas"] == (0.5, 0.7)
    assert learn.optimiser.param_groups[0]["lr"] == 0.1


def test_a_second_fit_begins_the_schedule_anew():
    recorder = Recorder()
    learn = learner([recorder, Scheduled(lr=cosine())])
    learn.fit(1)
    first = recorder.lrs
    learn.fit(1, lr=0.2)
    assert recorder.lrs == pytest.approx([2 * lr for lr in first], rel=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scheduled(lr=cosine(), by="step"), "by.*'batch'.*'epoch'.*'step'"),
        (lambda: Scheduled(), "lr=.*momentum="),
        (lambda: one_cycle(warmup=0), "warmup.*0.*1.* 0"),
        (lambda: one_cycle(warmup=1.0), r"warmup.*0.*1.*1\.0"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_optimiser_without_momentum_is_named():
    learn = learner([Scheduled(momentum=momentum_cycle())], partial(torch.optim.Adagrad, lr=0.1))
    with pytest.raises(ValueError, match=r"Adagrad.*momentum.*lr_decay(.|\n)*Scheduled\.before_fit"):
        learn.fit(1)


def test_the_default_cycle_ends_near_nothing():
    assert 0 < one_cycle()(1.0) < 1e-4
    assert math.isclose(one_cycle()(0.625), 0.5, abs_tol=1e-4)  # half way down


def test_weights_follow_the_schedule():
    """A learning rate of zero in the second half leaves the weights of the first."""
    half = learner([Scheduled(lr=lambda progress: float(progress < 0.5))]).fit(2)
    one = learner().fit(1)
    for p, q in zip(half.model.parameters(), one.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_schedule_passes_through_its_points_straight_or_along_half_cosines():
    points = ((0, 0.2), (0.25, 1.0), (0.75, 0.5), (1, 0.0))
    for schedule in (through(*points), through(*points, straight=True)):
        assert [schedule(place) for place, _ in points] == pytest.approx([factor for _, factor in points])
        assert [schedule(0.5), schedule(0.125)] == pytest.approx([0.75, 0.6])
        assert schedule(1.5) == pytest.approx(0.0)
    assert through(*points, straight=True)(0.0625) == pytest.approx(0.4)
    assert through(*points)(0.0625) == pytest.approx(1.0 - 0.8 * (1 + math.cos(math.pi / 4)) / 2)


def test_warm_up_plateau_and_linear_decay_are_those_of_torch():
    steps = 40
    weight = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.SGD([weight], lr=1.0)
    parts = [
        torch.optim.lr_scheduler.LinearLR(optimiser, 1e-9, 1.0, 10),
        torch.optim.lr_scheduler.ConstantLR(optimiser, 1.0, 1),
        torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, 20),
    ]
    theirs = torch.optim.lr_scheduler.SequentialLR(optimiser, parts, [10, 20])
    ours = through((0, 0), (0.25, 1), (0.5, 1), (1, 0), straight=True)
    for step in range(steps):
        assert ours(step / steps) == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-6)
        optimiser.step()
        theirs.step()


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([], "go up from progress 0 to 1"),
        ([(0, 1)], "go up"),
        ([(0.1, 1), (1, 0)], "go up"),
        ([(0, 1), (0.9, 0)], "go up"),
        ([(0, 1), (0.6, 1), (0.5, 1), (1, 0)], "go up"),
        ([(0, 1), (0.5, 1), (0.5, 0), (1, 0)], "go up"),
        ([(0, 1), (1, -0.1)], "at least 0"),
        ([(0, math.nan), (1, 0)], "finite"),
    ],
)
def test_points_that_make_no_schedule_are_refused(points, said):
    with pytest.raises(ValueError, match=said):
        through(*points)
