"""A network of its own for a test, in which packets can be dropped and connections reset by firewall rules.

It is a network namespace with nothing in it but a loopback device; the test makes it and removes it. A server in it
listens on all of 127.0.0.0/8, and each client reaches it by an address of its own, so that rules can tell clients
apart, whatever connections they make.
"""

import os
import secrets
import shutil
import subprocess
from contextlib import suppress
from types import TracebackType
from typing import Self

PROGRAMS = ("ip", "iptables", "nsenter")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


def why_not() -> str | None:
    """Tell why no network can be made here; None if one can."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    if missing:
        return f"no {', '.join(missing)} on this machine (Debian: apt-get install iproute2 iptables util-linux)"
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    with Network() as network:
        return network.complaint


class Network:
    """One network namespace; leaving removes it."""

    def __init__(self) -> None:
        self.name = f"jobsync-{secrets.token_hex(4)}"
        self.complaint: str | None = None

    def __enter__(self) -> Self:
        try:
            _run("ip", "netns", "add", self.name)
            self.run("ip", "link", "set", "lo", "up")
            self.run("iptables", "-S")
        except subprocess.CalledProcessError as error:
            self.complaint = f"this machine allows no network namespace with a firewall: {error.stderr.strip()}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(subprocess.CalledProcessError):
            _run("ip", "netns", "delete", self.name)

    @property
    def inside(self) -> tuple[str, ...]:
        """The beginning of a command that runs the rest of it in here."""
        return ("nsenter", f"--net=/run/netns/{self.name}")

    def run(self, *command: str) -> None:
        """Run a command in here and wait for it."""
        _run(*self.inside, "--", *command)

    # --- weather -------------------------------------------------------------------------------

    def drop(self, address: str) -> None:
        """Lose every packet to and from an address, silently."""
        self.run("iptables", "-A", "INPUT", "-d", address, "-p", "tcp", "-j", "DROP")
        self.run("iptables", "-A", "INPUT", "-s", address, "-p", "tcp", "-j", "DROP")

    def reset_server(self, address: str) -> None:
        """Answer what the server says to clients of an address with RST; the clients hear nothing of it."""
        self._reject("-s", address)

    def reset_client(self, address: str) -> None:
        """Answer what clients of an address say with RST; the server hears nothing of it."""
        self._reject("-d", address)

    def _reject(self, side: str, address: str) -> None:
        rule = ("-A", "INPUT", side, address, "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")
        self.run("iptables", *rule)

    def clear(self) -> None:
        """Let everything through again."""
        self.run("iptables", "-F", "INPUT")


def _run(*command: str) -> None:
    environment = {**os.environ, "PATH": PATH}
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=30, env=environment)
