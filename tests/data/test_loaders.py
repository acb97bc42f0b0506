"""Loaders: every item once, the same for a seed, and the same batches whichever way they are made."""

import pickle

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from lib import data
from lib.data.loaders import (
    DataLoaders,
    FastLoader,
    Normalise,
    as_float,
    collate_dict,
    image_transform,
    in_memory,
    in_tensors,
    inplace,
)


def passes(loader, n=2):
    return [[batch[0].tolist() for batch in loader] for _ in range(n)]


def flat(batches):
    return [item for batch in batches for item in batch]


# The fast loader


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 45), st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_each_item_comes_once_in_batches_of_the_size(n, batch_size, shuffle, drop_last, seed):
    x = torch.arange(n)
    loader = FastLoader(x, x * 2, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last, seed=seed)
    for _ in range(2):
        batches = list(loader)
        sizes = [len(first) for first, _ in batches]
        whole = [batch_size] * (n // batch_size)
        assert sizes == whole + ([n % batch_size] if n % batch_size and not drop_last else [])
        assert len(loader) == len(batches)
        assert all(torch.equal(second, first * 2) for first, second in batches)
        items = flat(first.tolist() for first, _ in batches)
        assert len(set(items)) == len(items)
        if not drop_last:
            assert sorted(items) == list(range(n))
        if not shuffle:
            assert items == list(range(len(items)))


def test_a_seed_gives_the_same_batches_and_each_pass_another_order():
    make = lambda seed: FastLoader(torch.arange(30), batch_size=4, shuffle=True, seed=seed)  # noqa: E731
    torch.manual_seed(0)
    first = passes(make(1), 3)
    torch.manual_seed(9)
    assert passes(make(1), 3) == first
    assert passes(make(2), 3) != first
    assert first[0] != first[1] != first[2]
    assert flat(first[0]) != sorted(flat(first[0]))


def test_batches_are_those_of_the_permutation_that_torch_draws():
    x = torch.arange(10) * 3
    order = torch.randperm(10, generator=torch.Generator().manual_seed(5))
    batches = list(FastLoader(x, batch_size=4, shuffle=True, seed=5))
    assert torch.equal(torch.cat([batch[0] for batch in batches]), x[order])


def test_random_numbers_of_others_are_left_alone():
    state = torch.get_rng_state()
    passes(FastLoader(torch.arange(30), batch_size=4, shuffle=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_pass_that_is_left_early_is_over():
    loader = FastLoader(torch.arange(9), batch_size=2)
    next(iter(loader))
    assert flat(passes(loader, 1)[0]) == list(range(9))


def test_the_transform_maps_the_first_tensor_and_leaves_the_data():
    x, y = torch.ones(6, 2), torch.arange(6)
    loader = FastLoader(x, y, batch_size=4, transform=lambda x: x * 5, shuffle=True)
    for a, b in loader:
        assert (a == 5).all()
        assert a.dtype == torch.float32
        assert b.max() < 6
    assert (x == 1).all()


def test_tensors_are_moved_to_the_device_once():
    loader = FastLoader(torch.arange(6), torch.arange(6), batch_size=4, device="meta", transform=lambda x: x + 1)
    assert {part.device.type for batch in loader for part in batch} == {"meta"}
    assert {tensor.device.type for tensor in loader.tensors} == {"meta"}


@pytest.mark.parametrize(
    ("tensors", "options", "told"),
    [
        ((), {}, r"tensors \[n, \.\.\.\].*nothing"),
        ((torch.ones(3), [1, 2, 3]), {}, r"tensors \[n, \.\.\.\].*Tensor, list"),
        ((torch.tensor(1.0),), {}, r"tensors \[n, \.\.\.\].*Tensor$"),
        ((torch.ones(3), torch.ones(4, 2)), {}, r"tensors.*\[3\], \[4, 2\]"),
        ((torch.ones(3),), {"batch_size": 0}, "batch_size.*1.* 0"),
    ],
)
def test_what_cannot_be_loaded_is_refused(tensors, options, told):
    with pytest.raises(ValueError, match=told):
        FastLoader(*tensors, **{"batch_size": 2} | options)


def test_no_items_make_no_batches():
    loader = FastLoader(torch.ones(0, 3), batch_size=2)
    assert (len(loader), list(loader)) == (0, [])
    assert len(FastLoader(torch.ones(3), batch_size=4, drop_last=True)) == 0


# Pictures in memory


@pytest.fixture(scope="module")
def clothes():
    return data.load("fashion_mnist", sizes=(120, 30))


def test_training_images_have_mean_0_and_deviation_1(clothes):
    loaders = in_memory(clothes, 16)
    x = torch.cat([x for x, _ in loaders.train])
    assert x.shape == (120, 1, 28, 28)
    assert x.dtype == torch.float32
    assert x.mean().item() == pytest.approx(0, abs=1e-5)
    assert x.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    x, y = (torch.cat(parts) for parts in zip(*loaders.valid, strict=True))
    pixels = clothes.train.images.double() / 255
    expected = (clothes.test.images[:, None].double() / 255 - pixels.mean()) / pixels.std(correction=0)
    assert torch.allclose(x.double(), expected, atol=1e-5)  # scaled as the training images are
    assert torch.equal(y, clothes.test.labels)
    assert [len(y) for _, y in loaders.valid] == [30]


def test_a_transform_of_ones_own_or_none(clothes):
    plain = in_memory(clothes, 16, transform=None, valid_batch_size=7)
    assert [len(y) for _, y in plain.valid] == [7, 7, 7, 7, 2]
    x = torch.cat([x for x, _ in plain.valid])
    assert torch.equal(x, clothes.test.images[:, None].float() / 255)
    double = in_memory(clothes, 16, transform=lambda x: x * 2)
    assert torch.equal(torch.cat([x for x, _ in double.valid]), x * 2)
    with pytest.raises(ValueError, match=r"transform.*'normalise'.*None.*function.*'scale'"):
        in_memory(clothes, 16, transform="scale")


def test_the_seed_decides_the_order(clothes):
    labels = lambda seed: torch.cat([y for _, y in in_memory(clothes, 16, seed=seed).train]).tolist()  # noqa: E731
    assert labels(1) == labels(1) != labels(2)
    assert sorted(labels(1)) == sorted(clothes.train.labels.tolist())


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int64, torch.bool])
def test_numbers_of_which_white_is_not_known_are_no_fractions(dtype):
    with pytest.raises(ValueError, match=str(dtype)):
        as_float(torch.ones(2, dtype=dtype))


def test_bytes_become_fractions_and_floats_stay():
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(as_float(pixels), torch.arange(256) / 255)
    assert pixels.tolist() == list(range(256))
    x = torch.ones(3, dtype=torch.float64)
    assert as_float(x) is x


@pytest.mark.parametrize("images", [torch.arange(200, dtype=torch.uint8), torch.rand(4, 5), torch.rand(7).double()])
def test_what_was_fitted_is_normalised(images):
    before = images.clone()
    x = Normalise.fitted(images)(images)
    assert x.mean().item() == pytest.approx(0, abs=1e-5)
    assert x.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(images, before)


def test_pictures_of_one_grey_cannot_be_normalised():
    with pytest.raises(ValueError, match=r"std.*0\.0"):
        Normalise.fitted(torch.ones(3, 3, dtype=torch.uint8))


# Hugging Face data sets


PICTURES = np.random.default_rng(0).integers(0, 256, (11, 5, 4), dtype=np.uint8)
COLOURED = np.random.default_rng(1).integers(0, 256, (11, 5, 4, 3), dtype=np.uint8)


def hub_of(pictures):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    columns = {"image": [Image.fromarray(picture) for picture in pictures], "label": list(range(11))}
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.mark.parametrize("pictures", [PICTURES, COLOURED], ids=["grey", "coloured"])
def test_all_ways_give_the_same_batches(pictures):
    hub = hub_of(pictures)
    channels_first = pictures[:, None] if pictures.ndim == 3 else pictures.transpose(0, 3, 1, 2)
    expected = torch.from_numpy(channels_first.copy()).float() / 255

    transformed = hub.with_transform(image_transform())
    formatted = hub.with_format("torch")
    ways = {
        "with_transform": DataLoader(transformed, 4, collate_fn=collate_dict(transformed)),
        "with_format": ((as_float(x), y) for x, y in DataLoader(formatted, 4, collate_fn=collate_dict(formatted))),
        "in_tensors": FastLoader(*in_tensors(hub), batch_size=4, transform=as_float),
        "in_tensors of a transformed set": FastLoader(*in_tensors(transformed), batch_size=4, transform=as_float),
    }
    for name, loader in ways.items():
        batches = list(loader)
        assert [type(batch) for batch in batches] == [tuple] * 3, name
        assert torch.equal(torch.cat([x for x, _ in batches]), expected), name
        assert torch.equal(torch.cat([y for _, y in batches]), torch.arange(11)), name


def test_loaders_of_splits_are_shuffled_by_their_seed():
    splits = datasets.DatasetDict(train=hub_of(PICTURES), test=hub_of(PICTURES[::-1].copy()))
    splits = splits.with_transform(image_transform())
    orders = []
    for seed in (1, 1, 2):
        loaders = DataLoaders.from_splits(splits, 4, seed=seed)
        orders.append([torch.cat([y for _, y in loaders.train]).tolist() for _ in range(2)])
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][0] != orders[0][1]
    assert sorted(orders[0][0]) == list(range(11))
    assert [y.tolist() for _, y in loaders.valid] == [list(range(8)), [8, 9, 10]]
    x = next(iter(loaders.valid))[0]
    assert torch.equal(x, torch.from_numpy(PICTURES[::-1].copy())[:8, None].float() / 255)
    with pytest.raises(ValueError, match=r"split.*\['train'\]"):
        DataLoaders.from_splits(datasets.DatasetDict(train=splits["train"]), 4)


def test_inplace_returns_the_batch_that_a_function_changed():
    @inplace
    def double(batch):
        """Double it."""
        batch["x"] = [2 * x for x in batch["x"]]

    batch = {"x": [1, 2], "y": [3, 4]}
    assert double(batch) is batch
    assert batch == {"x": [2, 4], "y": [3, 4]}
    assert (double.__name__, double.__doc__) == ("double", "Double it.")
    hub = datasets.Dataset.from_dict({"x": [1, 2], "y": [3, 4]}).with_transform(double)
    assert hub[:] == {"x": [2, 4], "y": [3, 4]}


def test_a_picture_may_be_turned_by_another_function_in_another_column():
    hub = hub_of(PICTURES).rename_column("image", "scan")
    turned = hub.with_transform(image_transform(lambda picture: torch.tensor(picture.size), "scan"))
    assert turned[0]["scan"].tolist() == [4, 5]
    with pytest.raises(ValueError, match=r"column 'image'.*scan, label"):
        hub.with_transform(image_transform())[0]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([torch.ones(2, 3), torch.ones(4, 3)], r"column 'x'.* shapes \[2, 3\], \[4, 3\]"),
        ([np.ones(2), np.ones(3)], r"column 'x'.* shapes \[2\], \[3\]"),
        ([[1, 2], [1, 2, 3]], r"column 'x'.* shapes \[2\], \[3\]"),
        ([[[1, 2], [3]]], r"column 'x'.* shapes \[1\], \[2\]"),
        ([[], [1]], r"column 'x'.* shapes \[0\], \[1\]"),
        ([{"box": [1, 2]}, {"box": [1]}], r"column 'x\.box'.* shapes \[1\], \[2\]"),
        ([{"box": 1}, {"mask": 1}], "column 'x'.* keys.*box.*mask"),
        ([[1, 2], None], "column 'x'.*NoneType, list"),
        ([[1, None]], "column 'x'.*NoneType"),
        ([[Image.new("L", (2, 2))]], r"column 'x'.*PIL\.Image\.Image"),
        ([Image.new("L", (2, 2))] * 2, r"column 'x'.*PIL\.Image\.Image"),
        ([None, None], "column 'x'.*NoneType"),
    ],
)
def test_ragged_items_are_named_by_their_column(values, told):
    collate = collate_dict(["y", "x"])
    with pytest.raises(ValueError, match=told):
        collate([{"x": value, "y": i} for i, value in enumerate(values)])


def test_lists_are_rows():
    items = [{"box": [0, 1, 2], "label": 7}, {"box": [3, 4, 5], "label": 8}]
    box, label = collate_dict(["box", "label"])(items)
    assert (box.tolist(), label.tolist()) == ([[0, 1, 2], [3, 4, 5]], [7, 8])
    box, label = in_tensors(datasets.Dataset.from_list(items))
    assert (box.tolist(), label.tolist()) == ([[0, 1, 2], [3, 4, 5]], [7, 8])


def collated(*values):
    return collate_dict(["x"])([{"x": value} for value in values])[0]


def test_rows_are_of_any_depth_and_kind():
    cube = np.arange(24).reshape(2, 3, 4)
    assert torch.equal(collated(*cube.tolist()), torch.from_numpy(cube))
    assert torch.equal(collated(*map(tuple, cube[0].tolist())), torch.from_numpy(cube[0]))
    assert torch.equal(collated([torch.ones(2), torch.zeros(2)]), torch.tensor([[[1.0, 1], [0, 0]]]))
    halves = collated([0.5, 0.25], [1.5, 2.5])
    assert (halves.tolist(), halves.dtype) == ([[0.5, 0.25], [1.5, 2.5]], torch.float64)  # as single numbers are
    assert collated([True, False]).dtype == torch.bool
    assert collated([], []).shape == (2, 0)
    words = [["a", "b"], ["c"], []]
    assert collated(*words) == words
    assert collated("a", "b") == ["a", "b"]
    things = collated({"box": [[0, 1]], "name": "a"}, {"box": [[2, 3]], "name": "b"})
    assert (things["box"].tolist(), things["name"]) == ([[[0, 1]], [[2, 3]]], ["a", "b"])
    things = collated([{"box": [0, 1]}, {"box": [2, 3]}], [{"box": [4, 5]}, {"box": [6, 7]}])
    assert things["box"].tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]


def test_columns_that_a_transform_adds_are_kept():
    @inplace
    def add(batch):
        batch["mean"] = [sum(x) / len(x) for x in batch["x"]]

    hub = datasets.Dataset.from_dict({"x": [[0, 2], [4, 6]], "y": [1, 2]}).with_transform(add)
    (batch,) = DataLoader(hub, 2, collate_fn=collate_dict(hub))
    assert [column.tolist() for column in batch] == [[[0, 2], [4, 6]], [1, 2], [1.0, 5.0]]
    (batch,) = DataLoader(hub, 2, collate_fn=collate_dict(["mean", "x"]))  # these and no others
    assert [column.tolist() for column in batch] == [[1.0, 5.0], [[0, 2], [4, 6]]]
    with pytest.raises(ValueError, match=r"column 'mean'.*x, y"):
        collate_dict(hub)([{"x": 1, "y": 2, "mean": 3}, {"x": 1, "y": 2}])


def test_pictures_that_bytes_cannot_hold_are_the_same_in_all_ways():
    deep = np.array([[0, 4660, 65535]], np.uint16)
    hub = datasets.Dataset.from_dict(
        {"image": [Image.fromarray(deep), Image.new("L", (3, 1), 255)]},
        features=datasets.Features({"image": datasets.Image()}),
    )
    expected = torch.tensor([[[[0, 4660 / 65535, 1]]], [[[1.0, 1, 1]]]])
    assert torch.equal(as_float(in_tensors(hub)[0]), expected)
    assert torch.equal(torch.stack(hub.with_transform(image_transform())[:]["image"]), expected)


@pytest.mark.parametrize(
    ("mode", "white"),
    [("1", 1), ("L", 255), ("LA", (0, 0)), ("P", 0), ("CMYK", (0, 0, 0, 0)), ("I;16", 65535), ("I", 65535), ("F", 1.0)],
)
def test_white_is_one_in_every_mode(mode, white):
    picture = Image.new(mode, (3, 2), white)
    if mode == "P":
        picture.putpalette([255, 255, 255])
    (x,) = image_transform()({"image": [picture]})["image"]
    assert torch.equal(x, torch.ones(3 if mode in ("P", "CMYK") else 1, 2, 3))


def test_columns_without_numbers_are_named_when_decoded():
    with pytest.raises(ValueError, match=r"column 'x'.*str"):
        in_tensors(datasets.Dataset.from_dict({"x": ["a", "b"]}))
    with pytest.raises(ValueError, match="column 'x' "):
        in_tensors(datasets.Dataset.from_dict({"x": []}))


# Streams


def stream():
    return hub_of(PICTURES).to_iterable_dataset()


def test_a_stream_is_collated_whether_or_not_it_knows_its_columns():
    for source in (stream(), stream().map(lambda item: item)):
        x, y = next(iter(DataLoader(source.map(image_transform(), batched=True), 4, collate_fn=collate_dict(source))))
        assert torch.equal(x, torch.from_numpy(PICTURES[:4, None].copy()) / 255)
        assert y.tolist() == [0, 1, 2, 3]


def test_what_needs_a_length_names_what_streams_and_what_to_do():
    with pytest.raises(ValueError, match=r"stream.*Dataset\.from_list\(list\(stream\.take\(n\)\)"):
        in_tensors(stream())
    first = datasets.Dataset.from_list(list(stream().take(3)), features=stream().features)
    assert torch.equal(in_tensors(first)[0], torch.from_numpy(PICTURES[:3, None].copy()))
    with pytest.raises(ValueError, match=r"'test'.*__len__"):
        DataLoaders.from_splits({"train": hub_of(PICTURES), "test": stream()}, 4)


# Workers


@inplace
def negative(batch):
    batch["image"] = [1 - x for x in image_transform()(batch)["image"]]


def brightness(picture):
    return torch.tensor([np.asarray(picture).mean()])


def double(batch):
    batch["label"] = [2 * y for y in batch["label"]]


def test_what_workers_are_sent_pickles():
    batch = lambda: {"image": [Image.new("L", (2, 2), 51)], "label": [3]}  # noqa: E731
    for function in (image_transform(), image_transform(brightness), inplace(double)):
        ours, theirs = (f(batch()) for f in (function, pickle.loads(pickle.dumps(function))))
        assert ours["label"] == theirs["label"]
        assert np.array_equal(ours["image"][0], theirs["image"][0])
    assert pickle.loads(pickle.dumps(negative)).function is negative.function  # twice: pickling changes nothing
    assert pickle.loads(pickle.dumps(negative)).function is negative.function
    items = [{"image": torch.ones(2), "label": i} for i in range(3)]
    for collate in (collate_dict(["image", "label"]), collate_dict(hub_of(PICTURES))):
        ours, theirs = (f(items) for f in (collate, pickle.loads(pickle.dumps(collate))))
        assert all(map(torch.equal, ours, theirs))
    loader = in_memory(data.load("digits"), 8, transform=torch.sqrt).valid
    assert torch.equal(
        pickle.loads(pickle.dumps(loader.transform))(loader.tensors[0]), (loader.tensors[0] / 255).sqrt()
    )


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_workers_that_start_afresh_make_the_same_batches(start):
    splits = datasets.DatasetDict(train=hub_of(PICTURES), test=hub_of(PICTURES)).with_transform(negative)
    here, there = (
        DataLoaders.from_splits(splits, 4, **options).train
        for options in ({}, {"num_workers": 1, "multiprocessing_context": start})
    )
    for ours, theirs in zip(here, there, strict=True):
        assert all(map(torch.equal, ours, theirs))


def test_ragged_pictures_are_named_when_decoded():
    features = datasets.Features({"image": datasets.Image()})
    pictures = [Image.new("L", (2, 2)), Image.new("L", (3, 2))]
    hub = datasets.Dataset.from_dict({"image": pictures}, features=features)
    with pytest.raises(ValueError, match=r"column 'image'.*\[1, 2, 2\], \[1, 2, 3\]"):
        in_tensors(hub)


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match=r"column 'image'.*pixels, label"):
        collate_dict(["image", "label"])([{"pixels": 1, "label": 2}])


def test_columns_come_in_the_order_of_the_features():
    batch = collate_dict(["y", "x"])([{"x": 1, "y": torch.ones(2)}, {"x": 2, "y": torch.zeros(2)}])
    assert torch.equal(batch[0], torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    assert batch[1].tolist() == [1, 2]
