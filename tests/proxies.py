"""A TCP proxy between a test and a server, that can stop passing on what one connection says, without closing it."""

import socket
import threading
from contextlib import suppress
from typing import Self

BITE_BYTES = 65_536


class Proxy:
    """Passes on what comes, for any number of connections, until one is frozen: then its packets get lost."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._door.getsockname()[1])
        self._sockets = list[socket.socket]()
        self._frozen = set[int]()
        threading.Thread(target=self._let_in, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in [self._door, *self._sockets]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def freeze(self, client_port: int) -> None:
        """Pass nothing on any more, either way, of the connection that comes from this port."""
        self._frozen.add(client_port)

    def _let_in(self) -> None:
        with suppress(OSError):
            while True:
                caller, (_, client_port) = self._door.accept()
                server = socket.create_connection(self._to)
                self._sockets += [caller, server]
                for source, sink in ((caller, server), (server, caller)):
                    threading.Thread(target=self._relay, args=(source, sink, client_port), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, client_port: int) -> None:
        with suppress(OSError):
            while data := source.recv(BITE_BYTES):
                if client_port not in self._frozen:
                    sink.sendall(data)
            if client_port not in self._frozen:
                sink.shutdown(socket.SHUT_WR)
