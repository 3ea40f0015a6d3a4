"""Trying mutants: one session of pytest, and a fork for each mutant."""

import gc
import importlib
import json
import os
import re
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import hypothesis
import pytest

from tests.mutants.making import CORE, Mutant, module_of

ALIVE, KILLED, UNTRIED = 0, 1, 2
NO_TEST = "no test enters it"
VERDICTS = {ALIVE: "survived", UNTRIED: "untried"}  # Any other end is a kill.

FEW = hypothesis.settings(
    max_examples=12,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)


class Killed(Exception):
    """A test has failed on a mutant."""


@dataclass(slots=True)
class Run:
    """Pytest's one session: which tests enter which function, what each costs, and each of them once more."""

    then: Callable[["Run"], None]
    entered: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    imported: set[tuple[str, str]] = field(default_factory=set)
    cost_sec: dict[str, float] = field(default_factory=dict)
    items: dict[str, pytest.Item] = field(default_factory=dict)
    kills: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    mutated: bool = False
    failed: bool = False

    def tests_of(self, mutant: Mutant, limit_sec: float) -> list[str]:
        """List tests that enter the mutated function, those first that notice most for their cost."""
        module, function = mutant.module, mutant.place

        def worth(test: str) -> float:
            kills = self.kills[module, function, test] + 0.05 * self.kills[module, "", test]
            return -(kills + 0.01) / (self.cost_sec[test] + 0.005)

        ids = sorted(sorted(self.entered.get((module, function), ())), key=worth)
        before = accumulate((self.cost_sec[i] for i in ids), initial=0.0)
        return [i for i, spent_sec in zip(ids, before, strict=False) if spent_sec <= limit_sec]

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Let Hypothesis play few examples, the same in every run, whatever a test asks for."""
        for item in items:
            test = getattr(item, "obj", None)
            if hypothesis.is_hypothesis_test(test):
                test._hypothesis_internal_use_settings = FEW  # type: ignore[union-attr]

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run every test once and note what it enters; then do the work."""
        sys.settrace(None)
        for item in session.items:
            self.items[item.nodeid] = item
            self._note(item)
        if not self.failed:
            self.then(self)
        return True

    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> None:
        """Hear of a failure before anybody describes it."""
        if call.excinfo is not None and not isinstance(call.excinfo.value, pytest.skip.Exception):
            self.failed = True
            if self.mutated:
                raise Killed

    def note_imports(self) -> None:
        """Note from now on what runs while everything is imported: what is made then, no mutant can change."""
        sys.settrace(_listener(self.imported))

    def _note(self, item: pytest.Item) -> None:
        _forget_answers()
        seen: set[tuple[str, str]] = set()
        began_sec = time.process_time()
        sys.settrace(_listener(seen))
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        finally:
            sys.settrace(None)
        self.cost_sec[item.nodeid] = time.process_time() - began_sec
        for place in seen:
            self.entered[place].add(item.nodeid)


def _listener(seen: set[tuple[str, str]]) -> Callable[[FrameType, str, object], None]:
    """Note every function of the core that is entered; it gives nothing back, so it hears of calls alone."""
    codes: set[CodeType] = set()

    def note(frame: FrameType, _event: str, _arg: object) -> None:
        code = frame.f_code
        if code not in codes:
            codes.add(code)
            if code.co_filename.startswith(str(CORE)):
                # A comprehension is a part of the function around it.
                place = re.sub(r"\.<locals>\.<(\w+comp|genexpr)>", "", code.co_qualname)
                seen.add((module_of(Path(code.co_filename)), place))

    return note


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


def _install(mutant: Mutant) -> bool:
    """Put the mutant's code into the function; say whether that can be done."""
    function = function_in(mutant.module, mutant.function)
    path = CORE.parents[1].joinpath(*mutant.module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    code = code_in(compile(mutant.make(), str(file), "exec"), mutant.function)
    if function is None or code is None or len(code.co_freevars) != len(function.__code__.co_freevars):
        return False
    exchanged = _exchange(function.__code__, code)
    function.__code__ = code
    _forget_answers()
    return exchanged or mutant.place == mutant.function


def _exchange(old: CodeType, new: CodeType) -> bool:
    """Put the code of inner functions into those that were made already, as when a table of them was imported.

    False: one closes over other variables than before, and the made ones go on as they were.
    """
    exchanged = True
    pairs = zip(*([each for each in code.co_consts if isinstance(each, CodeType)] for code in (old, new)), strict=False)
    for was, now in pairs:
        if was.co_name.endswith(("comp>", "genexpr>")):
            continue
        if was.co_freevars != now.co_freevars:
            exchanged = False
            continue
        gc.unfreeze()
        for made in gc.get_referrers(was):
            if isinstance(made, FunctionType) and made.__code__ is was:
                made.__code__ = now
    return exchanged


def _forget_answers() -> None:
    """Empty the caches of functions: an answer kept from another test hides who calls whom, and a mutant."""
    for module in [m for name, m in sys.modules.items() if name.startswith("jobsync.core")]:
        for kept in [v for v in vars(module).values() if hasattr(v, "cache_clear")]:
            kept.cache_clear()


def _child(mutant: Mutant, run: Run, tests: list[str], tell: int) -> None:
    """Try one mutant; the exit status is the verdict, and the pipe gets the number of the test that noticed it."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    if not _install(mutant):
        os._exit(UNTRIED)
    run.mutated = True
    for i, test in enumerate(tests):
        os.write(tell, f"{i} ".encode())
        signal.setitimer(signal.ITIMER_PROF, 5 * run.cost_sec[test] + 2)  # SIGPROF ends the process.
        try:
            run.items[test].config.hook.pytest_runtest_protocol(item=run.items[test], nextitem=None)
        except BaseException:
            os._exit(KILLED)
    os._exit(ALIVE)


def leave_out_the_unfit(run: Run) -> list[str]:
    """Run every test in a child without any mutant, and leave out those that fail there: they would kill all."""
    names, unfit = list(run.items), list[str]()
    place = 0
    while place < len(names):
        ear, mouth = os.pipe()
        child = os.fork()
        if child == 0:
            _until_one_fails(run, names, place, mouth)
        os.close(mouth)
        with os.fdopen(ear) as told:
            place = int(told.read().split()[-1])
        os.waitpid(child, 0)
        unfit.extend(names[place : place + 1])
        place += 1  # A session in which a test failed half-way runs no other: a new child goes on.
    for tests in run.entered.values():
        tests.difference_update(unfit)
    return unfit


def _until_one_fails(run: Run, names: list[str], place: int, tell: int) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    run.mutated = True
    for i in range(place, len(names)):
        os.write(tell, f"{i} ".encode())
        try:
            run.items[names[i]].config.hook.pytest_runtest_protocol(item=run.items[names[i]], nextitem=None)
        except BaseException:
            os._exit(KILLED)
    os.write(tell, f"{len(names)} ".encode())
    os._exit(ALIVE)


@dataclass(slots=True)
class Bench:
    """Tries mutants, a few at a time, and writes every verdict down."""

    run: Run
    results: Path
    tests_sec: float
    under_way: dict[int, tuple[Mutant, list[str], int]] = field(default_factory=dict)

    def begin(self, mutant: Mutant) -> None:
        """Fork a child for a mutant."""
        tests = self.run.tests_of(mutant, self.tests_sec)
        if not tests:
            at_import = (mutant.module, mutant.place) in self.run.imported
            self._write(mutant, "untried" if at_import else "survived", "runs at import" if at_import else NO_TEST)
            return
        ear, mouth = os.pipe()
        child = os.fork()
        if child == 0:
            _child(mutant, self.run, tests, mouth)
        os.close(mouth)
        self.under_way[child] = (mutant, tests, ear)

    def end_one(self) -> None:
        """Wait for one child; write its verdict."""
        child, status = os.wait()
        mutant, tests, ear = self.under_way.pop(child)
        with os.fdopen(ear) as told:
            last = tests[int((told.read().split() or ["0"])[-1])]
        verdict = VERDICTS.get(os.waitstatus_to_exitcode(status), "killed")
        if verdict == "killed":
            self.run.kills[mutant.module, mutant.place, last] += 1
            self.run.kills[mutant.module, "", last] += 1
        self._write(mutant, verdict, last)

    def _write(self, mutant: Mutant, verdict: str, test: str) -> None:
        line = {"key": mutant.key, "line": mutant.line, "verdict": verdict, "test": test}
        with self.results.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if verdict == "survived":
            say(f"  survived: {mutant.key}, line {mutant.line}" + (f" ({test})" if " " in test else ""))


def say(text: str) -> None:
    """Speak past whoever holds stdout while pytest runs."""
    print(text, file=sys.__stdout__, flush=True)


def verdicts_in(results: Path) -> dict[str, str]:
    """Read the last verdict on each mutant."""
    lines = results.read_text().splitlines() if results.exists() else []
    told = [json.loads(line) for line in lines]
    return {line["key"]: line["verdict"] for line in told}
