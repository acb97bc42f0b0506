"""Names of open code that are born in folded or hidden cells are found, and no others."""

import pytest

from publish.new import CELLS
from tests import names

FOLDED = "#| code-fold: true\n"


def found(*cells: str) -> set[str]:
    """Return the names found in a notebook of code cells; those that begin with `:::` are Markdown."""
    kinds = ("markdown" if cell.startswith(":::") else "code" for cell in cells)
    listed = [{"cell_type": kind, "source": cell} for kind, cell in zip(kinds, cells, strict=True)]
    return set(names.born_hidden({"cells": listed}))


def used(code: str) -> set[str]:
    """Return which of the names a to f some open code uses, where a folded cell has bound all of them."""
    return found(f"{FOLDED}a = b = c = d = e = f = 1", code)


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("", True),
        ("#| label: fig-a\n", True),
        ("#| code-fold: true\n", False),
        ("#| code-fold: 'true'\n", False),
        ("#| code-fold: false\n", True),
        ("#| code-fold: show\n", True),
        ("#| label: fig-a\n#| echo: false\n", False),
        ("#| echo: fenced\n", True),
        ("#| include: false\n", False),
        ("y = 2\n#| echo: false\n", True),  # not among the first lines, so no option
    ],
)
def test_which_cells_are_open(option: str, shown: bool) -> None:
    assert names.shows(f"{option}x = 1") == shown
    assert found(f"{option}x = 1", "print(x)") == (set() if shown else {"x"})


def test_folded_and_hidden_code_may_use_what_it_likes() -> None:
    assert not found(f"{FOLDED}x = 1", f"{FOLDED}x + 1", "#| echo: false\nx", "#| include: false\nx")


def test_a_new_post_has_none() -> None:
    assert not names.born_hidden({"cells": [{"cell_type": kind, "source": text} for kind, text in CELLS]})


def test_a_message_says_where() -> None:
    cells = [{"cell_type": "code", "source": source} for source in ("y = 1", [FOLDED, "x = 1"], "x", "x + y")]
    assert names.born_hidden({"cells": cells}) == {"x": "bound in cell 2, used in cell 3"}


def test_the_latest_birth_counts() -> None:
    assert found("x = 1", f"{FOLDED}x = 2", "x") == {"x"}
    assert not found(f"{FOLDED}x = 2", "x = 1", "x")
    assert not found("x = 1", "x", f"{FOLDED}x = 2")
    assert found("x = 1", f"{FOLDED}for x in range(3):\n    pass", "x") == {"x"}
    assert found("x = 1", f"{FOLDED}x += 1", "x") == {"x"}
    assert not found("x = 1", f"{FOLDED}[x for x in range(3)]", "x")


def test_a_cell_may_use_what_it_binds_itself_but_not_before() -> None:
    assert not used("a = 1\na")
    assert used("a = a + 1") == {"a"}
    assert used("a += 1") == {"a"}
    assert used("b = (a := 2) + a") == set()
    assert used("b = a + (a := 2)") == {"a"}
    assert used("for a in a:\n    a") == {"a"}


def test_imports_and_the_opening_may_stand_folded() -> None:
    opening = "import os.path\nimport numpy as np\nfrom lib import data as images, post\nrun = post.start(budget, seed)"
    assert not found(f"{FOLDED}{opening}", "os, np.ones(3), images, post, run, budget, seed")
    assert found(f"{FOLDED}from lib import data\ndata = data.load()", "data") == {"data"}
    assert not found(f"{FOLDED}data = 1\nfrom lib import data", "data")


def test_builtins_are_no_births_unless_bound_again() -> None:
    assert not found("print(len([]))")
    assert found(f"{FOLDED}input = 1", "input") == {"input"}
    assert not found(f"{FOLDED}input = 1\ndel input", "input")


def test_a_function_may_use_what_is_bound_further_down() -> None:
    assert not used("def f():\n    return a\na = 2")
    assert not found("def f():\n    return x", "x = 1", "f()")
    assert found("def f():\n    return x", f"{FOLDED}x = 1", "f()") == {"x"}
    assert not found("def f():\n    return x", f"{FOLDED}import x", "f()")


def test_code_in_a_collapsed_callout_is_not_open() -> None:
    folded, plain = '::: {.callout-tip collapse="true"}\nText', "::: {.callout-note}"
    assert found(folded, "x = 1", ":::", "x") == {"x"}
    assert found(f"{folded}\n\n::::: {{.column}}\n:::::", "x = 1", ":::", "x") == {"x"}
    assert not found(plain, "x = 1", ":::", "x")
    assert not found(f"{folded}\n:::", "x = 1", "x")
    assert not found(f"{FOLDED}x = 1", folded, "x", ":::")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        # comprehensions
        ("[a for a in b]", "b"),
        ("[a for a in a]", "a"),
        ("{a: b for a, c in d if c and e}", "b d e"),
        ("sum(a * b for a in c for b in a)", "c"),
        ("[[a for a in b] for b in c], a", "a c"),
        ("[lambda: a + b for a in c]", "b c"),
        ("[(a := b) for b in c]; a", "c"),
        ("[1 for d[a] in b]", "a b d"),
        # functions
        ("lambda a, *b, c=d, **e: a + b + c + e + f", "d f"),
        ("def z(a, b=c, *d, e=f): return a, b, d, e", "c f"),
        ("def z(a: b) -> c: return d", "b c d"),
        ("@a\ndef z(): return [b for b in c]", "a c"),
        ("def z():\n    a = 1\n    return a + b", "b"),
        ("def z():\n    global a\n    a = 1\n\nz()\n", ""),
        ("def z():\n    global a\n    return a", "a"),
        ("def z():\n    b = 1\n    def y():\n        nonlocal b\n        b += a\n    return y", "a"),
        ("def top(a, b):\n    return [a for c in b], d", "d"),
        ("def top():\n    global a\n    return a", "a"),
        ("async def z(a):\n    async with a as b:\n        return await b(c)", "c"),
        ("def a(): return a()", ""),
        ("def z():\n    import a\n    return a.b", ""),
        # classes
        ("class Z(a, metaclass=b):\n    c = d\n    def e(self): return self.f, e", "a b d e"),
        ("class Z:\n    a: b = 1\n    def z(self): return a", "a b"),
        ("@a\nclass b(c): pass\nb", "a c"),
        # binding in other ways
        ("(a := 1); a", ""),
        ("a: b = c; a", "b c"),
        ("a: b\na", "a b"),
        ("a[b] = c", "a b c"),
        ("a.b += c", "a c"),
        ("a, (b, *c) = d; a, b, c", "d"),
        ("with a as b, c as d: b, d", "a c"),
        ("for a, b in c: a, b\nelse: d", "c d"),
        ("try: a\nexcept b as c: c\nfinally: d", "a b d"),
        ("match a:\n    case [b, *c] if b: c\n    case {'k': d, **e}: d, e\n    case f: f", "a"),
        ("match a:\n    case b.C(c): c", "a b"),
        ("import a.b, c as d; a, d", ""),
        ("del a", ""),
        ("del a[b]", "a b"),
        # expressions
        ("z(*a, **b, c=d)", "a b d"),
        ("f'{a!r:>{b}} {c=} {{d}}'", "a b c"),
        ("a.b.c", "a"),
        ("'a b c'", ""),
        ("await a", "a"),
        # what notebooks add
        ("a.plot();", "a"),
        ("%timeit -n 10 -r3 a(b)", "a b"),
        ("c = %timeit -o a(b)\nc", "a b"),
        ("%%timeit -n 10 a\nb(c)", "a b c"),
        ("%%time\na(b)", "a b"),
        ("%%bash\na b", ""),
        ("!a b\n%matplotlib inline\nc", "c"),
        ("%time b = a\nb", "a"),
        ("a?", ""),
    ],
)
def test_what_code_uses(code: str, expected: str) -> None:
    assert used(code) == set(expected.split())
