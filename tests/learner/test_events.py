"""Callbacks: which are refused, in which order they are called, which events a cancelled phase still dispatches."""

import math
import re

import pytest
import torch
from torch import nn

from lib.learner import (
    EVENTS,
    Callback,
    CancelBatch,
    CancelEpoch,
    CancelFit,
    CancelPass,
    CancelStep,
    LearnerState,
    Metrics,
    MixedPrecision,
    TrainStep,
)
from lib.learner.events import STEPS
from tests.learner.problem import event_log, everything, learner, raising, same, weights

PHASES = [event for event in EVENTS if event.startswith("cleanup_")]


def defining(name, function):
    return type("Mine", (Callback,), {name: function})()


def test_a_callback_finds_on_a_learner_all_that_it_may_know_of():
    missing = []

    class Look(Callback):
        def after_loss(self, learn):
            missing.extend(name for name in sorted(members) if not hasattr(learn, name))

    members = LearnerState.__annotations__.keys() | {name for name in vars(LearnerState) if not name.startswith("_")}
    assert {"model", "batch", "active_callbacks", "inputs", "progress"} <= members
    learner([Look()]).fit(1)
    assert not missing


# What is refused


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("after_bach", "after_batch"),
        ("before_epochs", "before_epoch"),
        ("cleanup_fitt", "cleanup_fit"),
        ("befor_fit", "before_fit"),
        ("zero_grads", "zero_grad"),
        ("after_zerograd", "after_zero_grad"),
    ],
)
def test_an_unknown_event_is_refused_with_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f"^Mine.*'{wrong}'; did you mean '{near}'"):
        learner([defining(wrong, lambda self, learn: None)])


@pytest.mark.parametrize("name", ["steps", "batches", "losses", "state_dict", "_before_fit", "fitted", "passes"])
def test_other_names_are_free(name):
    learner([defining(name, lambda self, learn: None)])


def test_the_learner_dispatches_no_unknown_event():
    with pytest.raises(ValueError, match="'before_bath'; did you mean 'before_batch'"):
        learner().dispatch("before_bath")


def test_a_class_is_no_callback():
    with pytest.raises(TypeError, match=r"class Metrics.*Metrics\(\.\.\.\)"):
        learner([Metrics])
    with pytest.raises(TypeError, match=r"lib\.learner\.Callback.*function"):
        learner().fit(1, callbacks=[weights])


@pytest.mark.parametrize(
    ("method", "written"),
    [
        (lambda: None, "()"),
        (lambda learn: None, "(learn)"),
        (lambda self, learn, more: None, "(self, learn, more)"),
        (lambda self, learn, *, more: None, "(self, learn, *, more)"),
        (3, "3"),
    ],
)
def test_a_method_that_takes_something_else_is_refused(method, written):
    with pytest.raises(TypeError, match=rf"Mine\.after_batch.*\(self, learn\).* {re.escape(written)} "):
        learner([defining("after_batch", method)])


def test_arguments_with_defaults_are_fine():
    kept = []
    learner([defining("after_batch", lambda self, learn, kept=kept: kept.append(learn.batch_index))]).fit(1)
    assert kept == [*range(7), 0, 1]


@pytest.mark.parametrize("step", STEPS)
def test_two_callbacks_cannot_define_one_step(step):
    one, other = (defining(step, lambda self, learn: None) for _ in range(2))
    with pytest.raises(ValueError, match=f"'{step}'.*Mine and Mine"):
        learner([one, other])


def test_one_train_step_at_most():
    with pytest.raises(ValueError, match=r"one TrainStep.*TrainStep, TrainStep"):
        learner([TrainStep(), TrainStep()])


# Order


def test_handlers_are_called_in_order_and_clean_up_in_reverse():
    kept = []
    late, first, second = (event_log(kept, order=order, name=name) for name, order in (("c ", 5), ("a ", 0), ("b ", 0)))
    learner([late, first, second]).fit(1)
    grouped = {}
    for entry in kept:
        name, event = entry.split()
        grouped.setdefault(event, []).append(name)
    for event, names in grouped.items():
        expected = ["c", "b", "a"] if event.startswith("cleanup_") else ["a", "b", "c"]
        assert names == expected * (len(names) // 3), event
    assert grouped.keys() == set(EVENTS) - set(STEPS)


def test_a_fit_dispatches_all_events_in_their_order():
    kept = []
    learner([event_log(kept)], data=None).fit(1)
    steps = [f"{when}_{step}" for step in STEPS for when in ("before", "after")]
    batch = ["before_batch", *steps, "after_batch", "cleanup_batch"]
    valid = ["before_batch", *steps[:4], "after_batch", "cleanup_batch"]
    assert kept == [
        "before_fit",
        "before_epoch",
        *("before_train", *batch * 7, "after_train", "cleanup_train"),
        *("before_valid", *valid * 2, "after_valid", "cleanup_valid"),
        *("after_epoch", "cleanup_epoch", "after_fit", "cleanup_fit"),
    ]


# Cancelling


def dispatched(event, cancel, only, times=1):
    """Return which events of `only` are dispatched in a fit of two epochs where a callback cancels `times` times."""
    kept = []

    class Cancels(Callback):
        order = -1

    def cancelling(self, learn):
        self.left = getattr(self, "left", times) - 1
        if self.left >= 0:
            raise cancel

    setattr(Cancels, event, cancelling)
    learner([Cancels(), event_log(kept, only)]).fit(2)
    return kept


EPOCHS = ("before_epoch", "after_epoch", "cleanup_epoch", "after_train", "cleanup_train", "before_valid", "after_fit")
WHOLE = ["before_epoch", "after_train", "cleanup_train", "before_valid", "after_epoch", "cleanup_epoch"]


def test_a_cancelled_fit_ends_there_and_cleans_up():
    kept = dispatched("before_loss", CancelFit, (*EPOCHS, "cleanup_batch", "after_batch", "cleanup_fit"))
    assert kept == ["before_epoch", "cleanup_batch", "cleanup_train", "cleanup_epoch", "after_fit", "cleanup_fit"]


def test_a_cancelled_epoch_leaves_out_its_passes_only():
    kept = dispatched("after_predict", CancelEpoch, EPOCHS)
    assert kept == ["before_epoch", "cleanup_train", "after_epoch", "cleanup_epoch", *WHOLE, "after_fit"]


def test_a_cancelled_pass_is_followed_by_the_next():
    assert dispatched("after_batch", CancelPass, EPOCHS) == [*WHOLE, *WHOLE, "after_fit"]
    batches = dispatched("after_batch", CancelPass, ("before_batch", "after_train"))
    assert batches == ["before_batch", "after_train", *["before_batch"] * 9, "after_train", *["before_batch"] * 2]


def test_a_cancelled_batch_leaves_out_the_rest_of_its_steps():
    events = ("before_batch", "after_backward", "before_step", "after_step", "after_batch", "cleanup_batch")
    kept = dispatched("before_step", CancelBatch, events)
    assert kept[:4] == ["before_batch", "after_backward", "after_batch", "cleanup_batch"]
    assert kept[4:10] == list(events)
    assert kept.count("cleanup_batch") == 18


def test_what_is_cancelled_before_it_began_is_not_finished():
    assert dispatched("before_fit", CancelFit, ("after_fit", "before_epoch", "cleanup_fit")) == ["cleanup_fit"]
    assert dispatched("before_epoch", CancelEpoch, EPOCHS) == ["cleanup_epoch", *WHOLE, "after_fit"]
    batches = dispatched("before_batch", CancelBatch, ("after_batch", "after_step", "cleanup_batch"))
    assert batches[:4] == ["cleanup_batch", "after_step", "after_batch", "cleanup_batch"]


def test_skipping_steps_accumulates_gradients():
    """CancelStep leaves the gradients, so four batches make one step: that of their summed losses."""

    class Accumulate(Callback):
        def before_step(self, learn):
            if learn.step_count % 4 and learn.step_count != 7:
                raise CancelStep

    learn = learner([Accumulate()])
    reference = learner()
    learn.fit(1)
    model, optimiser = reference.model.train(), None
    optimiser = reference.make_optimiser(model.parameters())
    for i, (x, y) in enumerate(reference.data.train, 1):
        reference.loss(model(x), y).backward()
        if i in (4, 7):
            optimiser.step()
            optimiser.zero_grad()
    assert same(weights(learn.model), weights(model))
    assert learn.progress == 1


def test_a_cancelled_step_leaves_out_the_step_only():
    events = ("after_backward", "before_step", "after_step", "before_zero_grad", "after_batch", "cleanup_batch")
    kept = dispatched("before_step", CancelStep, events)
    assert kept[:3] == ["after_backward", "after_batch", "cleanup_batch"]
    assert kept[3:9] == list(events)


class OnlyThird(Callback):
    """Cancels the first two batches of a fit, whose gradients it spoils."""

    order = 99

    def __init__(self, event, cancel):
        def spoil(learn):
            if learn.training and learn.step_count < 3:
                for p in learn.model.parameters():
                    if p.grad is not None:
                        p.grad.fill_(math.nan)
                raise cancel

        setattr(self, event, spoil)


@pytest.mark.parametrize("cancel", [CancelBatch, CancelPass, CancelEpoch])
@pytest.mark.parametrize("event", ["after_loss", "after_backward", "before_step", "after_step", "before_zero_grad"])
def test_gradients_do_not_survive_a_cancelled_batch(event, cancel):
    """Each step takes its own batch's gradient; a skipped NaN poisons nothing."""
    seen = []

    class Look(Callback):
        order = 100

        def before_step(self, learn):
            found = [p.grad.clone() for p in learn.model.parameters()]
            learn.model.zero_grad()
            learn.loss(learn.model(*learn.inputs), learn.targets).backward()
            seen.append(same(found, [p.grad for p in learn.model.parameters()]))

    learn = learner([OnlyThird(event, cancel), Look()])
    learn.model = nn.Linear(6, 3)
    learn.fit(3)
    assert seen.count(True) == len(seen) > 6


@pytest.mark.parametrize("cancel", [CancelFit, CancelEpoch, CancelPass, CancelBatch, CancelStep])
def test_a_cancel_that_nothing_catches_says_where_it_was_raised(cancel):
    where = "after_fit" if cancel is not CancelFit else "cleanup_fit"
    learn = learner([raising(where, cancel())])
    with pytest.raises((cancel, RuntimeError), match=rf"Failing\.{where}|cancel.*{where}"):
        learn.fit(1)


# Clean-up


@pytest.mark.parametrize("event", PHASES)
def test_an_error_in_clean_up_keeps_no_other_from_it(event):
    kept = []
    callbacks = [
        event_log(kept, PHASES, order=-1, name="outer "),
        raising(event, OSError("first")),
        raising(event, OSError("second")),
        event_log(kept, PHASES, order=1, name="inner "),
    ]
    learn = learner(callbacks)
    before = everything(learn) | {"state": None, "gradients": None, "random": None, "learner": None}
    with pytest.raises(OSError, match=f"second\nin Failing.{event}"):
        learn.fit(1)
    last = [name for name in kept if name.endswith("cleanup_fit")]
    assert last == ["inner cleanup_fit", "outer cleanup_fit"]
    assert kept.count(f"outer {event}") == kept.count(f"inner {event}") >= 1
    after = everything(learn)
    assert all(same(after[key], before[key]) for key in before if before[key] is not None)


@pytest.mark.parametrize("order", [-1, 1])
def test_a_cancel_in_clean_up_does_not_hide_an_error(order):
    learn = learner([raising("after_loss", KeyboardInterrupt()), raising("cleanup_batch", CancelFit(), order=order)])
    with pytest.raises(RuntimeError, match=r"cancel.*cleanup_batch") as caught:
        learn.fit(1)
    assert isinstance(caught.value.__context__, KeyboardInterrupt)


def test_a_method_of_a_library_callback_can_be_replaced():
    """A subclass of a library callback may replace one of its methods, and the rest copes."""

    class Quiet(MixedPrecision):
        def before_predict(self, learn):
            assert not torch.is_autocast_enabled("cpu")

    learner([Quiet()]).fit(1)
