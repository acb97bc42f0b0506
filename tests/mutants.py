"""Tests that can fail: `python -m tests.mutants [MODULE...] [--count N] [--seed N] [--limit SECONDS]`.

A mutant is a module of `lib` with one thing changed: a comparison, an operator, a number, a default, an `and`, what is
returned. It stands in a temporary copy, where the module's own tests are run. Where they pass it survived: no test
would notice a mistake there. Minutes to an hour, so no part of `make test`.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
MODULES = (
    "lib/checks.py",
    "lib/cluster/bandwidth.py",
    "lib/data/loaders.py",
    "lib/diffusion/denoise.py",
    "lib/diffusion/samplers.py",
    "lib/diffusion/schedule.py",
    "lib/learner/callbacks/metrics.py",
    "lib/learner/callbacks/stopping.py",
    "lib/nn/norm.py",
    "lib/nn/unet.py",
    "lib/scratch/optim.py",
    "lib/style/losses.py",
)
FLOOR = 0.9  # of the mutants are to be killed
COPIED = ("lib", "tests")  # all else is only read, and linked
OPERATORS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


class Mutant(NamedTuple):
    """A module's source with one thing changed: at which line, from what, to what."""

    line: int
    before: str
    after: str
    source: str


def places(source: str) -> list[tuple[int, int]]:
    """Return what can be changed of a module's source: the number of a node, and the number of a change of it."""
    nodes = enumerate(_nodes(ast.parse(source)))
    return [(place, which) for place, node in nodes for which in range(len(_changes(node)))]


def mutate(source: str, place: int, which: int) -> Mutant:
    """Return a module's source with one change of one node."""
    tree = ast.parse(source)
    node = next(node for i, node in enumerate(_nodes(tree)) if i == place)
    before = ast.unparse(node)
    _changes(node)[which]()
    return Mutant(node.lineno, before, ast.unparse(node), ast.unparse(tree))


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Give the nodes that do something: no annotations, and nothing of errors, whose wording is not promised."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns"):
            continue
        for node in value if isinstance(value, list) else [value]:
            if isinstance(node, ast.AST) and not isinstance(node, ast.Raise) and not _is_rank(node):
                yield node
                yield from _nodes(node)


def _is_rank(node: ast.AST) -> bool:
    """Tell whether a callback's `order` is set here: with one more, nearly all are called in the order they were."""
    return isinstance(node, ast.Assign) and "order" in {ast.unparse(target) for target in node.targets}


def _changes(node: ast.AST) -> list[Callable[[], None]]:
    """Return what can be changed of a node, as functions that do so."""
    match node:
        case ast.Compare():
            return [partial(node.ops.__setitem__, i, OPERATORS[type(op)]()) for i, op in enumerate(node.ops)]
        case ast.BinOp() | ast.AugAssign() | ast.BoolOp() if type(node.op) in OPERATORS:
            return [partial(setattr, node, "op", OPERATORS[type(node.op)]())]
        case ast.UnaryOp(op=ast.USub()):
            return [partial(setattr, node, "op", ast.UAdd())]
        case ast.UnaryOp(op=ast.Not()):
            return [partial(setattr, node, "operand", ast.UnaryOp(ast.Not(), node.operand))]
        case ast.Constant(value=bool()):
            return [partial(setattr, node, "value", not node.value)]
        case ast.Constant(value=int() | float()):
            return [partial(setattr, node, "value", node.value + 1)]
        case ast.Return(value=ast.expr()):
            return [partial(setattr, node, "value", ast.Constant(None))]
    return []


def tests_of(module: str) -> str:
    """Return the path of a module's tests: they mirror `lib`."""
    path = Path(module)
    return str(Path("tests", *path.parts[1:-1], f"test_{path.name}"))


def run_tests(root: Path, tests: str, limit: float) -> bool | None:
    """Run tests in a folder, as it is: whether they pass, or None where they take longer than `limit` seconds."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", tests]
    # A mutant may be written within the second, and be of the size, of what was compiled before.
    options = {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")} | options
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=root, env=environment, start_new_session=True, **quiet) as process:
        try:
            return process.wait(limit) == 0
        except subprocess.TimeoutExpired:
            return None
        finally:  # and what it started
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def survivors(root: Path, module: str, *, count: int, seed: int, limit: float) -> tuple[int, int]:
    """Run a module's tests on `count` of its mutants, tell of each, and return how many were killed, and of how many.

    `root` is a copy that may be written. Raises ValueError where the tests do not pass on the module as it is.
    """
    path, tests = root / module, tests_of(module)
    source = path.read_text(encoding="utf-8")
    chosen = places(source)
    chosen = sorted(random.Random(f"{seed} {module}").sample(chosen, min(count, len(chosen))))
    path.write_text(ast.unparse(ast.parse(source)), encoding="utf-8")  # as the mutants are written
    if not run_tests(root, tests, limit):
        raise ValueError(f"{tests} does not pass within {limit:g} s on {module} as it is")
    killed = 0
    for place, which in chosen:
        mutant = mutate(source, place, which)
        path.write_text(mutant.source, encoding="utf-8")
        passed = run_tests(root, tests, limit)
        killed += not passed
        outcome = "timed out" if passed is None else "SURVIVED" if passed else "killed"
        print(f"{outcome:9} {module}:{mutant.line}: {_line(mutant.before)}  ->  {_line(mutant.after)}", flush=True)
    path.write_text(source, encoding="utf-8")
    return killed, len(chosen)


def _line(code: str, longest: int = 70) -> str:
    code = " ".join(code.split())
    return code if len(code) <= longest else code[: longest - 3] + "..."


def copy_tree(root: Path, to: Path) -> None:
    """Copy what is imported, and link the rest, which no test writes to."""
    for path in root.iterdir():
        if path.name in COPIED:
            shutil.copytree(path, to / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif not path.name.startswith((".", "_")):
            (to / path.name).symlink_to(path)


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Mutate the modules named, or twelve, and return 1 where fewer than 90% of the mutants are killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Would the tests notice a mistake?")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"default: {', '.join(MODULES)}")
    parser.add_argument("--count", type=int, default=8, help="mutants of each module (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which of them (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=120, help="seconds a run may take (default: %(default)s)")
    options = parser.parse_args(arguments)
    modules = options.modules or MODULES
    for module in modules:
        for needed in (module, tests_of(module)):
            if not (root / needed).is_file():
                parser.error(f"there is no {needed}")
    killed = total = 0
    with tempfile.TemporaryDirectory() as folder:
        copy_tree(root, Path(folder))
        for module in modules:
            own = survivors(Path(folder), module, count=options.count, seed=options.seed, limit=options.limit)
            killed, total = killed + own[0], total + own[1]
            print(f"          {module}: {own[0]} of {own[1]} killed", flush=True)
    print(f"killed {killed} of {total} mutants, {killed / max(total, 1):.0%} (floor {FLOOR:.0%})")
    return int(killed < FLOOR * total)


if __name__ == "__main__":
    sys.exit(main())
