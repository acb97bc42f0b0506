"""Which names a notebook's open code uses that folded or hidden cells gave their value: `born_hidden(notebook)`.

Code is open where readers see its source unfolded. A name is born where it is bound: by an assignment, a definition, a
loop and so on. Imports may stand folded. The names of a cell are listed in the order in which Python meets them; what
a function's or a class's body uses comes last, since it may be bound further down in the same cell.
"""

from __future__ import annotations

import ast
import builtins
import re
import symtable
from collections.abc import Iterator

from IPython.core.inputtransformer2 import TransformerManager

from publish.cells import options

OPENING = {"run", "budget", "seed"}  # what every post begins with
# Where the order of evaluation is not that of the fields.
ORDER = {
    ast.Assign: ("value", "targets"),
    ast.AugAssign: ("value", "target"),
    ast.AnnAssign: ("annotation", "value", "target"),
    ast.NamedExpr: ("value", "target"),
    ast.For: ("iter", "target", "body", "orelse"),
    ast.AsyncFor: ("iter", "target", "body", "orelse"),
    ast.ListComp: ("generators", "elt"),
    ast.SetComp: ("generators", "elt"),
    ast.GeneratorExp: ("generators", "elt"),
    ast.DictComp: ("generators", "key", "value"),
}
RUNS_PYTHON = {"time", "timeit", "prun", "capture"}
MAGIC_OPTIONS = re.compile(r"\s*(-\w+\s+(\d+\s+)?)*")


def born_hidden(notebook: dict) -> dict[str, str]:
    """Return the names that open code uses and whose latest value is from a folded or hidden cell, and where that is.

    A function may use a name that is bound later; then the cell that binds it first counts.
    """
    found: dict[str, str] = {}
    hidden: dict[str, int] = {}  # a name whose latest birth is hidden: its cell
    awaited: dict[str, int] = {}  # a name that an open function uses before it is born: the function's cell
    born: set[str] = set(dir(builtins)) | OPENING
    for number, source, is_open in _code_cells(notebook):
        for step, name in steps(source):
            if name in OPENING:
                continue
            if step == "use":
                if is_open and name in hidden:
                    found.setdefault(name, f"bound in cell {hidden[name]}, used in cell {number}")
                elif is_open and name not in born:
                    awaited.setdefault(name, number)
                continue
            born.add(name)
            user = awaited.pop(name, None)
            if step != "bind" or is_open:
                hidden.pop(name, None)
            else:
                hidden[name] = number
                if user is not None:
                    found.setdefault(name, f"bound in cell {number}, used in cell {user}")
    return found


def steps(source: str) -> list[tuple[str, str]]:
    """Return what a cell does to global names, in order: ("use", name), and "bind", "import" or "delete"."""
    walk = _Walk()
    walk.visit(_parsed(source))
    return walk.steps + walk.later


def shows(source: str) -> bool:
    """Whether readers see a cell's source unfolded."""
    chosen, _ = options(source)
    folded = str(chosen.get("code-fold", False)).lower() == "true"
    return not folded and chosen.get("echo", True) is not False and chosen.get("include", True) is not False


def _code_cells(notebook: dict) -> Iterator[tuple[int, str, bool]]:
    """Give number, source and openness of each code cell; inside of a collapsed callout none is open."""
    divs: list[bool] = []  # those around the cell: whether they are collapsed
    for number, cell in enumerate(notebook["cells"], start=1):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            yield number, source, shows(source) and not any(divs)
        elif cell["cell_type"] == "markdown":
            for attributes in re.findall(r"^:{3,}(.*)$", source, flags=re.MULTILINE):
                if attributes.strip():
                    divs.append(re.search(r'collapse="?true', attributes) is not None)
                elif divs:
                    divs.pop()


def _parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError:  # magics become calls of get_ipython()
        return ast.parse(TransformerManager().transform_cell(source))


class _Walk(ast.NodeVisitor):
    """One pass over a cell: `steps` as they are taken, and `later` those of the bodies of functions and classes."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []
        self.later: list[tuple[str, str]] = []
        self.local: list[set[str]] = []  # the variables of the comprehensions around

    def generic_visit(self, node: ast.AST) -> None:
        for key in ORDER.get(type(node), node._fields):
            value = getattr(node, key, None)
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self.visit(child)

    def use(self, name: str) -> None:
        if not any(name in names for names in self.local):
            self.steps.append(("use", name))

    def bind(self, name: str | None) -> None:
        if name:
            self.steps.append(("bind", name))

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.use(node.id)
        else:
            self.steps.append(("delete" if isinstance(node.ctx, ast.Del) else "bind", node.id))

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.use(node.target.id)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value or not isinstance(node.target, ast.Name):
            self.generic_visit(node)
        else:  # `x: int` alone binds nothing
            self.visit(node.annotation)

    def comprehension(self, node: ast.expr) -> None:
        self.local.append(set())
        self.generic_visit(node)
        self.local.pop()

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = comprehension

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self.visit(node.iter)
        for part in ast.walk(node.target):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                self.local[-1].add(part.id)
            elif isinstance(part, ast.Name):  # as in `for table[key] in ...`
                self.use(part.id)
        for condition in node.ifs:
            self.visit(condition)

    def definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        """Take what is evaluated at once (decorators, bases, defaults, annotations), leave the body for later."""
        for key in ("decorator_list", "bases", "keywords", "args", "returns"):
            part = getattr(node, key, None)
            for child in part if isinstance(part, list) else [part]:
                if child is not None:
                    self.visit(child)
        self.body(node)
        self.bind(node.name)

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = definition

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.args)
        self.body(node)

    def body(self, node: ast.AST) -> None:
        """Note the global names of a function or a class, those of the functions in it too."""
        tables = symtable.symtable(ast.unparse(node), "cell", "exec").get_children()
        while tables:
            table = tables.pop()
            tables += table.get_children()
            for symbol in table.get_symbols():
                name = symbol.get_name()
                # A function named `top` is taken for the module by symtable, its locals for globals.
                is_global = symbol.is_declared_global() or (symbol.is_global() and not symbol.is_local())
                if not is_global or any(name in names for names in self.local):
                    continue
                if symbol.is_assigned():
                    self.later.append(("bind", name))
                if symbol.is_referenced():
                    self.later.append(("use", name))

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.steps += [("import", alias.asname or alias.name.partition(".")[0]) for alias in node.names]

    visit_ImportFrom = visit_Import

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type:
            self.visit(node.type)
        self.bind(node.name)
        for statement in node.body:
            self.visit(statement)
        if node.name:  # Python takes it away
            self.steps.append(("delete", node.name))

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        self.generic_visit(node)
        self.bind(node.name)

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.generic_visit(node)
        self.bind(node.rest)

    def visit_Call(self, node: ast.Call) -> None:
        for code in _magic(node):
            self.visit(_parsed(code))
        self.generic_visit(node)


def _magic(node: ast.Call) -> list[str]:
    """Return the Python code that a magic runs, such as `f(x)` of `%timeit -n 10 f(x)`."""
    called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    if called not in ("run_line_magic", "run_cell_magic"):
        return []
    name, line, *cell = [part.value for part in node.args if isinstance(part, ast.Constant)]
    if name not in RUNS_PYTHON:
        return []
    code = MAGIC_OPTIONS.sub("", f"{line} ", count=1)
    return cell if cell and name != "timeit" else [code.strip(), *cell]
