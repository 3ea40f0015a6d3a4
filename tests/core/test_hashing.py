"""Tokens of task ids: the definitions, on vectors worked out with coreutils' sha256sum and md5sum and long division."""

import hashlib
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsync.core import hashing
from jobsync.core.hashing import HASH_FUNCTIONS, HashFunction, double_sha256, md5, sha256

# `printf %s ID | sha256sum`, the same piped through `xxd -r -p | sha256sum`, and `printf %s ID | md5sum`.
VECTORS = [
    # id, total tokens, double_sha256, sha256, md5
    ("task-1", 10_000, 6_243, 4_223, 8_390),
    ("task-1", 1_000_000, 56_243, 364_223, 398_390),
    ("größe-ü", 10_000, 3_097, 7_295, 9_289),
    ("größe-ü", 1_000_000, 243_097, 437_295, 269_289),
    ("日本", 10_000, 9_288, 6_331, 3_539),
    ("日本", 1_000_000, 719_288, 56_331, 703_539),
]
every_function = pytest.mark.parametrize("function", HASH_FUNCTIONS.values(), ids=HASH_FUNCTIONS.keys())


@pytest.mark.parametrize(("text", "total", "double", "single", "md"), VECTORS)
def test_ids_have_the_tokens_of_the_definition(text: str, total: int, double: int, single: int, md: int) -> None:
    assert (double_sha256(text, total), sha256(text, total), md5(text, total)) == (double, single, md)


def test_double_sha256_agrees_with_the_published_double_hash_of_hello() -> None:
    # 9595c9df90075148 eb06860365df3358 4b75bff782a510c6 cd4883a419833d50
    assert double_sha256("hello", 1_000_000) == 0x9595C9DF90075148 % 1_000_000 == 438_856


def test_sha256_agrees_with_the_example_of_fips_180() -> None:
    # "abc": ba7816bf 8f01cfea 414140de 5dae2223 b00361a3 96177a9c b410ff61 f20015ad
    assert sha256("abc", 1_000_000) == 0xBA7816BF8F01CFEA % 1_000_000 == 700_074


def test_md5_agrees_with_the_test_suite_of_rfc_1321() -> None:
    assert md5("abc", 1_000_000) == 0x900150983CD24FB0D6963F7D28E17F72 % 1_000_000 == 803_570


@given(st.text(st.characters(codec="utf-8")), st.integers(1, 1_000_000))
def test_every_text_follows_the_definition_step_by_step(text: str, total: int) -> None:
    once = hashlib.sha256(text.encode()).hexdigest()
    twice = hashlib.sha256(bytes.fromhex(once)).hexdigest()
    assert sha256(text, total) == int(once[:16], 16) % total
    assert double_sha256(text, total) == int(twice[:16], 16) % total
    assert md5(text, total) == int(hashlib.md5(text.encode()).hexdigest(), 16) % total


@every_function
def test_one_token_takes_every_id(function: HashFunction) -> None:
    assert {function(text, 1) for text in ("", "a", "日本")} == {0}


@every_function
def test_a_lone_surrogate_has_a_token_of_its_own(function: HashFunction) -> None:
    assert function("file-\udcff", 2**61) != function("file-?", 2**61)


def test_a_lone_surrogate_is_encoded_as_it_stands() -> None:
    assert sha256("\udcff", 2**64) == int(hashlib.sha256(b"\xed\xb3\xbf").hexdigest()[:16], 16)


@every_function
def test_ids_spread_evenly_over_the_tokens(function: HashFunction) -> None:
    counts = [0] * 100
    for number in range(20_000):
        counts[function(f"task-{number}", 100)] += 1
    # 200 a token is expected, and the standard deviation is 14: seven of them are never seen by chance.
    assert min(counts) > 100
    assert max(counts) < 300


def test_settings_know_the_three_functions_by_name() -> None:
    assert dict(HASH_FUNCTIONS) == {"double_sha256": double_sha256, "sha256": sha256, "md5": md5}


def test_the_registry_cannot_be_changed_by_accident() -> None:
    with pytest.raises(TypeError):
        HASH_FUNCTIONS["crc32"] = sha256  # type: ignore[index]


def test_an_interpreter_without_the_private_modules_hashes_with_hashlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("_sha2", "_sha256"):
        monkeypatch.setitem(sys.modules, module, None)
    assert hashing._sha256_constructor() is hashlib.sha256


def test_md5_works_where_a_policy_forbids_it_for_security(monkeypatch: pytest.MonkeyPatch) -> None:
    real = hashlib.md5

    def under_fips(data: bytes = b"", *, usedforsecurity: bool = True) -> Any:
        if usedforsecurity:
            raise ValueError("[digital envelope routines] unsupported")
        return real(data, usedforsecurity=False)

    monkeypatch.setattr(hashlib, "md5", under_fips)
    assert md5("abc", 1_000_000) == 803_570
