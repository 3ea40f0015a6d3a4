"""The command without its extra, and the package without the command."""

import subprocess
import sys

BLOCKED = "import sys; sys.modules[{name!r}] = None; import jobsync.cli; jobsync.cli.main()"


def test_without_typer_the_command_says_what_to_install() -> None:
    found = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(name="typer")], capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert len(found.stderr.splitlines()) == 1
    assert "pip install 'jobsync[cli]'" in found.stderr


def test_importing_the_package_loads_neither_typer_nor_rich() -> None:
    code = "import sys, jobsync; print(sorted({'typer', 'rich', 'click'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_a_command_loads_neither_the_driver_nor_rich_before_it_needs_them() -> None:
    code = "import sys, jobsync.cli.app; print(sorted({'psycopg', 'asyncio', 'rich.console'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
