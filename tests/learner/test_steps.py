"""The five steps, and what they say of a batch that the model or the loss cannot take."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.learner import BatchTransform, DataLoaders, TrainStep
from lib.learner.steps import describe
from tests.learner.problem import learner, loaders, same, weights


def test_a_batch_is_described_however_nested():
    batch = {"x": torch.ones(2, 3), "more": [torch.ones(2).long(), "a"]}
    assert describe(batch) == "{x: float32 [2, 3] on cpu, more: int64 [2] on cpu, str}"


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda preds, y: F.cross_entropy(preds, y, reduction="none"), r"scalar.*float32 \[8\] on cpu"),
        (lambda preds, y: F.cross_entropy(preds, y).item(), "scalar.* float"),
        (lambda preds, y: None, "scalar.*NoneType"),
    ],
)
def test_a_loss_that_is_no_scalar_is_refused(loss, message):
    with pytest.raises(ValueError, match=f"loss.*{message}"):
        learner(loss=loss).fit(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.double(), r"inputs.*float64 \[8, 6\] on cpu.*weights float32"),
        (lambda x: x.to("meta"), "inputs.*meta.*weights on cpu.*DeviceCallback"),
    ],
)
def test_a_wrong_dtype_or_device_is_named(change, message):
    learn = learner([BatchTransform(lambda batch: (change(batch[0]), batch[1]))])
    with pytest.raises(ValueError, match=message) as caught:
        learn.fit(1)
    assert "TrainStep.predict, epoch 0, train batch 0" in caught.value.__notes__[0]
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_pictures_in_bytes_are_named():
    data = DataLoaders([(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2).long())])
    with pytest.raises(ValueError, match=r"inputs.*uint8 \[2, 1, 4, 4\] on cpu.*weights float32"):
        learner(model=nn.Sequential(nn.Conv2d(1, 3, 4), nn.Flatten()), data=data).fit(1)


def test_a_wrong_target_is_described_with_the_error_of_torch():
    learn = learner([BatchTransform(lambda batch: (batch[0], batch[1].int()))])
    with pytest.raises(RuntimeError, match=r"TrainStep\.loss.*float32 \[8, 6\] on cpu, int32 \[8\] on cpu"):
        learn.fit(1)


def test_a_batch_of_one_under_batch_norm_is_named():
    with pytest.raises(ValueError, match=r"TrainStep\.predict.*train batch 6.*float32 \[1, 6\]"):
        learner(data=loaders(49)).fit(1)
    data = loaders(49)
    data.train.drop_last = True
    assert learner(data=data).fit(1).step_count == 6


def test_other_errors_of_a_model_stay_themselves():
    class Broken(nn.Linear):
        def forward(self, x):
            raise TypeError("a fault of the model")

    with pytest.raises(TypeError, match=r"a fault of the model\nin TrainStep\.predict"):
        learner(model=Broken(6, 3)).fit(1)


def test_a_train_step_of_ones_own():
    class Twice(TrainStep):
        def loss(self, learn):
            super().loss(learn)
            learn.loss_value = learn.loss_value * 2

    ours = learner([Twice()]).fit(1)
    doubled = learner(loss=lambda preds, y: F.cross_entropy(preds, y) * 2).fit(1)
    assert same(weights(ours.model), weights(doubled.model))
