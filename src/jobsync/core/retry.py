"""When to ask again what was refused: doubling waits, spread so that a fleet does not ask in step."""

from dataclasses import dataclass
from hashlib import sha256

MOST_DOUBLINGS = 16


@dataclass(slots=True)
class Retry:
    """The waits of one kind of question, for the node `name`.

    The spread is drawn from the node's name and the count of attempts: jitter without a source of randomness, so that a
    replay is exact.
    """

    name: str
    first_sec: float
    most_sec: float
    attempts: int = 0
    not_before_sec: float = float("-inf")

    def failed(self, now_sec: float) -> None:
        """Wait longer than the last time: between half and one and a half of the doubled wait."""
        wait_sec = min(self.most_sec, self.first_sec * 2 ** min(self.attempts, MOST_DOUBLINGS))
        self.attempts += 1
        self.not_before_sec = now_sec + wait_sec * (0.5 + self._spread())

    def succeeded(self) -> None:
        """Begin anew with the first wait."""
        self.attempts = 0
        self.not_before_sec = float("-inf")

    def _spread(self) -> float:
        digest = sha256(f"{self.name}\0{self.attempts}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:4], "big") / 2**32
