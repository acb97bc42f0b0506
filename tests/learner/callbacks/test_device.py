"""Devices: every part of a batch moves, and so does the model."""

import torch

from lib.learner import Callback, DeviceCallback
from lib.learner.callbacks.device import to_device
from tests.learner.problem import learner, same, weights


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


def test_a_copy_to_the_cpu_is_waited_for(monkeypatch):
    """One that is not waited for is read before it has arrived."""
    asked, to = [], torch.Tensor.to

    def spy(tensor, device, non_blocking=False):
        asked.append((str(device), non_blocking))
        return to(tensor, device)

    monkeypatch.setattr(torch.Tensor, "to", spy)
    to_device((torch.ones(1), torch.ones(1)), "cpu")
    to_device(torch.ones(1), torch.device("meta"))
    assert asked == [("cpu", False), ("cpu", False), ("meta", True)]
