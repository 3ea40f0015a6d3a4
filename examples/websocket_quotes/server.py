"""A feed of quotes over WebSockets, as exchanges have them: numbered by symbol, with a short log to resume from.

`python server.py SYMBOLS QUOTES_PER_SEC` prints its address and streams until it is told to finish. Messages are JSON:

    {"subscribe": {"AAA": 17}}    from then on, AAA's quotes from number 18: first out of the log, then live
    {"unsubscribe": ["AAA"]}      no more of them
    {"finish": true}              make no more quotes, and tell what was sent, {"sent": {symbol: [seq, price, volume]}}
"""

import asyncio
import json
import random
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast, serve

TICK_SEC = 0.05
REPLAY_SEC = 60


@dataclass(slots=True)
class Symbol:
    """What one symbol has sent so far, and the end of it word by word."""

    log: deque[tuple[int, str]]
    seq: int = 0
    price: int = 10_000
    volume: int = 0
    subscribers: set[ServerConnection] = field(default_factory=set)


class Feed:
    """The quotes of all symbols. Nothing here waits between a log and its subscribers, so that order is kept."""

    def __init__(self, symbols: int, quotes_per_sec: float) -> None:
        self._per_tick = symbols * quotes_per_sec * TICK_SEC
        kept = int(REPLAY_SEC * quotes_per_sec)
        self._symbols = {f"SYM{number:03}": Symbol(deque(maxlen=kept)) for number in range(symbols)}
        self._rng = random.Random(7)  # noqa: S311 - prices, not secrets
        self._finished = False

    async def stream(self) -> None:
        """Make quotes, for one symbol after the other, until told to finish."""
        due = 0.0
        while True:
            for name, symbol in self._symbols.items():
                if due < 1:
                    await asyncio.sleep(TICK_SEC)
                    due += self._per_tick
                if self._finished:
                    return
                self._quote(name, symbol)
                due -= 1

    def _quote(self, name: str, symbol: Symbol) -> None:
        size = self._rng.randrange(1, 100)
        symbol.seq += 1
        symbol.price += self._rng.randrange(-20, 21)
        symbol.volume += size
        text = json.dumps({"symbol": name, "seq": symbol.seq, "price": symbol.price, "size": size})
        symbol.log.append((symbol.seq, text))
        broadcast(symbol.subscribers, text)

    async def serve(self, connection: ServerConnection) -> None:
        """Do what one client asks for, until it goes."""
        try:
            async for message in connection:
                await self._answer(connection, json.loads(message))
        finally:
            for symbol in self._symbols.values():
                symbol.subscribers.discard(connection)

    async def _answer(self, connection: ServerConnection, asked: dict[str, Any]) -> None:
        for name, after in asked.get("subscribe", {}).items():
            symbol = self._symbols[name]
            if after < symbol.seq - len(symbol.log):
                await connection.close(1008, f"{name}: the log no longer reaches back to {after}")
                return
            for seq, text in symbol.log:
                if seq > after:
                    broadcast([connection], text)
            symbol.subscribers.add(connection)
        for name in asked.get("unsubscribe", []):
            self._symbols[name].subscribers.discard(connection)
        if asked.get("finish"):
            self._finished = True
            sent = {name: [symbol.seq, symbol.price, symbol.volume] for name, symbol in self._symbols.items()}
            await connection.send(json.dumps({"sent": sent}))


async def main(symbols: int, quotes_per_sec: float) -> None:
    """Serve on a free port, and say which."""
    feed = Feed(symbols, quotes_per_sec)
    async with serve(feed.serve, "127.0.0.1", 0) as server:
        print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await feed.stream()
        await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
