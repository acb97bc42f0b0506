"""Metrics over a pass are those of all its items at once, whatever the sizes of the batches."""

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from lib.data.loaders import FastLoader
from lib.learner import Accuracy, Callback, DataLoaders, Mean, Metrics
from tests.learner.problem import learner, loaders, normal

TARGETS = torch.arange(37) % 3


def logits():
    return normal(37, 3)


def batches(sizes):
    return zip(logits().split(sizes), TARGETS.split(sizes), strict=True)


SIZES = st.lists(st.integers(1, 36), min_size=1).map(lambda sizes: _filled(sizes))


def _filled(sizes):
    out = []
    for size in sizes:
        if sum(out) + size < 37:
            out.append(size)
    return [*out, 37 - sum(out)]


@settings(max_examples=30, deadline=None)
@given(SIZES)
def test_means_and_accuracy_do_not_depend_on_the_batches(sizes):
    accuracy, mean = Accuracy(), Mean()
    for preds, targets in batches(sizes):
        accuracy.update(preds, targets)
        mean.update(F.cross_entropy(preds, targets), len(preds))
    assert accuracy.compute() == accuracy_score(TARGETS, logits().argmax(1))
    assert mean.compute() == pytest.approx(F.cross_entropy(logits(), TARGETS).item(), rel=1e-6)
    accuracy.reset()
    mean.reset()
    assert [accuracy.compute() != accuracy.compute(), mean.compute() != mean.compute()] == [True, True]  # nan


def test_the_log_holds_the_figures_of_the_whole_pass():
    learn = learner([Metrics(accuracy=Accuracy(), mse=lambda p, y: F.mse_loss(p, F.one_hot(y, 3).float()))]).fit(2)
    assert [*learn.log] == ["train_loss", "train_accuracy", "train_mse", "valid_loss", "valid_accuracy", "valid_mse"]
    for loader in (learn.data.valid, learn.data.train):
        x, y = loader.tensors
        with torch.no_grad():
            preds = learn.model.eval()(x)
        result = learn.evaluate(loader)
        assert result["loss"] == pytest.approx(F.cross_entropy(preds, y).item(), rel=1e-5)
        assert result["accuracy"] == accuracy_score(y, preds.argmax(1))
        assert result["mse"] == pytest.approx(F.mse_loss(preds, F.one_hot(y, 3).float()).item(), rel=1e-5)
        assert all(type(value) is float for value in result.values())


def test_a_callback_given_before_reads_what_is_logged():
    class Reads(Callback):
        def after_valid(self, learn):
            seen.append(learn.log["valid_accuracy"])

    seen = []
    learn = learner([Reads(), Metrics(accuracy=Accuracy())]).fit(1)
    assert seen == [learn.log["valid_accuracy"]]


def test_accuracy_of_pixels_counts_each():
    preds, targets = normal(2, 3, 4, 5), normal(2, 4, 5, seed=1).gt(0).long()
    accuracy = Accuracy()
    accuracy.update(preds, targets)
    assert accuracy.compute() == accuracy_score(targets.flatten(), preds.argmax(1).flatten())


def test_of_targets_that_are_probabilities_the_largest_counts():
    accuracy, blended = Accuracy(), F.one_hot(TARGETS, 3).float().lerp(torch.full((3,), 1 / 3), 0.4)
    accuracy.update(logits(), blended)
    assert accuracy.compute() == accuracy_score(TARGETS, logits().argmax(1))


@pytest.mark.parametrize(
    ("preds", "targets"), [((5, 3), (5, 1)), ((5, 3), (4,)), ((5,), (5,)), ((5,), ()), ((5, 3, 2), (5, 4))]
)
def test_shapes_that_do_not_go_together_are_refused(preds, targets):
    given = re.escape(f"{list(preds)} and {list(targets)}")
    with pytest.raises(ValueError, match=rf"accuracy.*\[n, classes, \.\.\.\].*\[n, \.\.\.\].*{given}"):
        Accuracy().update(torch.zeros(preds), torch.zeros(targets).long())


def test_a_metric_that_fails_in_a_fit_says_where():
    data = DataLoaders(FastLoader(normal(8, 6), normal(8, 3), batch_size=4))
    with pytest.raises(ValueError, match=r"accuracy(.|\n)*Metrics\.after_loss.*epoch 0.*train batch 0"):
        learner([Metrics(accuracy=Accuracy())], data=data, loss=F.mse_loss).fit(1)


def test_a_search_for_a_rate_computes_no_metrics():
    learner([Metrics(share=lambda preds, y: pytest.fail("asked for"))]).lr_find(steps=3)


class Largest:
    """The least that a metric must have."""

    def __init__(self):
        self.value = -1.0

    def reset(self):
        self.value = -1.0

    def update(self, preds, targets):
        assert not preds.requires_grad
        self.value = max(self.value, preds.max().item())

    def compute(self):
        return self.value


def test_any_object_with_the_three_methods_will_do():
    learn = learner([Metrics(largest=Largest())]).fit(1)
    assert learn.evaluate()["largest"] == learn.predict().max().item()


@pytest.mark.parametrize(
    ("package", "kind", "options"),
    [
        ("torchmetrics.classification", "MulticlassF1Score", {"num_classes": 3, "average": "macro"}),
        ("torcheval.metrics", "MulticlassF1Score", {"num_classes": 3, "average": "macro"}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_metrics_of_other_libraries_work(package, kind, options):
    metric = getattr(pytest.importorskip(package), kind)(**options)
    learn = learner([Metrics(f1=metric)]).fit(1)
    result = learn.evaluate()
    y = loaders().valid.tensors[1]
    assert result["f1"] == pytest.approx(f1_score(y, learn.predict().argmax(1), average="macro"), rel=1e-6)
    assert learn.log["valid_f1"] == result["f1"]


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        ({"accuracy": Accuracy}, TypeError, "'accuracy'.*class Accuracy"),
        ({"share": 0.5}, TypeError, r"'share'.*update.*compute.*reset.*0\.5"),
        ({"loss": Accuracy()}, ValueError, "loss"),
    ],
)
def test_what_is_no_metric_is_refused(metrics, error, message):
    with pytest.raises(error, match=message):
        Metrics(**metrics)


@pytest.mark.parametrize(
    ("part", "size"),
    [(torch.ones(5, 2), 5), (["a", "b"], 2), ((torch.ones(4), torch.ones(4)), 4), ({"x": torch.ones(3)}, 3)],
)
def test_items_are_counted_in_the_first_part_of_a_batch(part, size):
    data = DataLoaders([(part, torch.zeros(1)), (part, torch.ones(1))], [(part, torch.zeros(1))])

    class Constant(torch.nn.Linear):
        def forward(self, *inputs):
            return self.bias

    metrics = Metrics()
    learner([metrics], model=Constant(1, 1), data=data, loss=lambda p, y: p.sum() * 0 + y.mean()).fit(1)
    assert metrics.mean_loss.count == size


def test_losses_in_half_precision_are_summed_in_single():
    mean = Mean()
    for _ in range(3000):
        mean.update(torch.tensor(1.0, dtype=torch.bfloat16))
    assert mean.compute() == 1.0


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_a_mean_adds_up_numbers_and_tensors_alike(count):
    values = [0.1 * i for i in range(count)]
    sizes = [1 + i % 3 for i in range(count)]
    expected = sum(value * n for value, n in zip(values, sizes, strict=True)) / sum(sizes)
    numbers, tensors, ones = Mean(), Mean(), Mean()
    for value, n in zip(values, sizes, strict=True):
        numbers.update(value, n)
        tensors.update(torch.tensor(value, dtype=torch.float64), n)
        ones.update(torch.tensor([value]), n)  # a loss of one element
    assert numbers.compute() == pytest.approx(expected, rel=1e-14)
    assert tensors.compute() == pytest.approx(expected, rel=1e-14)
    assert ones.compute() == pytest.approx(expected, rel=1e-6)
    assert numbers.compute() == numbers.compute()  # asking twice adds nothing


def test_a_value_without_a_number_of_items_is_that_of_one():
    mean = Mean()
    mean.update(2.0)
    mean.update(4.0, 3)
    assert mean.compute() == 3.5
