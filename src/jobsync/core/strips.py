"""The line of tokens as strips, and what each node owes: the terms in which tokens are evened out.

How many tokens each node must give or take follows from the counts (`assignment.py`). Which tokens these
are is chosen by `opening.py`, which opens strips of nodes that have too much, and by `filling.py`, which
gives what is open to nodes that have too little. Neither moves a token more than the counts demand; among
all choices that move equally many, both look for the one that leaves the fewest ranges.

Model: the unpinned tokens are a line, cut into strips of one owner each. A deal adds or saves strips at few
kinds of places:

- a whole strip that is opened beside an open one, or beside one of a node that will take some, saves a strip;
- a whole strip that is opened between strangers changes its owner and nothing else;
- a strip that is cut is a strip more, unless the part cut off touches an open strip;
- an open part given to the owner of the strip beside it costs nothing, given to anybody else a strip.

Both are greedy: the cheapest first, and no looking back, in time that grows about as n log n with the strips.

Why it stays tidy for life: a node that joins gets intervals made of several small strips between two parts of
larger ones; when it leaves, these parts go back to its neighbours at no cost. Nodes give small strips whole and
cut the smallest that will do, so that strips stay large or vanish. Under random joins and leaves the number of
strips settles near a third of the square of the number of nodes (0.32 times for 10,000 tokens, 0.36 times for
1,000,000; measured with 25 to 75 nodes).

Not promised: the fewest ranges possible. That they are few is for speed; nothing else depends on it.
"""

from dataclasses import dataclass

Strip = tuple[int, int, int]
"""Tokens [start, stop) and their owner. Below `live`, the number of live nodes, owners are live nodes by
seniority; `live` itself stands for nobody; those above it are nodes that are gone. The strips of the latter
two are open: somebody must get them."""


@dataclass(slots=True)
class Dues:
    """What each live node must still give (or take), and which of them may do one token more.

    Counts differ by one where the nodes do not divide the tokens. `spare` says how many nodes have yet to do
    their one more; who they will be is left open as long as possible, since the right one saves a strip.
    """

    must: list[int]
    may: list[bool]
    spare: int

    def room(self, node: int) -> int:
        """Count the tokens that a node can give or take at most."""
        return self.must[node] + (self.spare > 0 and self.may[node])

    def pay(self, node: int, count: int) -> None:
        """Note that a node gave or took so many, at most its room."""
        if count > self.must[node]:
            self.spare -= 1
            self.may[node] = False
        self.must[node] = max(0, self.must[node] - count)
