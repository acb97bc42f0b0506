"""Batches mapped by a function, where that is asked."""

from lib.learner import BatchTransform, DataLoaders
from tests.learner.problem import learner, loaders, same, weights


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
