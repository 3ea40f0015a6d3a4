"""From the text of a task id to its token.

Model: a hash function is a pure function of the id's text and of `total_tokens`. Every node of a cluster, on
every machine and in every process, computes the same token for the same id: this is what lets a node know its
own tasks without asking anybody.

Authoritative: the definitions below, which are a part of the contract between nodes. A changed definition is
another hash function and needs another name, since nodes of both kinds would do one task twice.

Text is encoded as UTF-8. Lone surrogates (file names that are not valid UTF-8 carry them) are encoded as they
stand, so that every `str` has a token.

Not promised: resistance against people who choose ids in order to load one node. The digests serve to spread,
not to protect, and OpenSSL is told so: MD5 works where a FIPS policy forbids it for security.
"""

import hashlib
from collections.abc import Callable, Mapping
from importlib import import_module
from struct import Struct
from types import MappingProxyType
from typing import Any, Final

HashFunction = Callable[[str, int], int]


def _sha256_constructor() -> Callable[[bytes], Any]:
    """Give the quickest SHA-256 of this interpreter for texts as short as task ids.

    CPython's own implementation, which hashlib falls back to without OpenSSL, starts about 50 ns sooner than
    OpenSSL's (measured on 3.11: 690 against 800 ns for the double hash of a short id). Its module has
    changed its name once and is private, so that both names, and its absence, are foreseen.
    """
    for module in ("_sha2", "_sha256"):
        try:
            constructor: Callable[[bytes], Any] = import_module(module).sha256
        except (ImportError, AttributeError):
            continue
        return constructor
    return hashlib.sha256


_sha256: Final = _sha256_constructor()
_first_8_bytes: Final = Struct(">Q").unpack_from


def double_sha256(text: str, total_tokens: int) -> int:
    """Give the first 8 bytes, big-endian, of SHA-256(SHA-256(text)), modulo `total_tokens`."""
    (number,) = _first_8_bytes(_sha256(_sha256(text.encode("utf-8", "surrogatepass")).digest()).digest())
    return number % total_tokens  # type: ignore[no-any-return]


def sha256(text: str, total_tokens: int) -> int:
    """Give the first 8 bytes, big-endian, of SHA-256(text), modulo `total_tokens`."""
    (number,) = _first_8_bytes(_sha256(text.encode("utf-8", "surrogatepass")).digest())
    return number % total_tokens  # type: ignore[no-any-return]


def md5(text: str, total_tokens: int) -> int:
    """Give the whole MD5 digest of the text as one big-endian number, modulo `total_tokens`."""
    digest = hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return int.from_bytes(digest, "big") % total_tokens


HASH_FUNCTIONS: Final[Mapping[str, HashFunction]] = MappingProxyType(
    {"double_sha256": double_sha256, "sha256": sha256, "md5": md5}
)
"""Every hash function by the name that settings and the cluster's meta row know it by."""
