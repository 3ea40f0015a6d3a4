"""Mutation testing of `jobsync.core`: break one thing at a time, and see whether a test notices. `make mutants`.

Theory of operation. One process runs the tests of the core once and notes which of them enter which function, and how
long each takes. Then, for each mutant, it forks: the child puts the code of the mutated function into the function that
everybody refers to already, and runs the tests that enter it, the short ones first, until one fails. So a mutant costs
its tests and a fork, not an interpreter, an import and a collection; that is why this is a driver of its own and
neither mutmut nor cosmic-ray, which start pytest anew for each. Hypothesis plays the same few examples in every run.

A mutant is killed by a failing test, or by using many times the CPU that its tests need. Messages for people,
docstrings, assertions and what runs at import (constants, defaults) are not mutated.
"""

import argparse
import ast
import contextlib
import copy
import importlib
import io
import os
import random
import re
import resource
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import hypothesis
import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "src" / "jobsync" / "core"
TESTS = ["tests/core", "--ignore=tests/core/test_member_storms.py", "-m", "not slow"]  # The storms take minutes.
UNHEARD = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # Hypothesis is imported here already.
QUIET = [
    "-q",
    "-p",
    "no:randomly",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
    "--no-header",
    "--tb=no",
    "-x",
    *UNHEARD,
]
SPEAKS = ("_say", "_say_all", "_violation", "Fact", "ValueError", "TypeError")  # What they are given is prose.

FEW = hypothesis.settings(
    max_examples=12,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)

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
    line: int
    what: str
    make: Callable[[], ast.Module]  # A copy of the whole module is made only for a mutant that is tried.

    def __str__(self) -> str:
        """Give place and change in one line."""
        return f"{self.module}:{self.line} {self.function}: {self.what}"


@dataclass(slots=True)
class Covers:
    """Which tests enter which function, and what each test costs."""

    entered: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    cost_sec: dict[str, float] = field(default_factory=dict)

    def tests_of(self, mutant: Mutant) -> list[str]:
        """List the tests that enter the mutated function, the cheapest first."""
        ids = self.entered.get((mutant.module, mutant.function), set())
        return sorted(ids, key=lambda i: (self.cost_sec[i], i))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Let Hypothesis play few examples, the same in every run, whatever a test asks for."""
        for item in items:
            test = getattr(item, "obj", None)
            if hypothesis.is_hypothesis_test(test):
                test._hypothesis_internal_use_settings = FEW  # type: ignore[union-attr]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Note every function of the core that a test enters."""
        seen: set[CodeType] = set()

        def note(frame: FrameType, _event: str, _arg: object) -> None:
            seen.add(frame.f_code)

        began_sec = time.process_time()
        sys.settrace(note)  # It gives nothing back, so it hears of calls alone, not of lines.
        try:
            return (yield)
        finally:
            sys.settrace(None)
            self.cost_sec[item.nodeid] = time.process_time() - began_sec
            for code in seen:
                if code.co_filename.startswith(str(CORE)):
                    # A function within a function is mutated with the one around it.
                    outer = code.co_qualname.split(".<locals>")[0]
                    self.entered[module_of(Path(code.co_filename)), outer].add(item.nodeid)


def module_of(path: Path) -> str:
    """Give the dotted name of a file of the core."""
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# --- making mutants ----------------------------------------------------------------------------------


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Give every mutant of one file."""
    tree = ast.parse(path.read_text())
    for names, function in _functions(tree, ()):
        for node, change, what in _changes(function):
            line = getattr(node, "lineno", function.lineno)
            make = partial(_changed_copy, tree, node, change)
            yield Mutant(module_of(path), ".".join(names), line, what, make)


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
                if _is_deletable(statement):
                    yield node, _deletion(block, i), f"without: {ast.unparse(statement).splitlines()[0]}"


def _neutralise(i: int, neutral: bool, node: ast.BoolOp) -> None:
    node.values[i] = ast.Constant(neutral)


def _is_deletable(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        call = statement.value
        return isinstance(call, ast.Call) and _name_of(call.func) not in SPEAKS
    return isinstance(statement, ast.Assign | ast.AugAssign | ast.Return | ast.Continue | ast.Break)


def _deletion(name: str, i: int) -> Callable[[Any], None]:
    return lambda n: getattr(n, name).__setitem__(i, ast.Pass())


# --- trying them -------------------------------------------------------------------------------------


def code_in(code: CodeType, qualname: str) -> CodeType | None:
    """Find the code of a function in that of its module."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            if inner.co_qualname == qualname:
                return inner
            if qualname.startswith(inner.co_qualname + ".") and (found := code_in(inner, qualname)):
                return found
    return None


def function_in(module: str, qualname: str) -> FunctionType | None:
    """Find the function that everybody refers to already."""
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = vars(found).get(name)
        if found is None:
            return None
    found = getattr(found, "fget", None) or getattr(found, "func", None) or getattr(found, "__func__", found)
    found = getattr(found, "__wrapped__", found)
    return found if isinstance(found, FunctionType) else None


def survives(mutant: Mutant, tests: list[str], budget_sec: float) -> bool | None:
    """Run the tests on the mutant in a child; None: it cannot be tried."""
    function = function_in(mutant.module, mutant.function)
    path = CORE.parents[1].joinpath(*mutant.module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    code = code_in(compile(mutant.make(), str(file), "exec"), mutant.function)
    if function is None or code is None or len(code.co_freevars) != len(function.__code__.co_freevars):
        return None
    child = os.fork()
    if child == 0:
        limit = int(budget_sec) + 2
        resource.setrlimit(
            resource.RLIMIT_CPU, (limit + int(time.process_time()), limit + int(time.process_time()) + 1)
        )
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        function.__code__ = code
        os._exit(1 if pytest.main([*QUIET, *tests]) else 0)
    _, status = os.waitpid(child, 0)
    return status == 0


def main() -> None:
    """Make, try, count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=0, help="so many mutants of each module, by chance; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="modules whose name this expression finds")
    parser.add_argument("--minutes", type=float, default=0, help="stop after this; 0: never")
    parser.add_argument("--tests-sec", type=float, default=4.0, help="CPU of the tests run on one mutant, at most")
    parser.add_argument("--tests", nargs="*", default=TESTS, help="what pytest is given to run")
    given = parser.parse_args()
    os.chdir(ROOT)
    covers = Covers()
    print("running the tests of the core, once ...", flush=True)
    with contextlib.redirect_stdout(io.StringIO()):
        failed = pytest.main([*QUIET, *given.tests], plugins=[covers])
    if failed:
        sys.exit("the tests fail without any mutant: mend them first")
    print(f"{len(covers.cost_sec)} tests, {sum(covers.cost_sec.values()):.0f} s of CPU", flush=True)
    _judge(covers, given)


def _judge(covers: Covers, given: argparse.Namespace) -> None:
    began_sec = time.perf_counter()
    chance = random.Random(given.seed)
    table = ["| module | mutants | tried | killed | score |", "|---|---:|---:|---:|---:|"]
    total = [0, 0, 0]
    for path in sorted(CORE.rglob("*.py")):
        found = list(mutants_of(path))
        if not found or not re.search(given.only, module_of(path)):
            continue
        chosen = chance.sample(found, min(given.sample, len(found))) if given.sample else found
        tried = killed = 0
        for mutant in chosen:
            if given.minutes and time.perf_counter() - began_sec > given.minutes * 60:
                break
            alive = _try(mutant, covers, given.tests_sec)
            if alive is not None:
                tried, killed = tried + 1, killed + (not alive)
        total = [total[0] + len(found), total[1] + tried, total[2] + killed]
        if tried:
            table.append(f"| {module_of(path)} | {len(found)} | {tried} | {killed} | {100 * killed / tried:.0f} % |")
            print(table[-1], flush=True)
    table.append(f"| all | {total[0]} | {total[1]} | {total[2]} | {100 * total[2] / max(total[1], 1):.1f} % |")
    print("\n".join(["", *table]), flush=True)


def _try(mutant: Mutant, covers: Covers, tests_sec: float) -> bool | None:
    tests, cost_sec = [], 0.0
    for test in covers.tests_of(mutant):
        if cost_sec > tests_sec:
            break
        tests.append(test)
        cost_sec += covers.cost_sec[test]
    alive = survives(mutant, tests, 10 * cost_sec + 5) if tests else True
    if alive:
        print(f"  survived: {mutant}" + ("" if tests else " (no test enters it)"), flush=True)
    return alive


if __name__ == "__main__":
    main()
