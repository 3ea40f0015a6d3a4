"""The tokens of the pool, and the one beside it: the right to lead.

The pool is what tasks hash to, the tokens from 0 on. The right to lead is granted, given up and fenced like a token of
the pool, under the same leases and the same exclusion constraint, so it needs no protocol of its own; its number lies
below the pool, so no task hashes to it. It is no share of any work: it is not dealt evenly, not counted, not
shown, and no callback ever names it.
"""

from jobsync.core.tokens import TokenSet

LEADERSHIP = -1
RIGHT_TO_LEAD = TokenSet.of([LEADERSHIP])


def pool_of(tokens: TokenSet) -> TokenSet:
    """Leave the right to lead out; the same set where it is not in."""
    return tokens - RIGHT_TO_LEAD if tokens.first == LEADERSHIP else tokens
