"""Pictures changed at random stay pictures: of their size, their kind, their range, and whatever the batch split."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from lib import augment
from lib.augment import (
    Augment,
    cutmix,
    mean_probabilities,
    mixup,
    picture_generators,
    random_copy,
    random_crop,
    random_erase,
    random_flip,
)
from lib.learner import Accuracy, Checkpoint, DataLoaders, Learner, Metrics

CHANGES = [random_crop, random_flip, random_erase, random_copy]
by_change = pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)


def pictures(n=4, c=1, h=7, w=9, dtype=torch.float32, seed=0):
    x = torch.rand(n, c, h, w, generator=torch.Generator().manual_seed(seed))
    return (x * 255).to(dtype) if dtype == torch.uint8 else x.to(dtype)


SHAPES = st.tuples(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))


@by_change
@given(shape=SHAPES, dtype=st.sampled_from([torch.float32, torch.float16, torch.uint8]), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_shape_type_and_range_are_kept(change, shape, dtype, seed):
    x = pictures(*shape, dtype=dtype, seed=seed)
    before = x.clone()
    y = change(x, picture_generators(seed, len(x), 0))
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert torch.equal(x, before)
    low, high = x.flatten(1).amin(1), x.flatten(1).amax(1)
    if change is random_crop:
        low = low.clamp(max=0)  # what is padded is 0
    assert (y.flatten(1).amin(1) >= low).all()
    assert (y.flatten(1).amax(1) <= high).all()


@by_change
@given(shape=SHAPES, split=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_result_does_not_depend_on_how_the_batch_is_split(change, shape, split, seed):
    x = pictures(*shape, seed=seed)
    whole = change(x, picture_generators(seed, len(x), 3))
    parts, start = [], 3
    for part in x.split(split):
        parts.append(change(part, picture_generators(seed, len(part), start)))
        start += len(part)
    assert torch.equal(whole, torch.cat(parts))


@by_change
def test_another_seed_is_another_change(change):
    x = pictures(16)
    results = [change(x, picture_generators(seed, 16, 0)) for seed in (0, 0, 1)]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@by_change
def test_the_channels_of_a_picture_change_together(change):
    x = pictures(12).expand(-1, 3, -1, -1)
    y = change(x, picture_generators(5, 12, 0))
    assert torch.equal(y[:, 0], y[:, 1])
    assert torch.equal(y[:, 0], y[:, 2])
    assert not torch.equal(y, x)


@pytest.mark.parametrize("padding", [0, 1, 3])
def test_a_crop_is_a_window_of_the_padded_picture_and_each_is_found(padding):
    x = pictures(1, h=5, w=4).expand(600, -1, -1, -1)
    y = random_crop(x, picture_generators(0, 600, 0), padding)
    padded = F.pad(x[:1], [padding] * 4)
    windows = padded.unfold(2, 5, 1).unfold(3, 4, 1).reshape(-1, 5 * 4)
    found = {int((windows == one.flatten()).all(1).nonzero()[0]) for one in y}
    assert found == set(range((2 * padding + 1) ** 2))


def test_what_is_padded_has_the_value_that_is_wished():
    y = random_crop(torch.zeros(50, 1, 3, 3), picture_generators(0, 50, 0), padding=2, fill=-0.5)
    assert set(y.unique().tolist()) == {-0.5, 0.0}


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_a_flip_comes_as_often_as_its_probability_says(p):
    x = pictures(1).expand(800, -1, -1, -1)
    y = random_flip(x, picture_generators(1, 800, 0), p)
    flipped = (y == x.flip(-1)).flatten(1).all(1)
    assert (flipped | (y == x).flatten(1).all(1)).all()
    assert flipped.float().mean().item() == pytest.approx(p, abs=4 * (p * (1 - p) / 800) ** 0.5)


@pytest.mark.parametrize("change", [random_erase, random_copy])
def test_an_area_changes_that_is_a_rectangle_of_the_wished_size(change):
    x = torch.arange(20.0 * 30).view(1, 1, 20, 30).expand(300, -1, -1, -1)
    y = change(x, picture_generators(2, 300, 0), p=1.0, scale=(0.05, 0.1), ratio=(0.5, 2.0))
    changed = (y != x)[:, 0]
    for one in changed:
        if one.any():  # a copy may come from where it goes
            rows, columns = one.any(1).nonzero()[:, 0], one.any(0).nonzero()[:, 0]
            height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
            assert (height + 0.5) * (width + 0.5) >= 0.05 * 600  # sides are rounded
            assert (height - 0.5) * (width - 0.5) <= 0.1 * 600
            assert (height - 0.5) / (width + 0.5) <= 2.0
            assert (height + 0.5) / (width - 0.5) >= 0.5
    assert changed.any(2).any(1).float().mean() > 0.9
    assert 0.04 < changed.float().mean() < 0.1


def test_what_is_erased_has_in_expectation_the_mean_and_the_deviation_of_the_picture():
    x = pictures(1, h=12, w=12).square().expand(3000, -1, -1, -1)  # skew, as pictures are
    y = random_erase(x, picture_generators(3, 3000, 0), p=1.0, scale=(0.2, 0.2), ratio=(1.0, 1.0))
    filled = y[y != x]
    spread = x[0].std().item()
    assert filled.mean().item() == pytest.approx(x[0].mean().item(), abs=4 * spread / len(filled) ** 0.5 + 0.002)
    assert filled.std().item() == pytest.approx(spread, rel=0.01)
    assert torch.isin(filled, x[0]).all()
    noise = x[0].mean() + spread * torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    cut = noise.clamp(x[0].min(), x[0].max())  # as noise has to be, to keep the range
    assert abs(cut.mean() - x[0].mean()) > 5 * abs(filled.mean() - x[0].mean())
    assert abs(cut.std() - spread) > 5 * abs(filled.std() - spread)


def test_what_is_copied_is_a_piece_of_the_picture():
    x = torch.arange(40.0 * 40).view(1, 1, 40, 40).expand(100, -1, -1, -1)
    y = random_copy(x, picture_generators(4, 100, 0), p=1.0)
    shift = (y - x)[:, 0]
    for one in shift:  # the numbers of a piece are those of its new place and the same shift everywhere
        assert len(one[one != 0].unique()) <= 1


def test_mixup_blends_pictures_and_probabilities_by_a_number_from_beta():
    x, y = pictures(3000, h=2, w=2), torch.arange(3000) % 7
    mixed, targets = mixup(x, y, picture_generators(5, 3000, 0), 7, alpha=0.4)
    share = ((mixed - x.roll(-1, 0)) / (x - x.roll(-1, 0))).flatten(1).median(1).values
    one_hot = F.one_hot(y, 7).float()
    wanted = share[:, None] * one_hot + (1 - share[:, None]) * one_hot.roll(-1, 0)
    torch.testing.assert_close(targets, wanted, rtol=0, atol=1e-3)
    assert stats.kstest(share.double().numpy(), stats.beta(0.4, 0.4).cdf).pvalue > 0.01


def test_cutmix_takes_a_rectangle_of_the_next_picture_and_its_share_of_the_class():
    x = torch.arange(200.0).view(200, 1, 1, 1).expand(-1, 3, 8, 6)
    y = torch.arange(200) % 5
    mixed, targets = cutmix(x, y, picture_generators(6, 200, 0), 5)
    own = mixed == x
    assert torch.equal(own | (mixed == x.roll(-1, 0)), torch.ones_like(own))
    share = own[:, 0].flatten(1).float().mean(1)
    torch.testing.assert_close(targets[range(200), y], share)
    torch.testing.assert_close(targets[range(200), y.roll(-1)], 1 - share)
    for other in ~own[:, 0]:
        rows, columns = other.any(1), other.any(0)
        assert torch.equal(other, rows[:, None] & columns)
    assert 0.2 < share.mean() < 0.8


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_probabilities_can_be_mixed_again(mix):
    x, y = pictures(6), torch.arange(6) % 3
    generators = picture_generators(7, 6, 0)
    once = mix(x, y, generators, 3)
    twice, targets = mix(*once, generators, 3)
    assert twice.shape == x.shape
    torch.testing.assert_close(targets.sum(1), torch.ones(6))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (partial(random_flip, p=1.5), "p must be.*1.5"),
        (partial(random_flip, p=float("nan")), "p must be.*nan"),
        (partial(random_erase, p=-0.1), "p must be.*-0.1"),
        (partial(random_erase, scale=(0.0, 0.2)), r"scale.*\(0.0, 0.2\)"),
        (partial(random_erase, scale=(0.5, 1.2)), r"scale.*\(0.5, 1.2\)"),
        (partial(random_copy, ratio=(2.0, 1.0)), r"ratio.*\(2.0, 1.0\)"),
        (partial(random_crop, padding=-1), "padding.*-1"),
        (lambda x, g: mixup(x, torch.zeros(4, dtype=torch.long), g, 3, alpha=0.0), "alpha.*0.0"),
        (lambda x, g: random_flip(x[0], g), r"\[n, c, h, w\].*\[1, 7, 9\]"),
        (lambda x, g: random_copy(x, g[:3]), "3 for 4"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(call, named):
    with pytest.raises(ValueError, match=named):
        call(pictures(), picture_generators(0, 4, 0))


# In a fit


def seen_by(model, loaders, callbacks, epochs=2):
    Learner(model, loaders, F.cross_entropy, partial(torch.optim.SGD, lr=0.0), callbacks).fit(epochs)
    return model.seen


class Watching(nn.Module):
    """A classifier that keeps what it is trained on, and tested on."""

    def __init__(self):
        super().__init__()
        self.linear, self.seen, self.tested = nn.Linear(63, 2), [], []

    def forward(self, x):
        (self.seen if self.training else self.tested).extend(x)
        return self.linear(x.flatten(1))


def loaders(size):
    x, y = pictures(12), torch.arange(12) % 2
    return DataLoaders(list(zip(x.split(size), y.split(size), strict=True)), [(x, y)])


def test_the_pictures_of_a_fit_are_the_same_whatever_the_batch_size_and_new_in_each_epoch():
    change = Augment(random_crop, random_flip, random_erase, seed=3)
    model = Watching()
    four = torch.stack(seen_by(model, loaders(4), [change]))
    five = torch.stack(seen_by(Watching(), loaders(5), [change]))
    assert torch.equal(four, five)
    assert not torch.equal(four[:12], four[12:])
    assert torch.equal(torch.stack(model.tested[:12]), pictures(12))


def test_a_fit_that_is_resumed_goes_on_with_the_pictures_that_would_have_come(tmp_path):
    whole = torch.stack(seen_by(Watching(), loaders(4), [Augment(random_crop, random_copy)], epochs=3))
    path = tmp_path / "state.pt"
    seen_by(Watching(), loaders(4), [Augment(random_crop, random_copy), Checkpoint(path)], epochs=1)
    rest = seen_by(Watching(), loaders(4), [Augment(random_crop, random_copy), Checkpoint(path)], epochs=3)
    assert torch.equal(torch.stack(rest), whole[12:])


def test_a_mix_blends_each_batch_with_its_targets_after_the_other_changes():
    targets = []

    def loss(preds, y):
        targets.append(y)
        return nn.functional.cross_entropy(preds, y)

    change = Augment(random_flip, mix=partial(mixup, classes=2), seed=3)
    model = Watching()
    Learner(model, loaders(4), loss, partial(torch.optim.SGD, lr=0.0), [change, Metrics(accuracy=Accuracy())]).fit(1)
    x, y = pictures(12), torch.arange(12) % 2
    for i in range(0, 12, 4):
        part = slice(i, i + 4)
        generators = picture_generators(3, 4, i)
        wanted, shares = mixup(random_flip(x[part], generators), y[part], generators, classes=2)
        torch.testing.assert_close(torch.stack(model.seen[part]), wanted)
        torch.testing.assert_close(targets[i // 4], shares)
    assert targets[-1].shape == (12,)  # tests are left as they are


# Several views, several models


def test_views_and_models_give_the_mean_of_their_probabilities():
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Flatten(), nn.Linear(63, 5)) for _ in range(3)]
    x, mirror = pictures(6), partial(torch.flip, dims=[3])
    wanted = sum(model(view).softmax(1) for model in models for view in (x, x.flip(3))) / 6
    got = mean_probabilities(models, x, [mirror])
    torch.testing.assert_close(got, wanted)
    assert not got.requires_grad
    torch.testing.assert_close(mean_probabilities(models[:1], x), models[0](x).softmax(1))
    with pytest.raises(ValueError, match="at least one model"):
        mean_probabilities([], x)


def test_generators_of_a_sample_are_its_own():
    first = [torch.rand(2, generator=g) for g in picture_generators(1, 5, 0)]
    later = [torch.rand(2, generator=g) for g in picture_generators(1, 2, 3)]
    assert torch.equal(torch.stack(first[3:]), torch.stack(later))
    assert len({tuple(drawn.tolist()) for drawn in first}) == 5
    assert augment.uniform(picture_generators(1, 5, 0), 2).tolist() == torch.stack(first).tolist()
