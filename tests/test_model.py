"""The models of the ownership protocol say what they are expected to say; all variants: `make model`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[1] / "model" / "check.py"


@pytest.mark.slow
def test_each_quick_variant_of_the_model_has_the_expected_verdict() -> None:
    for tool in ("spin", "gcc"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (Debian and Ubuntu: apt-get install spin gcc)")
    done = subprocess.run([sys.executable, CHECK, "--quick"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
