"""The loaders that are timed against each other yield the same batches."""

import torch

from bench import loaders


def test_both_ways_are_timed_and_equal():
    said = []
    transform, formatted = loaders.records(said.append, images=300, pairs=1)
    assert transform.same
    assert formatted.same
    assert [transform.name, formatted.name] == ["loaders/with_transform", "loaders/with_format"]
    assert "local" in transform.note or "shipped" in transform.note
    assert len(said) == 2


def test_batches_that_differ_show():
    x = torch.zeros(2, 3)
    assert loaders.equal((x,), (x.clone(),))
    assert not loaders.equal((x,), (x + 1,))
    assert not loaders.equal((x,), (x.double(),))


def test_the_hub_data_set_holds_the_pictures():
    split = loaders.data.load("fashion_mnist", sizes=(3, 1)).train
    made = loaders.hugging_face(split, tuple("ABCDEFGHIJ"))
    images, labels = loaders.in_tensors(made)
    assert torch.equal(images[:, 0], split.images)
    assert torch.equal(labels, split.labels)
