"""The results page says what the records say, and nothing else."""

import json
import re
from pathlib import Path

import pytest

from publish import notebook, results


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


def claim(text: str, state: str, **about: object) -> dict:
    made = {"claim": text, "state": state, "machine": "A machine, 2 cores", "versions": {"python": "3.12.1"}}
    return made | {"date": "2026-01-02"} | about


def test_claims_are_counted_and_stand_with_the_records_of_their_machine(demo, tmp_path: Path) -> None:
    claims = [
        claim("A tiled kernel is *faster*.", "held", seen="3.1 | 1.0 ms"),
        claim("Batch size makes no difference.", "did not hold", machine="Another, 8 cores"),
        claim("More `ik,kj->ij` steps help.", "inconclusive"),
    ]
    cells = [demo.code("c", demo.markdown("said", **{notebook.CLAIM: each})) for each in claims]
    record = demo.code("r", demo.markdown("x", **{results.RECORD: demo.RECORD}))
    text = results.write(demo.make(tmp_path, *cells, record)).read_text()
    assert "**3 claims**: 1 held, 1 did not hold, 1 inconclusive." in text
    assert r"| A tiled kernel is \*faster\*.<small>3.1 \| 1.0 ms</small> | [held]{.met} |" in text
    assert "| Batch size makes no difference. | [did not hold]{.missed} |" in text
    assert "| More `ik,kj->ij` steps help. | [inconclusive]{.inconclusive} |" in text
    first, second = text.split("Another, 8 cores, 2026-01-02")
    assert first.index("`speed`") < first.index("A tiled kernel") < first.index("More `ik")
    assert "Batch size" in second
    assert text.count("A machine, 2 cores, 2026-01-02 · python 3.12.1") == 1


def test_without_claims_nothing_is_said_of_them(root: Path) -> None:
    text = results.write(root).read_text()
    assert "claim" not in text.lower()
    assert text.startswith(results.MARK + "::::: {.records}\n## [First things]")


def test_without_records(root: Path) -> None:
    (root / "posts/01-first/index.ipynb").write_text((root / "posts/02-second/index.ipynb").read_text())
    assert "Nothing has been recorded yet" in results.write(root).read_text()
    assert (root / "results/front.md").read_text() == results.MARK


def page_of(root: Path, demo, **about: object) -> str:
    """Return the results page of a project with one record, which says this."""
    record = demo.code("r", demo.markdown("x", **{results.RECORD: demo.RECORD | about}))
    (root / "posts/01-first/index.ipynb").write_text(json.dumps(demo.post("First things", 1, record)))
    return results.write(root).read_text()


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
     ("= 3", 3, True), ("<= 1e+3", 5, True), ("<= 1e+3", 1001, False), ("> -1E2", -99, True), ("< .5", 0.4, True),
     ("<= 0.02, half", 0.03, False), ("<= 50%", 50, True),
     ("<= 2,048", 3, None), ("<= 1.2.3", 1, None), ("fast", 1, None)],
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
def test_quantities(root: Path, demo, value: float, unit: str, expected: str) -> None:
    kind = {"s": "time ratio", "MiB": "memory ratio"}[unit]
    assert f"ours {expected}, theirs {expected}<" in page_of(root, demo, unit=kind, ours=value, theirs=value)


@pytest.mark.parametrize(("value", "expected"), [(116765.4, "116,765"), (5, "5"), (0.98765, "0.988"), (1e12, "1e+12")])
def test_numbers(root: Path, demo, value: float, expected: str) -> None:
    assert f"| {expected} % |" in page_of(root, demo, unit="%", value=value)
