"""Making mutants: every small change of a function's code, each named so that it is known again when lines move."""

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CORE = ROOT / "src" / "jobsync" / "core"
SPEAKS = ("_say", "_say_all", "_violation", "Fact", "ValueError", "TypeError")  # What they are given is prose.

COMPARES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.Mod: ast.Add,
}  # fmt: skip
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: which function of which module gets which code."""

    module: str
    function: str
    place: str  # The innermost function that the change is in: `function`, or one that is defined in it.
    line: int
    what: str
    make: Callable[[], ast.Module] = field(compare=False)  # A copy of the module is made only for what is tried.

    @property
    def key(self) -> str:
        """Name the change wherever its line has gone to; as docs/proof/mutants.md names those that it explains."""
        return f"`{self.module.removeprefix('jobsync.core.')}` `{self.function}`: `{self.what}`"


def module_of(path: Path) -> str:
    """Give the dotted name of a file of the core."""
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Give every mutant of one file."""
    tree = ast.parse(path.read_text())
    for names, function in _functions(tree, ()):
        named: Counter[str] = Counter()
        for node, change, what in _changes(function):
            named[what] += 1
            line = getattr(node, "lineno", function.lineno)
            make = partial(_changed_copy, tree, node, change)
            again = f" #{named[what]}" if named[what] > 1 else ""
            place = ".<locals>.".join([".".join(names), *_inner(function, node)])
            yield Mutant(module_of(path), ".".join(names), place, line, what.replace("`", "'") + again, make)


def _inner(outer: ast.AST, node: ast.AST) -> list[str]:
    """Name the functions around a node within another one, the outermost first."""
    for child in ast.iter_child_nodes(outer):
        if any(each is node for each in ast.walk(child)):
            name = child.name if isinstance(child, ast.FunctionDef) else "<lambda>"
            return [name] * isinstance(child, ast.FunctionDef | ast.Lambda) + _inner(child, node)
    return []


def _changed_copy(tree: ast.Module, node: ast.AST, change: Callable[[Any], None]) -> ast.Module:
    mutated = copy.deepcopy(tree)
    change(_twin(tree, mutated, node))
    return ast.fix_missing_locations(mutated)


def _functions(tree: ast.AST, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], ast.FunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _functions(node, (*names, node.name))
        elif isinstance(node, ast.FunctionDef):
            yield (*names, node.name), node


def _twin(tree: ast.AST, copied: ast.AST, node: ast.AST) -> ast.AST:
    return next(b for a, b in zip(ast.walk(tree), ast.walk(copied), strict=True) if a is node)


Change = tuple[ast.AST, Callable[[Any], None], str]


def _changes(function: ast.FunctionDef) -> Iterator[Change]:
    if any(isinstance(s, ast.Raise) and "NotImplemented" in ast.dump(s) for s in function.body):
        return
    for node in _code_of(function):
        yield from _changes_at(node)


def _says_nothing(function: ast.FunctionDef, statement: ast.stmt) -> bool:
    """Tell whether a function gives None at its end without the statement as well."""
    if statement is not function.body[-1] or not isinstance(statement, ast.Return):
        return False
    return statement.value is None or (isinstance(statement.value, ast.Constant) and statement.value.value is None)


def _code_of(node: ast.AST) -> Iterator[ast.AST]:
    """Walk what runs when the function is called, without prose, assertions and annotations."""
    if isinstance(node, ast.Assert | ast.JoinedStr | ast.Raise):
        return
    if isinstance(node, ast.Call) and _name_of(node.func) in SPEAKS:
        return
    if isinstance(node, ast.FunctionDef):
        children: list[ast.AST] = [*node.body]
    elif isinstance(node, ast.AnnAssign):
        children = [] if node.value is None else [node.value]
    elif isinstance(node, ast.Call) and _name_of(node.func) == "zip":
        children = [*node.args]  # `strict` asserts.
    else:
        children = list(ast.iter_child_nodes(node))
    yield node
    for child in children:
        yield from _code_of(child)


def _name_of(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _changes_at(node: ast.AST) -> Iterator[Change]:  # noqa: C901 - one case a kind of node
    match node:
        case ast.Compare(ops=[op]) if type(op) in COMPARES:
            other = COMPARES[type(op)]
            yield (
                node,
                lambda n: n.ops.__setitem__(0, other()),
                f"{ast.unparse(node)}: {type(op).__name__} -> {other.__name__}",
            )
        case ast.BoolOp(op=op):
            flipped = ast.Or if isinstance(op, ast.And) else ast.And
            yield node, lambda n: setattr(n, "op", flipped()), f"{ast.unparse(node)}: -> {flipped.__name__}"
            for i, value in enumerate(node.values):
                change = partial(_neutralise, i, isinstance(op, ast.And))
                yield node, change, f"{ast.unparse(node)}: without {ast.unparse(value)}"
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in OPERATORS:
            swapped = OPERATORS[type(op)]
            yield node, lambda n: setattr(n, "op", swapped()), f"{ast.unparse(node)}: -> {swapped.__name__}"
        case ast.Constant(value=bool() as value):
            yield node, lambda n: setattr(n, "value", not value), f"{value} -> {not value}"
        case ast.Constant(value=int() | float() as number):
            yield node, lambda n: setattr(n, "value", number + 1), f"{number} -> {number + 1}"
        case ast.Call(func=ast.Name(id=name)) if name in CALLS:
            yield node, lambda n: setattr(n.func, "id", CALLS[name]), f"{ast.unparse(node)}: -> {CALLS[name]}"
        case ast.If() | ast.IfExp() | ast.While():
            yield (
                node,
                lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test)),
                f"if not ({ast.unparse(node.test)})",
            )
    for block in ("body", "orelse"):
        statements = getattr(node, block, None)
        if isinstance(statements, list):
            for i, statement in enumerate(statements):
                if _is_deletable(statement) and not (
                    isinstance(node, ast.FunctionDef) and _says_nothing(node, statement)
                ):
                    yield node, _deletion(block, i), f"without: {ast.unparse(statement).splitlines()[0]}"


def _neutralise(i: int, neutral: bool, node: ast.BoolOp) -> None:
    node.values[i] = ast.Constant(neutral)


def _is_deletable(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        call = statement.value
        return isinstance(call, ast.Call) and _name_of(call.func) not in (*SPEAKS, "assert_never")
    return isinstance(statement, ast.Assign | ast.AugAssign | ast.Return | ast.Continue | ast.Break)


def _deletion(name: str, i: int) -> Callable[[Any], None]:
    return lambda n: getattr(n, name).__setitem__(i, ast.Pass())
