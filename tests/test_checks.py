"""A name that is not known is refused, and the nearest is told."""

import pytest

from lib.checks import check_choice


@pytest.mark.parametrize("name", ["flat", "gaussian"])
def test_a_known_name_passes(name):
    assert check_choice("kernel", name, ("flat", "gaussian")) is None


@pytest.mark.parametrize(("name", "near"), [("gausian", "gaussian"), ("FLAT", "flat"), ("", "flat"), (None, "flat")])
def test_the_nearest_name_is_told(name, near):
    with pytest.raises(ValueError, match=r"unknown kernel .*; did you mean .* Known: flat, gaussian") as refusal:
        check_choice("kernel", name, iter(("flat", "gaussian")))
    assert repr(name) in str(refusal.value)
    if name:
        assert f"did you mean {near!r}" in str(refusal.value) or name.isupper()


def test_there_may_be_no_names_at_all():
    with pytest.raises(ValueError, match="unknown file 'a'; Known: none"):
        check_choice("file", "a", ())
