"""The loop is the one that people write by hand, to the bit; and it leaves nothing behind, whatever happens."""

import io
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lib.learner import (
    EMA,
    EVENTS,
    Accuracy,
    ActivationStats,
    BatchTransform,
    Callback,
    CancelBatch,
    DataLoaders,
    Metrics,
    MixedPrecision,
    Progress,
    Recorder,
    Scheduled,
    one_cycle,
)
from lib.learner.learner import split
from lib.nn.hooks import Hooks
from tests.learner.problem import (
    SGD,
    AdamW,
    everything,
    hooks,
    learner,
    loaders,
    net,
    normal,
    raising,
    same,
    weights,
)

# The same as by hand


@pytest.mark.parametrize("optimiser", [SGD, AdamW])
def test_a_fit_is_the_loop_written_by_hand(optimiser):
    torch.manual_seed(0)
    learn = learner([Metrics(accuracy=Accuracy()), Recorder(), Progress()], optimiser, model=net(dropout=0.3))
    learn.fit(3)

    torch.manual_seed(0)
    model, data = net(dropout=0.3), loaders()
    by_hand = optimiser(model.parameters())
    for _ in range(3):
        model.train()
        for x, y in data.train:
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            by_hand.step()
            by_hand.zero_grad()
        model.eval()
        with torch.no_grad():
            right = sum((model(x).argmax(1) == y).sum().item() for x, y in data.valid)
    assert same(weights(learn.model), weights(model))
    assert same(learn.optimiser.state_dict()["state"], by_hand.state_dict()["state"])
    assert learn.log["valid_accuracy"] == right / 20


def test_each_fit_has_a_new_optimiser_and_its_rate():
    learn = learner()
    first = learn.fit(1).optimiser
    second = learn.fit(1, lr=0.25).optimiser
    assert first is not second
    assert (first.param_groups[0]["lr"], second.param_groups[0]["lr"]) == (0.1, 0.25)
    assert learn.fit(1, lr=0.0).optimiser.param_groups[0]["lr"] == 0.0
    with pytest.raises(ValueError, match=r"epochs.*1.* 0"):
        learn.fit(0)
    with pytest.raises(ValueError, match=r"epochs.*1\.5"):
        learn.fit(1.5)


def test_gradients_of_an_interrupted_fit_do_not_reach_the_next():
    learn = learner()
    with pytest.raises(KeyboardInterrupt):
        learn.fit(1, callbacks=[raising("before_step", KeyboardInterrupt())])
    assert any(p.grad is not None for p in learn.model.parameters())
    learn.model, learn.data = net(), loaders()
    learn.model(normal(4, 6)).sum().backward()
    learn.model.load_state_dict(weights(net()))  # the running averages, too
    assert same(weights(learn.fit(1).model), weights(learner().fit(1).model))


def test_progress_goes_from_0_to_1_and_modes_follow_the_pass():
    seen = []

    class Look(Callback):
        def before_batch(self, learn):
            seen.append((learn.training, learn.stage, learn.model.training, torch.is_grad_enabled(), learn.progress))

    learn = learner([Look()])
    learn.model[1].eval()
    learn.fit(2)
    steps = [i / 14 for i in range(15)]
    train = [(True, "train", True, True, step) for step in steps]
    valid = [(False, "valid", False, False, step) for step in (0.5, 0.5, 1, 1)]
    assert seen == [*train[:7], *valid[:2], *train[7:14], *valid[2:]]
    assert [module.training for module in learn.model] == [True, False, True, True, True]


def test_a_learner_without_validation_data():
    learn = learner(data=DataLoaders(loaders().train)).fit(1)
    assert learn.log.keys() == {"train_loss"}
    with pytest.raises(ValueError, match="validation loader"):
        learn.evaluate()
    assert learn.evaluate(loaders().valid).keys() == {"loss"}


def test_a_callback_replaces_a_step():
    class SignStep(Callback):
        """Moves each weight by a fixed length against its gradient (Bernstein 2018, signSGD)."""

        def step(self, learn):
            with torch.no_grad():
                for p in learn.model.parameters():
                    p -= 0.01 * p.grad.sign()

    learn = learner([SignStep()]).fit(1)
    model, data = net().train(), loaders()
    for x, y in data.train:
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.01 * p.grad.sign()
    assert same(weights(learn.model), weights(model))


def test_denoising_in_a_few_lines():
    """Another regime: noise is added at a random level, the net is given the level and predicts the noise (DDPM)."""

    class Noise(Callback):
        def before_batch(self, learn):
            x, _ = learn.batch
            keep = torch.rand(len(x), 1)
            noise = torch.randn_like(x)
            learn.batch = (keep.sqrt() * x + (1 - keep).sqrt() * noise, keep, noise)

    class Denoiser(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(7, 32), nn.ReLU(), nn.Linear(32, 6))

        def forward(self, x, keep):
            return self.net(torch.cat([x, keep], 1))

    torch.manual_seed(0)
    recorder = Recorder()
    learn = learner([Noise(), recorder], AdamW, model=Denoiser(), loss=F.mse_loss, data=loaders(512, 32)).fit(8)
    losses = [row["train_loss"] for row in recorder.history]
    assert 0.5 < losses[-1] < 0.65 < losses[0]  # half of white noise looks like the signal
    inputs, preds, targets = learn.capture()
    assert [x.shape for x in (*inputs, preds, targets)] == [(20, 6), (20, 1), (20, 6), (20, 6)]


def test_distillation_in_a_few_lines():
    """Another regime: a student learns a teacher's probabilities from pictures without labels."""
    teacher = learner(optimiser=AdamW, data=loaders(256)).fit(5).model.eval()

    class Distil(Callback):
        def predict(self, learn):
            with torch.no_grad():
                self.wanted = teacher(learn.inputs[0])
            learn.preds = learn.model(learn.inputs[0])

        def loss(self, learn):
            preds, wanted = (F.log_softmax(logits, 1) for logits in (learn.preds, self.wanted))
            learn.loss_value = F.kl_div(preds, wanted, reduction="batchmean", log_target=True)

    student = nn.Linear(6, 3)
    before = weights(teacher)
    learn = learner([Distil()], AdamW, model=student, data=loaders(256)).fit(12)
    x = loaders().valid.tensors[0]
    agree = (student(x).argmax(1) == teacher(x).argmax(1)).float().mean()
    assert agree >= 0.8
    assert learn.evaluate()["loss"] < 0.2
    assert same(weights(teacher), before)


# What a batch is


@pytest.mark.parametrize(
    ("batch", "inputs", "targets"),
    [
        ([1, 2], (1,), 2),
        ((1, 2, 3), (1, 2), 3),
        ({"x": 1, "y": 2}, (1,), 2),
        ([1], (1,), None),
    ],
)
def test_the_last_part_of_a_batch_is_its_targets(batch, inputs, targets):
    assert split(batch) == (inputs, targets)


def test_a_tensor_is_a_batch_of_inputs():
    x = torch.ones(3)
    assert split(x)[0][0] is x
    assert split(x)[1] is None


def test_torch_data_loaders_do_as_well():
    x, y = loaders().train.tensors
    data = DataLoaders(DataLoader(TensorDataset(x, y), 8), DataLoader(TensorDataset(x, y), 16))
    learn = learner(data=data).fit(1)
    model = net().train()
    optimiser = SGD(model.parameters())
    for start in range(0, 52, 8):
        optimiser.zero_grad()
        F.cross_entropy(model(x[start : start + 8]), y[start : start + 8]).backward()
        optimiser.step()
    assert same(weights(learn.model), weights(model))


# What looks without touching


def busy(**options):
    """A learner in an odd state, whose every change would be seen."""
    learn = learner([Metrics(accuracy=Accuracy()), Recorder(), Progress(), Scheduled(lr=one_cycle())], **options)
    learn.fit(1)
    learn.model[1].eval()
    learn.model(normal(4, 6)).sum().backward()
    return learn


def with_torch_loaders():
    x, y = loaders().train.tensors
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    train, valid = (DataLoader(TensorDataset(x, y), 8, shuffle=True, generator=g) for g in generators)
    return DataLoaders(train, valid)


ASIDE = {
    "evaluate": lambda learn: learn.evaluate(),
    "evaluate train": lambda learn: learn.evaluate(learn.data.train),
    "predict": lambda learn: learn.predict(),
    "capture": lambda learn: learn.capture(learn.data.train),
    "lr_find": lambda learn: learn.lr_find(steps=20),
}


class Drawing(nn.Module):
    """Draws from every source of random numbers, in evaluation too, and puts a new buffer in place of its old one."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))
        self.register_buffer("later", None)

    def forward(self, x):
        import random

        import numpy as np

        noise = random.random() + np.random.rand() + torch.rand(1)  # noqa: NPY002 - the global state is the point
        self.seen = self.seen + 1
        self.later = x[:1].detach()
        return x + 0.01 * noise


@pytest.mark.parametrize("aside", ASIDE)
@pytest.mark.parametrize("data", [loaders, with_torch_loaders])
def test_only_a_fit_changes_anything(aside, data):
    learn = busy(data=data(), model=nn.Sequential(*net(dropout=0.2), Drawing()))
    recorder, before = learn.callbacks[1], everything(learn)
    metric = vars(learn.callbacks[0].metrics["accuracy"]).copy() if aside == "lr_find" else None
    history, optimiser, lrs = [*recorder.history], learn.optimiser, [*recorder.lrs]
    ASIDE[aside](learn)
    assert same(everything(learn), before)
    assert (recorder.history, recorder.lrs) == (history, lrs)
    assert learn.optimiser is optimiser
    if metric:
        assert vars(learn.callbacks[0].metrics["accuracy"]) == metric


@pytest.mark.parametrize("aside", ASIDE)
@pytest.mark.parametrize("error", [OSError("broken"), KeyboardInterrupt()])
def test_nothing_is_changed_when_it_fails_half_way(aside, error):
    learn = busy(data=with_torch_loaders(), model=nn.Sequential(*net(dropout=0.2), Drawing()))

    class FailsLater(Callback):
        def after_predict(self, learn):
            if learn.batch_index == 1:
                raise error

    learn.callbacks += [FailsLater(), MixedPrecision()]
    before = everything(learn)
    with pytest.raises(type(error)):
        ASIDE[aside](learn)
    assert same(everything(learn), before)
    assert learn.batch is learn.preds is learn.loss_value is None


def test_a_learner_that_never_fitted_can_look_too_and_names_faults():
    learn = learner()
    before = everything(learn)
    x, y = learn.data.valid.tensors
    with torch.no_grad():
        expected = F.cross_entropy(learn.model.eval()(x), y).item()
    learn.model.train()
    assert learn.evaluate()["loss"] == pytest.approx(expected, rel=1e-6)
    assert same(everything(learn), before)
    learn.callbacks.append(raising("after_loss", OSError("broken")))
    with pytest.raises(OSError, match=r"broken\nin Failing.after_loss, epoch 0, valid batch 0: float32 \[16, 6\]"):
        learn.evaluate()


def test_evaluation_in_the_middle_of_a_fit_does_not_disturb_it():
    kept = []

    class Looks(Callback):
        order = 70

        def after_epoch(self, learn):
            kept.append(learn.evaluate(loaders(40).train))

        def after_valid(self, learn):
            kept.append(learn.predict())

    torch.manual_seed(0)
    looked = learner([EMA(0.9), Recorder()], model=net(dropout=0.3))
    looked.fit(2, callbacks=[Looks()])
    torch.manual_seed(0)
    plain = learner([EMA(0.9), Recorder()], model=net(dropout=0.3)).fit(2)
    assert same(weights(looked.model), weights(plain.model))
    assert looked.callbacks[1].losses == plain.callbacks[1].losses
    assert len(kept) == 4


def test_a_fit_ends_with_no_batch_in_memory():
    learn = learner().fit(1)
    assert learn.batch is learn.preds is learn.loss_value is None


# Predictions


def test_predict_and_capture_return_what_the_model_saw():
    learn = learner([BatchTransform(lambda batch: (batch[0] * 2, batch[1]))]).fit(1)
    x, y = learn.data.valid.tensors
    with torch.no_grad():
        expected = learn.model.eval()(x * 2)
    inputs, preds, targets = learn.capture()
    assert torch.equal(inputs, x * 2)
    assert torch.allclose(preds, expected, atol=1e-6)
    assert torch.equal(targets, y)
    assert torch.equal(learn.predict(), preds)
    assert learn.evaluate()["loss"] == pytest.approx(F.cross_entropy(expected, y).item(), rel=1e-6)


def test_predictions_may_be_nested_and_targets_absent():
    class Two(nn.Module):
        def forward(self, x):
            return {"twice": x * 2, "all": (x, x + 1)}

    data = DataLoaders([torch.ones(2, 1)], [torch.ones(2, 1), torch.zeros(1, 1)])
    inputs, preds, targets = learner(model=Two(), data=data).capture()
    assert inputs.tolist() == [[1], [1], [0]]
    assert preds["twice"].tolist() == [[2], [2], [0]]
    assert preds["all"][1].tolist() == [[2], [2], [1]]
    assert targets is None


@pytest.mark.parametrize("method", ["evaluate", "predict", "capture"])
def test_an_empty_loader_is_refused(method):
    with pytest.raises(ValueError, match=r"loader .*empty"):
        getattr(learner(), method)([])


@pytest.mark.parametrize("name", ["train", "valid"])
def test_a_fit_on_an_empty_loader_is_refused(name):
    data = loaders()
    setattr(data, name, [])
    with pytest.raises(ValueError, match=f"loader for {name} .*empty"):
        learner(data=data).fit(1)


class Stream(IterableDataset):
    """Batches come of it; how many, it cannot say."""

    def __iter__(self):
        return iter(TensorDataset(normal(8, 6), torch.arange(8) % 3))


class Counted:
    """What the error asks for: a loader that says how many batches a pass has."""

    def __init__(self, loader, batches):
        self.loader, self.batches = loader, batches

    def __iter__(self):
        return iter(self.loader)

    def __len__(self):
        return self.batches


@pytest.mark.parametrize("name", ["train", "valid"])
def test_a_fit_on_a_stream_says_that_a_length_is_needed_before_it_trains(name):
    data = loaders()
    setattr(data, name, DataLoader(Stream(), 4))
    learn = learner(data=data)
    before = weights(learn.model)
    with pytest.raises(ValueError, match=f"loader for {name} .*__len__"):
        learn.fit(1)
    assert same(before, weights(learn.model))


def test_whatever_reads_a_stream_says_that_a_length_is_needed():
    learn = learner(data=DataLoaders(DataLoader(Stream(), 4)))
    for call in (learn.evaluate, learn.predict, learn.capture):
        with pytest.raises(ValueError, match=r"loader .*__len__"):
            call(batch for batch in ())
    with pytest.raises(ValueError, match=r"loader for train .*__len__"):
        learn.lr_find()


def test_a_stream_that_says_its_length_is_trained_on_as_its_items_are():
    items = list(Stream())
    ours, theirs = (
        learner(data=DataLoaders(loader, loader)).fit(2)
        for loader in (Counted(DataLoader(Stream(), 4), 2), DataLoader(items, 4))
    )
    assert same(weights(ours.model), weights(theirs.model))
    assert ours.log == theirs.log


# Faults


class Terminal(io.StringIO):
    def isatty(self):
        return True


def crowd(model, event=None, error=None):
    """All that could leave something behind, and one that fails."""
    fails = [raising(event, error)] if event and event not in ("backward", "step") else []
    precision = MixedPrecision() if fails or not event else raising(event, error, MixedPrecision, MixedPrecision.order)
    parts = [ActivationStats([model[2], model[4]], backward=True), ActivationStats([model[2]]), precision]
    return [*parts, Progress(interval=0), Recorder(), EMA(0.9), Metrics(accuracy=Accuracy()), *fails]


@pytest.fixture(scope="module")
def clean():
    """The weights and the history of a fit in which nothing fails."""
    torch.manual_seed(0)
    model = net(dropout=0.2)
    callbacks = crowd(model)
    learner(callbacks, model=model).fit(1)
    return weights(model), callbacks[4].losses


FAULTS = [(event, OSError("broken")) for event in EVENTS] + [
    (event, KeyboardInterrupt())
    for event in (
        "before_fit",
        "after_predict",
        "backward",
        "after_loss",
        "before_valid",
        "after_batch",
        "cleanup_epoch",
    )
]


@pytest.mark.parametrize(("event", "error"), FAULTS, ids=lambda value: str(value) or "Ctrl-C")
def test_a_callback_that_raises_leaves_nothing_behind(event, error, clean, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    model = net(dropout=0.2)
    model[1].eval()
    callbacks = crowd(model, event, error)
    learn = learner(callbacks, model=model)
    with pytest.raises(type(error)) as caught:
        learn.fit(1)
    if isinstance(error, OSError):
        assert any(note.startswith(f"in Failing.{event}") for note in caught.value.__notes__)
        if "batch" in event or event.split("_")[-1] in ("predict", "loss", "step"):
            assert "epoch 0, train batch 0: float32 [8, 6] on cpu, int64 [8] on cpu" in caught.value.__notes__[0]
    assert hooks(model) == [0] * 6
    assert not torch.is_autocast_enabled("cpu")
    assert torch.is_grad_enabled()
    assert [module.training for module in model] == [True, False, True, True, True]
    assert terminal.getvalue() in ("", "\r\033[K") or terminal.getvalue().endswith("\r\033[K")
    assert learn.batch is learn.preds is learn.loss_value is None
    assert learn.active_callbacks == []

    # The same fit once more, without the fault, is as if there had been none.
    model[1].train()
    model.load_state_dict(weights(net()))
    learn.data = loaders()
    learn.callbacks = [callback for callback in callbacks if type(callback).__name__ != "Failing"]
    learn.callbacks += [MixedPrecision()] if event in ("backward", "step") else []
    torch.manual_seed(0)
    learn.fit(1)
    recorder = next(callback for callback in callbacks if isinstance(callback, Recorder))
    assert same((weights(model), recorder.losses), clean)


def test_hooks_of_others_stay_on():
    learn, calls = learner(), []
    with Hooks([learn.model[2]], lambda *_: calls.append(1)) as watched:
        learn.evaluate()
        assert hooks(learn.model)[3] == len(watched) == 1
    assert len(calls) == 2


def test_a_skipped_batch_changes_no_weight():
    learn = learner([raising("before_batch", CancelBatch())])
    before = weights(learn.model)
    learn.fit(1)
    assert same(weights(learn.model), before)


def test_a_rate_given_to_a_fit_keeps_the_share_of_each_parameter_group():
    def grouped(_):
        body, head = [*model[:4].parameters()], [*model[4].parameters()]
        return torch.optim.SGD([{"params": body, "lr": 1e-4}, {"params": head}], lr=1e-2)

    model = net()
    learn = learner(optimiser=grouped, model=model).fit(1, lr=0.5)
    assert [group["lr"] for group in learn.optimiser.param_groups] == pytest.approx([0.005, 0.5])
    assert [group["lr"] for group in learn.fit(1).optimiser.param_groups] == [1e-4, 1e-2]
    learn = learner(optimiser=lambda ps: torch.optim.SGD(ps, lr=0.0)).fit(1, lr=0.3)
    assert learn.optimiser.param_groups[0]["lr"] == 0.3
