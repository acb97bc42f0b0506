"""The results page says what the records say, and nothing else."""

import json
import re
from pathlib import Path

import pytest

from lib.publish import results


@pytest.fixture
def root(demo, tmp_path: Path) -> Path:
    return demo.make(tmp_path)


def test_the_page_holds_each_record_and_no_other(root: Path, demo) -> None:
    saved = demo.RECORD | {"name": "bench/a", "value": 3.0, "target": "<= 2.2", "same": False, "machine": "Another"}
    quoted = {"name": "bench/b", "value": 93.1, "unit": "%", "reference": 91.5, "source": "Somebody 2020", "n": 3}
    (root / "bench" / "results").mkdir(parents=True)
    (root / "bench/results/matmul.json").write_text(json.dumps([saved, quoted]))
    text = results.write(root).read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert [re.match(r"\| `([^`]*)`", row)[1] for row in rows] == ["speed", "bench/a", "bench/b"]
    post, bench, quote = rows
    assert "## [First things](posts/01-first/index.ipynb)" in text
    assert "`python -m bench matmul`" in text
    for part in ("1.84 ×", "time ratio", "1.8\u00a0to\u00a01.9", "25 pairs", "torch", "ours 9.2 ms, theirs 5 ms"):
        assert part in post
    assert r"float32, 1024 x 1024 \| rows" in post
    assert "same answer" in post
    assert "[met]{.met}" in post
    assert "[not met]{.missed}" in bench
    assert "another answer" in bench
    assert "91.5, Somebody 2020" in quote
    assert "93.1 %" in quote
    assert text.index("A machine, 2 cores, 2026-01-02 · python 3.12.1") < text.index("`speed`")
    assert text.index("Another, 2026-01-02") < text.index("`bench/a`")


def test_without_records(root: Path) -> None:
    (root / "posts/01-first/index.ipynb").write_text((root / "posts/02-second/index.ipynb").read_text())
    assert "Nothing has been recorded yet" in results.write(root).read_text()
    assert (root / "results/front.md").read_text() == ""


def test_executed_copies_count(root: Path, demo, tmp_path: Path) -> None:
    copy = tmp_path / "copies/01-first/index.ipynb"
    copy.parent.mkdir(parents=True)
    record = demo.RECORD | {"value": 7.77}
    post = demo.post("First things", 1, demo.code("r", demo.markdown("x", **{results.RECORD: record})))
    copy.write_text(json.dumps(post | {"metadata": {"provenance": {"budget": "smoke"}}}))
    text = results.write(root, tmp_path / "copies").read_text()
    assert "7.77 ×" in text
    assert "budget smoke" in text
    assert "1.84" not in text


@pytest.mark.parametrize(
    ("target", "value", "expected"),
    [("<= 2.2", 2.2, True), ("<= 2.2", 2.3, False), (">= 90", 91, True), ("< 1", 1, False), ("> 1e-3", 0.1, True),
     ("= 3", 3, True), ("fast", 1, None)],
)  # fmt: skip
def test_targets(target: str, value: float, expected: bool | None) -> None:
    assert results.met(target, value) is expected


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.0092, "s", "9.2 ms"),
        (5.1e-6, "s", "5.1 µs"),
        (3e-9, "s", "3 ns"),
        (12.0, "s", "12 s"),
        (512, "MiB", "512 MiB"),
    ],
)
def test_quantities(value: float, unit: str, expected: str) -> None:
    assert results._quantity(value, unit) == expected


@pytest.mark.parametrize(("value", "expected"), [(116765.4, "116,765"), (5, "5"), (0.98765, "0.988"), (1e12, "1e+12")])
def test_numbers(value: float, expected: str) -> None:
    assert results._number(value) == expected
