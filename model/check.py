"""Explore every variant of the models with Spin, and fail where a verdict is not the expected one: `make model`.

Theory of operation. A variant is a model, its switches, and what Spin must find: `holds` (explored to the end, no
error) or `violated`. Each is compiled by itself and explored on one core, one by one. A search that did not end
(memory, depth, time) is a verdict of its own and never the expected one. Nothing but Python, spin and gcc is needed.
"""

import argparse
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ALL = "SESSION FAILOVER LOST_SHRINK"


@dataclass(frozen=True, slots=True)
class Variant:
    """One thing to explore; `cycles` looks for circles without progress instead of broken assertions."""

    name: str
    expected: str
    switches: str
    file: str = "ownership.pml"
    cycles: bool = False
    quick: bool = False
    depth: int = 2_000_000
    hash_bits: int = 22


@dataclass(frozen=True, slots=True)
class Found:
    """What one search found; `memory_mib` is what the search itself counted."""

    verdict: str
    states: int
    cpu_sec: float
    memory_mib: float


def holds(name: str, switches: str, **more: object) -> Variant:
    """A variant that must be explored to the end without an error."""
    return Variant(name, "holds", switches, **more)  # type: ignore[arg-type]


def broken(name: str, switches: str, **more: object) -> Variant:
    """A mutation: the search must find two owners."""
    return Variant(name, "violated", f"MUTATION {switches}", **more)  # type: ignore[arg-type]


DEEP: dict[str, object] = {"depth": 40_000_000, "hash_bits": 26}
DEEPEST: dict[str, object] = {"depth": 90_000_000, "hash_bits": 27}
LONG: dict[str, object] = {"depth": 8_000_000, "hash_bits": 24}
CLOCKS: dict[str, object] = {"file": "timing.pml", "quick": True, "depth": 100_000, "hash_bits": 16}

VARIANTS = [
    *(holds(f"lemma, rule A, lease of {n}", f"RULE=1 L={n}", **CLOCKS) for n in (1, 2, 4, 8)),
    *(holds(f"lemma, rule B, lease of {n}", f"RULE=2 L={n}", **CLOCKS) for n in (1, 2, 4, 8)),
    *(holds(f"lemma, quarantine, lease of {n}", f"RULE=3 L={n}", **CLOCKS) for n in (1, 2, 4, 8)),
    Variant("lemma: strip early (wait 2, lease 3)", "violated", "RULE=1 L=3 H=2", **CLOCKS),  # type: ignore[arg-type]
    Variant("lemma: lease from the ack", "violated", "RULE=1 MUT_ACK", **CLOCKS),  # type: ignore[arg-type]
    Variant("lemma: database clock", "violated", "RULE=1 MUT_DB_CLOCK", **CLOCKS),  # type: ignore[arg-type]
    Variant("lemma: trust the session's end", "violated", "RULE=2 MUT_TRUST", **CLOCKS),  # type: ignore[arg-type]
    Variant("lemma: WW < W (wait 2, lease 3)", "violated", "RULE=2 L=3 H=2", **CLOCKS),  # type: ignore[arg-type]
    Variant("lemma: session lease from the ack", "violated", "RULE=2 MUT_ACK", **CLOCKS),  # type: ignore[arg-type]
    Variant("lemma: quarantine too short", "violated", "RULE=3 L=3 H=2", **CLOCKS),  # type: ignore[arg-type]
    Variant("reference scheme", "violated", "", file="reference.pml", quick=True, hash_bits=16),
    holds("row lease", "LOST_SHRINK", quick=True),
    holds("row lease, two of one name", "LOST_SHRINK TWIN", quick=True),
    holds("row + session lease", "SESSION LOST_SHRINK", quick=True),
    holds("row + session lease, two of one name", "SESSION LOST_SHRINK TWIN", quick=True),
    holds("row lease + fail-over", "FAILOVER LOST_SHRINK", **LONG),
    holds("row lease + fail-over, two of one name", "FAILOVER LOST_SHRINK TWIN"),
    holds("all together, two of one name", f"{ALL} TWIN", **LONG),
    holds("all together", ALL, **DEEP),
    broken("strip early", "MUT_EARLY", quick=True),
    broken("lease from the ack", "MUT_ACK", quick=True),
    broken("database clock", "MUT_DB_CLOCK", quick=True),
    broken("trust the session's end", "SESSION MUT_TRUST", quick=True),
    broken("WW < W", "SESSION MUT_SHORT_WAIT", quick=True),
    broken("believe before the ack", "MUT_EARLY_BELIEF", quick=True),
    broken("row before belief", "MUT_LATE_DISBELIEF", quick=True),
    broken("no bind", "MUT_NO_BIND", quick=True),
    broken("check, then strip", "MUT_NO_LOCK", quick=True),
    broken("same name without incarnation", "TWIN MUT_NO_INCARNATION", quick=True),
    broken("no quarantine", "FAILOVER MUT_NO_QUARANTINE", quick=True),
    broken("revive expired belief", "FAILOVER MUT_REVIVE", quick=True),
    broken("belief kept without an unbroken lease", "FAILOVER MUT_UNBROKEN", **LONG),
    broken("renewed before the rows are read", "FAILOVER MUT_RENEW_STRANGER", quick=True),
    broken("rebind without attempt number", "SESSION MUT_NO_ATTEMPT", quick=True),
    broken("grow does not wait for the disk", "MUT_ASYNC_GROW", quick=True),
    broken("shrink not flushed in a quarantine", "FAILOVER LOST_SHRINK MUT_SOFT_IN_QUARANTINE"),
    holds("settles: row lease", "CALM", quick=True),
    holds("settles: row lease, no circle", "CALM", cycles=True, quick=True),
    holds("settles: row + session lease", "CALM SESSION"),
    holds("settles: row + session lease, no circle", "CALM SESSION", cycles=True),
    holds("settles: row lease + fail-over", "CALM FAILOVER", **LONG),
    holds("settles: row lease + fail-over, no circle", "CALM FAILOVER", cycles=True, **DEEPEST),
    holds("settles: all together", f"CALM {ALL}", **DEEPEST),
    holds("settles: all together, no circle", f"CALM {ALL}", cycles=True, **DEEPEST),
    Variant("settles not: ghosts are never fenced", "violated", "CALM MUT_NEVER_FENCED", quick=True),
    Variant("settles not: quarantine never lifted", "violated", "CALM FAILOVER MUT_NEVER_LIFTED"),
    Variant("settles not: a plan never at rest", "violated", "CALM MUT_FICKLE_PLAN", cycles=True, quick=True),
]


def explore(variant: Variant, memory_mib: int, limit_sec: int) -> Found:
    """Compile and search one variant in a directory of its own."""
    with tempfile.TemporaryDirectory() as place:
        shutil.copy(HERE / variant.file, place)
        switches = [f"-D{switch}" for switch in variant.switches.split()]
        _run(["spin", "-a", *switches, variant.file], place)
        kind = "-DNP" if variant.cycles else "-DSAFETY"
        _run(["gcc", "-O2", "-w", kind, "-DCOLLAPSE", f"-DMEMLIM={memory_mib}", "-o", "pan", "pan.c"], place)
        search = ["./pan", f"-m{variant.depth}", f"-w{variant.hash_bits}", *(["-l"] if variant.cycles else [])]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        try:
            done = subprocess.run(search, cwd=place, capture_output=True, text=True, timeout=limit_sec, check=False)
            text = done.stdout
        except subprocess.TimeoutExpired:
            text = "interrupted"
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Found(
        verdict=_verdict(text),
        states=int(_number(r"(\d+) states, stored", text)),
        cpu_sec=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        memory_mib=_number(r"([\d.]+)\s+total actual memory usage", text),
    )


def _run(command: list[str], place: str) -> None:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode or "Error" in done.stdout:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def _verdict(text: str) -> str:
    if re.search(r"errors: [1-9]", text):
        return "violated"
    if re.search(r"too small|memory limit|out of memory|interrupted", text) or "errors: 0" not in text:
        return "not explored to the end"
    return "holds"


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found.group(1)) if found else 0.0


def main() -> None:
    """Explore, write the table, and fail when a verdict differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only the variants that take seconds")
    parser.add_argument("--only", default="", help="variants whose name has this text")
    parser.add_argument("--memory-mib", type=int, default=12_000, help="for one search; the largest takes 8,700")
    parser.add_argument("--limit-sec", type=int, default=3600, help="for one variant")
    parser.add_argument("--table", type=Path, help="write the table there as well, in Markdown")
    given = parser.parse_args()
    for tool in ("spin", "gcc"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not installed: on Debian and Ubuntu, apt-get install spin gcc")
    chosen = [v for v in VARIANTS if given.only in v.name and (v.quick or not given.quick)]
    lines = ["| variant | verdict | states | CPU s | MiB |", "|---|---|---:|---:|---:|"]
    wrong = []
    began_sec = time.perf_counter()
    print("\n".join(lines), flush=True)
    for variant in chosen:
        found = explore(variant, given.memory_mib, given.limit_sec)
        mark = "" if found.verdict == variant.expected else f" (**expected: {variant.expected}**)"
        figures = f"{found.states:,} | {found.cpu_sec:.1f} | {found.memory_mib:,.0f}"
        lines.append(f"| {variant.name} | {found.verdict}{mark} | {figures} |")
        print(lines[-1], flush=True)
        if mark:
            wrong.append(variant.name)
    print(f"\n{len(chosen)} variants, {time.perf_counter() - began_sec:.0f} s, {len(wrong)} not as expected")
    if given.table:
        given.table.parent.mkdir(parents=True, exist_ok=True)
        given.table.write_text("\n".join(lines) + "\n")
    if wrong:
        sys.exit(f"not as expected: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
