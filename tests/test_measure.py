"""Records refuse what would mislead, and a comparison finds the ratio of functions whose cost is known."""

import json
import time

import numpy as np
import pytest

from lib import measure


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"value": float("nan")}, "value.*nan"),
        ({"value": float("inf")}, "value.*inf"),
        ({"value": True}, "value.*True"),
        ({"value": "3"}, "value.*'3'"),
        ({"unit": ""}, "unit"),
        ({"reference": 2.0}, r"reference 2\.0.*source"),
        ({"unit": "time ratio"}, "time ratio.*same"),
    ],
)
def test_a_record_refuses_what_would_mislead(fields, words):
    with pytest.raises(ValueError, match=f"'a/b'.*{words}"):
        measure.Record(**({"name": "a/b", "value": 1.0, "unit": "s"} | fields))


def test_a_record_travels_as_json_without_what_is_not_set():
    record = measure.Record("a/b", 2, "time ratio", same=False, target="<= 3")
    fields = json.loads(json.dumps(record.as_dict()))
    assert fields["same"] is False
    assert fields["target"] == "<= 3"
    assert "peer" not in fields
    assert measure.Record(**fields) == record


def test_the_machine_and_the_versions_are_named():
    record = measure.Record("a/b", 1, "s")
    assert "cores" in record.machine
    assert record.versions["python"].count(".") == 2


@pytest.mark.parametrize("factor", [1, 4])
def test_the_ratio_of_known_costs_is_found(factor):
    result = measure.compare(lambda: time.sleep(0.002 * factor), lambda: time.sleep(0.002), pairs=9, warmup=0)
    assert factor / 2 < result.ratio < factor * 2
    assert result.low <= result.ratio <= result.high
    assert result.ours >= 0.002 * factor
    assert result.n == 9


def test_short_calls_are_repeated_until_the_clock_can_tell():
    calls = []
    measure.compare(lambda: calls.append(0), lambda: time.sleep(1e-4), pairs=1, warmup=1, shortest=1e-2)
    assert len(calls) > 1000


def test_a_call_that_was_interrupted_does_not_decide_how_many_are_timed(monkeypatch):
    now, calls = [0.0], []

    def ours():
        calls.append(0)
        now[0] += 5e-3 if len(calls) == 1 else 1e-4  # the first was kept waiting

    def theirs():
        now[0] += 1

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    measure.compare(ours, theirs, pairs=1, warmup=0, shortest=1e-3)
    assert len(calls) == 3 + 10 + 10  # tries, calls that let the caches settle, and those that are timed


def test_the_order_alternates_and_the_device_is_waited_for():
    order = []
    measure.compare(
        lambda: (order.append("ours"), time.sleep(0.002)),
        lambda: (order.append("theirs"), time.sleep(0.002)),
        pairs=2,
        warmup=0,
        sync=lambda: order.append("sync"),
    )
    timed = order[-12:]
    assert timed[1::3] == ["ours", "theirs", "theirs", "ours"]
    assert timed[0::3] == timed[2::3] == ["sync"] * 4


def test_one_pair_is_its_own_quartiles():
    result = measure.compare(lambda: None, lambda: None, pairs=1)
    assert result.low == result.ratio == result.high


@pytest.mark.parametrize("options", [{"pairs": 0, "warmup": 2}, {"pairs": 25, "warmup": -1}])
def test_counts_that_measure_nothing_are_refused(options):
    with pytest.raises(ValueError, match="pairs={pairs}, warmup={warmup}".format(**options)):
        measure.compare(lambda: None, lambda: None, **options)


def test_samples_in_turn_alternate_and_their_quartiles_are_numpys():
    order = []
    ours, theirs = measure.in_turn(
        lambda: order.append("a"), lambda: order.append("b"), pairs=4, warmup=0, shortest=0.0
    )
    assert len(ours) == len(theirs) == 4
    assert "".join(order[2:]) == "abbaabba"
    values = [5.0, 1.0, 3.0, 2.0, 9.0, 4.0]
    assert measure.quartiles(values) == pytest.approx(np.quantile(values, (0.25, 0.5, 0.75)))
    assert measure.quartiles([2.0]) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("limit", "above", "below"), [(1.0, True, False), (1.9, None, None), (2.0, None, None), (2.5, False, True)]
)
def test_a_comparison_tells_only_what_its_spread_allows(limit, above, below):
    comparison = measure.Comparison(ours=2.0, theirs=1.0, ratio=2.0, low=1.8, high=2.2, n=25)
    assert comparison.above(limit) is above
    assert comparison.below(limit) is below


@pytest.mark.parametrize(
    ("verdicts", "together"),
    [((True, True), True), ((True, None), None), ((None, False), False), ((False, None), False), ((), True)],
)
def test_several_verdicts_hold_together_only_if_each_does(verdicts, together):
    assert measure.every(*verdicts) is together
