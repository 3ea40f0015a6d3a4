"""The worker of the image, started by the image's own command line: it is ready, works, is drained and stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from jobsync import JobQueue
from jobsync.api.cluster import open_cluster
from tests.api.jobs import eventually, query, settings
from tests.cli.command import clean_environment
from tests.deploy.parts import DRAIN, WORKER, instruction
from tests.servers import free_port

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


@pytest.fixture
def environment(server_dsn: str, prefix: str) -> dict[str, str]:
    """Give the environment of a container, with this test's own port."""
    return clean_environment() | {
        "SYNC_DSN": server_dsn, "SYNC_SQL_APPNAME": prefix, "NODE_NAME": "worker-5d9-x7",
        "HEALTH_PORT": str(free_port()),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip


@pytest.fixture
def worker(environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", *instruction("ENTRYPOINT"), *instruction("CMD")]
    with subprocess.Popen(command, cwd=WORKER.parent, env=environment) as process:
        yield process
        process.kill()


def is_ready(port: str) -> bool:
    connection = HTTPConnection("127.0.0.1", int(port), timeout=5)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def docker_thinks_it_is_well(port: str) -> bool:
    """Do what the image's HEALTHCHECK does, on another port."""
    program, flag, text = instruction("    CMD")
    assert (program, flag) == ("python", "-c")
    return subprocess.run([sys.executable, flag, text.replace("8080", port)], check=False).returncode == 0


def test_a_container_s_life(
    worker: "subprocess.Popen[bytes]", environment: dict[str, str], server_dsn: str, prefix: str
) -> None:
    port = environment["HEALTH_PORT"]
    eventually(lambda: is_ready(port), "it is ready", limit_sec=60)
    assert docker_thinks_it_is_well(port)
    subprocess.run([sys.executable, WORKER, "5"], env=environment, check=True, timeout=60)
    with JobQueue(settings(server_dsn, prefix)) as queue:
        eventually(lambda: queue.counts()["done"] == 5, "all is done", limit_sec=60)
    drained = subprocess.run(["sh", "-c", DRAIN], env=environment, stdout=subprocess.PIPE, timeout=60, check=True)
    assert b"may be stopped" in drained.stdout
    with open_cluster(settings(server_dsn, prefix)) as cluster:
        (asked,) = cluster.steering()
        assert (asked.verb, asked.node, asked.ends_at is not None) == ("drain", "worker-5d9-x7", True)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert query(server_dsn, f"select count(*) from {prefix}node") == [(0,)]
