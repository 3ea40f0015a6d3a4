"""A Docker for the tests of the image, and the images that ours is made of: `make image-test`.

The machine's own Docker is taken if it has or gets those images. Else Debian's is installed (as root) and a daemon
started that ends with the tests: on a socket of its own, without a bridge or rules of iptables, so that the machine's
network stays as it is. What it cannot get from a registry is made under the same name: `python:3.13-slim` by
debootstrap, of the release of Debian that the official image is made of, and `postgres:18` upon that. Its images stay
in build/engine for the next time; `make clean` removes them.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = ROOT / "build" / "engine"
RECIPES = Path(__file__).with_name("image")
PYTHON, POSTGRES, COMPOSE = "python:3.13-slim", "postgres:18", "jobsync-test-compose"
DEBIAN = "trixie"
START_SEC = 60.0


def main() -> int:
    """Run the tests of the image where there is a Docker for them; gives pytest's exit status."""
    with ExitStack() as stack:
        if not (_docker("info") and _has(PYTHON) and _has(POSTGRES)):
            stack.enter_context(_own_daemon())
            if not _has(PYTHON):
                _make_python()
            if not _has(POSTGRES):
                _build(POSTGRES, RECIPES / "postgres")
        told = {"JOBSYNC_TEST_COMPOSE": shlex.join(_compose())}
        tests = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/deploy/test_image.py", *sys.argv[1:]]
        return subprocess.run(tests, cwd=ROOT, env=os.environ | told, check=False).returncode


def _docker(*words: str) -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", *words], capture_output=True, check=False).returncode == 0


def _has(image: str) -> bool:
    return _docker("image", "inspect", image) or _docker("pull", "--quiet", image)


@contextmanager
def _own_daemon() -> Iterator[None]:
    """Run a daemon for as long as the block lasts; the environment leads every client to it."""
    if os.geteuid() != 0:
        sys.exit(f"no Docker here has {PYTHON} and {POSTGRES} or can pull them, and only root may start one of its own")
    if not (shutil.which("dockerd") and shutil.which("debootstrap")):
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "--yes", "-qq", "docker.io", "debootstrap"], check=True)
    DATA.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="docker-") as short,  # A socket's path is short.
        (DATA.parent / "engine.log").open("w") as log,
    ):
        host = f"unix://{short}/docker.sock"
        command = [
            "dockerd", "--host", host, "--data-root", str(DATA), "--exec-root", f"{short}/run",
            "--pidfile", f"{short}/pid", "--bridge=none", "--iptables=false", "--ip-forward=false",
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True) as daemon:
            os.environ["DOCKER_HOST"] = host
            try:
                _wait_for(daemon)
                yield
            finally:
                _docker("image", "prune", "--force")  # What the tests' builds have replaced.
                daemon.terminate()
                daemon.wait()
                subprocess.run(
                    ["umount", f"{short}/run/netns/default"], capture_output=True, check=False
                )  # It forgets.


def _wait_for(daemon: "subprocess.Popen[bytes]") -> None:
    give_up = time.monotonic() + START_SEC
    while not _docker("info"):
        if daemon.poll() is not None or time.monotonic() > give_up:
            sys.exit(f"no Docker daemon could be started here; {DATA.parent / 'engine.log'} says why")
        time.sleep(0.2)


def _make_python() -> None:
    """Make the base of our image: Debian with its Python, whose command is the official image's as well."""
    print(f"{PYTHON} cannot be pulled: making it from Debian {DEBIAN} ...", flush=True)
    with tempfile.TemporaryDirectory(dir=DATA.parent) as root:
        wanted = "--include=ca-certificates,python3,python3-pip,python3-venv"
        with (DATA.parent / "debootstrap.log").open("w") as log:
            subprocess.run(["debootstrap", "--variant=minbase", wanted, DEBIAN, root], stdout=log, check=True)
        Path(root, "usr/local/bin/python").symlink_to("/usr/bin/python3")
        # The machine may trust more than Debian does: the certificate of a proxy, for one.
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", f"{root}/etc/ssl/certs/")
        with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as packed:
            subprocess.run(["docker", "import", "-", PYTHON], stdin=packed.stdout, stdout=subprocess.PIPE, check=True)


def _build(image: str, recipe: Path) -> None:
    print(f"building {image} ...", flush=True)
    command = ["docker", "build", "--network", "host", "--tag", image, str(recipe)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{image} could not be built:\n{done.stdout}{done.stderr}")


def _compose() -> list[str]:
    """Give the command of Docker Compose: the machine's, or Debian's in a container that has the socket."""
    if _docker("compose", "version"):
        return ["docker", "compose"]
    if not _docker("image", "inspect", COMPOSE):
        _build(COMPOSE, RECIPES / "compose")
    socket = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    mounts = ["--volume", f"{socket}:/var/run/docker.sock", "--volume", f"{ROOT}:{ROOT}:ro", "--workdir", str(ROOT)]
    return ["docker", "run", "--rm", "--network", "host", *mounts, COMPOSE]


if __name__ == "__main__":
    sys.exit(main())
