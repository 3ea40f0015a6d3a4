"""The tutorial, done: its files are saved, its commands run in one shell, in order, as they are printed."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.jobs import eventually
from tests.docs.pages import ROOT, Block, blocks_of
from tests.servers import new_dir

BLOCKS = blocks_of("tutorial.md")
LIMIT_SEC = 120
END = "--- end of block ---"


# The work of the tutorial's workers, a sleep of 0.1 s, lasts as long as the test needs it to: long while the file of
# this name is there, so that a busy machine kills a worker in time, and no time at all afterwards.
SLOWLY = """
import os, time
real_sleep = time.sleep
time.sleep = lambda sec: real_sleep(sec if sec != 0.1 else 0.5 if os.path.exists({mark!r}) else 0.001)
"""


class Shell:
    """One bash that is given block after block, as a reader would type them."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, text: str) -> str:
        """Run a block and give what it printed; its last status stands at the end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{text}\necho\necho '{END}' $?\n")
        self._process.stdin.flush()
        said: list[str] = []
        for line in self._process.stdout:
            if line.startswith(END):
                return "".join(said)
            said.append(line)
        raise AssertionError(f"the shell has ended: {''.join(said)}")

    def close(self) -> None:
        """End the shell, and with it what it has started and not waited for."""
        assert self._process.stdin is not None
        self._process.stdin.write("kill -9 $(jobs -p) 2> /dev/null; exit\n")
        self._process.stdin.close()
        self._process.wait(LIMIT_SEC)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def server_folder(run_dir: Path) -> Path:
    """Give a folder for the embedded server, which its own account can pass through."""
    return new_dir(run_dir, "tutorial")


def environment(server_folder: Path, *bins: Path) -> dict[str, str]:
    kept = {
        name: os.environ[name] for name in ("HOME", "LANG", "PIP_INDEX_URL", "PIP_CONFIG_FILE") if name in os.environ
    }
    path = os.pathsep.join([*map(str, bins), os.environ["PATH"]])
    return {**kept, "PATH": path, "COLUMNS": "120", "JOBSYNC_EMBEDDED_DIR": str(server_folder / "data")}


@pytest.fixture
def slowly(tmp_path: Path) -> Path:
    """Give the file that makes the work slow while it is there, and the module by which it does."""
    mark = tmp_path / "slowly"
    mark.touch()
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(SLOWLY.format(mark=str(mark)), encoding="utf-8")
    return mark


@pytest.fixture
def shell(tmp_path: Path, server_folder: Path, slowly: Path) -> Iterator[Shell]:
    clock = {"PYTHONPATH": str(slowly.with_name("clock"))}
    shell = Shell(tmp_path, environment(server_folder, Path(sys.executable).parent) | clock)
    yield shell
    shell.close()


def block(title: str) -> Block:
    return next(each for each in BLOCKS if each.title == title)


def fleet_is(shell: Shell, *words: str) -> bool:
    said = shell.run("jobsync status")
    return all(word in said for word in words)


def test_every_command_of_the_tutorial(shell: Shell, slowly: Path) -> None:
    assert "are ready" in shell.run(block("database").text)
    folder = shell.directory / "tutorial"
    for file in ("worker.py", "check.py", "shop.py"):
        (folder / file).write_text(block(file).text, encoding="utf-8")
    shell.run(block("start").text)
    eventually(lambda: fleet_is(shell, "healthy", "worker-03", "3 live nodes"), "three nodes", limit_sec=LIMIT_SEC)
    assert "10,000 of 10,000 tokens" in shell.run(block("look").text)
    shell.run(block("kill").text)
    eventually(lambda: fleet_is(shell, "fenced", "2 live nodes", "10,000 of 10,000 tokens"), "two own all")
    slowly.unlink()
    reported = {line for line in shell.run(block("finish").text).splitlines() if line.startswith("task")}
    assert len(reported) <= 1
    done = shell.run(block("check").text)
    assert "600 tasks done" in done
    assert sum(int(count) for count in re.findall(r"^worker-0\d (\d+)$", done, re.MULTILINE)) == 600
    packed = re.findall(r"packs (order-\d+)", shell.run(block("run").text))
    assert sorted(packed) == sorted(f"order-{number}" for number in range(60))


def test_no_command_of_the_tutorial_is_left_out() -> None:
    with_titles = {each.title for each in BLOCKS if each.language == "bash"}
    assert with_titles == {"install", "database", "start", "look", "kill", "finish", "check", "run", "demo"}


@pytest.mark.slow
def test_the_tutorial_from_nothing(tmp_path: Path, server_folder: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "src", checkout / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, checkout)
    shell = Shell(checkout, environment(server_folder))
    try:
        assert "Usage" in shell.run(block("install").text)
        assert "are ready" in shell.run(block("database").text)
        assert "verdict" in shell.run(block("demo").text).lower()
    finally:
        shell.close()
