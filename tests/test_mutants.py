"""Mutants differ in one thing, a test that can fail kills them, and one that cannot lets them live."""

import ast

import pytest

from tests import mutants

SOURCE = '''
def share(part: int, whole: int = 2, *, exact: bool = False) -> "float | None":
    """Return 1 thing."""
    if part < 0 or not whole:
        raise ValueError(f"expected 1, got {part - 1}")
    return part / whole if exact else -part


order: int = None
order = 5
'''


def test_each_mutant_differs_in_one_thing_and_says_where():
    found = [mutants.mutate(SOURCE, *place) for place in mutants.places(SOURCE)]
    changes = [(each.line, each.before, each.after) for each in found]
    assert sorted(changes) == sorted(
        [
            (2, "2", "3"),
            (2, "False", "True"),
            (4, "part < 0 or not whole", "part < 0 and (not whole)"),
            (4, "part < 0", "part <= 0"),
            (4, "0", "1"),
            (4, "not whole", "not not whole"),
            (6, "return part / whole if exact else -part", "return None"),
            (6, "part / whole", "part * whole"),
            (6, "-part", "+part"),
        ]
    )
    plain = ast.unparse(ast.parse(SOURCE)).splitlines()
    for mutant in found:
        lines = mutant.source.splitlines()
        assert len(lines) == len(plain)
        assert sum(a != b for a, b in zip(lines, plain, strict=True)) == 1


@pytest.fixture
def project(tmp_path):
    """A library of one module."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "lib/halves.py").write_text("def half(x, by=2):\n    return x / by\n")
    (tmp_path / "notes").mkdir()
    return tmp_path


def write_test(project, body):
    (project / "tests/test_halves.py").write_text(f"from lib.halves import half\n\n\ndef test_half():\n    {body}\n")


@pytest.mark.parametrize(
    ("body", "killed", "status"),
    [("assert half(3) == 1.5", 3, 0), ("assert half(3, 1) == 3", 1, 1)],
)
def test_a_mutant_lives_where_no_test_would_notice(project, capsys, body, killed, status):
    write_test(project, body)
    before = (project / "lib/halves.py").read_text()
    assert mutants.main(["lib/halves.py"], project) == status
    told = capsys.readouterr().out
    assert f"killed {killed} of 3 mutants" in told
    assert told.count("SURVIVED  lib/halves.py:") == 3 - killed
    if body == "assert half(3, 1) == 3":
        assert "SURVIVED  lib/halves.py:1: 2  ->  3" in told
    assert (project / "lib/halves.py").read_text() == before
    assert {path.name for path in project.iterdir()} == {"lib", "tests", "notes"}


def test_a_mutant_that_never_ends_is_ended(project, capsys):
    (project / "lib/halves.py").write_text("def half(x):\n    while x:\n        x -= True\n")
    write_test(project, "half(3)")
    mutants.main(["lib/halves.py", "--limit", "4", "--count", "9"], project)
    told = capsys.readouterr().out
    assert "timed out lib/halves.py:3: x -= True  ->  x += True" in told


def test_a_seed_and_a_count_choose(project, capsys, monkeypatch):
    write_test(project, "assert half(3) == 1.5")
    monkeypatch.setattr(mutants, "run_tests", lambda root, tests, limit: True)
    told = []
    for seed in range(10):
        mutants.main(["lib/halves.py", "--count", "1", "--seed", str(seed // 5)], project)
        told.append(capsys.readouterr().out)
    assert len(set(told[:5])) == len(set(told[5:])) == 1
    assert "killed 0 of 1 mutants" in told[0]


def test_tests_that_fail_without_a_mutant_prove_nothing(project):
    write_test(project, "assert half(3) == 1")
    with pytest.raises(ValueError, match=r"tests/test_halves.py.*lib/halves.py"):
        mutants.main(["lib/halves.py"], project)
    with pytest.raises(SystemExit):
        mutants.main(["lib/quarters.py"], project)


def test_the_twelve_have_tests():
    assert len(mutants.MODULES) == 12
    for module in mutants.MODULES:
        assert (mutants.ROOT / module).is_file()
        assert (mutants.ROOT / mutants.tests_of(module)).is_file()
