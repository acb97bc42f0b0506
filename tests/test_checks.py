"""A name that is not known is refused, and the nearest is told; counts are whole."""

import numpy as np
import pytest
import torch

from lib.checks import check_choice, check_count, wide


@pytest.mark.parametrize("name", ["flat", "gaussian"])
def test_a_known_name_passes(name):
    assert check_choice("kernel", name, ("flat", "gaussian")) is None


@pytest.mark.parametrize(("name", "near"), [("gausian", "gaussian"), ("FLAT", "flat"), ("", "flat"), (None, "flat")])
def test_the_nearest_name_is_told(name, near):
    with pytest.raises(ValueError, match=r"kernel .*did you mean .*flat, gaussian") as refusal:
        check_choice("kernel", name, iter(("flat", "gaussian")))
    assert repr(name) in str(refusal.value)
    if name:
        assert f"did you mean {near!r}" in str(refusal.value) or name.isupper()


def test_there_may_be_no_names_at_all():
    with pytest.raises(ValueError, match="file 'a'"):
        check_choice("file", "a", ())


@pytest.mark.parametrize("value", [1, 7, 3.0, np.int64(4), torch.tensor(5)])
def test_a_count_comes_back_whole(value):
    found = check_count("steps", value)
    assert type(found) is int
    assert found == value


@pytest.mark.parametrize("value", [0, -1, 0.5, 2.5, float("nan"), float("inf")])
def test_what_counts_nothing_is_refused_by_name(value):
    with pytest.raises(ValueError, match=f"steps.*{value}"):
        check_count("steps", value)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.uint8, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_what_is_summed_is_wide_and_what_is_wide_stays(given, wanted):
    x = torch.tensor([1, 2, 250], dtype=given)
    assert wide(x).dtype == wanted
    assert wide(x).tolist() == [1, 2, 250]
    assert (wide(x) is x) == (given == wanted)
