"""`jobsync dashboard` as a process: where it listens, whom it answers, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest


def command(dsn: str, prefix: str, *options: str) -> "subprocess.Popen[str]":
    line = [sys.executable, "-m", "jobsync", "dashboard", "--appname", prefix, *options]
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "SYNC_DSN": dsn}
    )


def test_it_listens_here_alone_and_stops_when_told(server_dsn: str, prefix: str) -> None:
    with command(server_dsn, prefix, "--port", "0", "--auth", "new") as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[-1]
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(address, timeout=60) as reply:
                assert "Log in" in reply.read().decode()
            strange = urllib.request.Request(address, headers={"Host": "evil.example"})
            with pytest.raises(urllib.error.HTTPError, match="400"):
                urllib.request.urlopen(strange, timeout=60)
        finally:
            process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert errors.startswith("token: ")
    assert "ERROR" not in errors


def test_a_port_that_is_taken_is_one_line(server_dsn: str, prefix: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        command(server_dsn, prefix, "--port", str(taken.getsockname()[1])) as process,
    ):
        said, errors = process.communicate(timeout=60)
    assert (process.returncode, said) == (2, "")
    assert "give another --port" in errors
    assert len(errors.splitlines()) == 1
