"""What is locked can be read by this site alone, for the purpose that it was locked for."""

from __future__ import annotations

from typing import Any

import pytest

from stepup import vault

CONTENT = b"a refresh token"


def test_what_was_locked_is_unlocked_to_the_byte() -> None:
    assert vault.unlock(vault.lock(CONTENT, purpose="test"), purpose="test") == CONTENT


def test_what_is_locked_shows_nothing_of_its_content_and_is_never_the_same_twice() -> None:
    first, second = (vault.lock(CONTENT, purpose="test") for _ in range(2))
    assert first != second
    assert "refresh" not in first


@pytest.mark.parametrize("position", [0, 20, 50, -5])
def test_what_was_changed_is_not_unlocked(position: int) -> None:
    locked = vault.lock(CONTENT, purpose="test")
    changed = list(locked)
    changed[position] = "A" if changed[position] != "A" else "B"
    with pytest.raises(ValueError, match="cannot be unlocked"):
        vault.unlock("".join(changed), purpose="test")


@pytest.mark.parametrize("junk", ["", "x", "ü", None, 7, ["a"]])
def test_what_was_never_locked_is_not_unlocked(junk: Any) -> None:
    with pytest.raises(ValueError, match="cannot be unlocked"):
        vault.unlock(junk, purpose="test")


def test_what_was_locked_for_one_purpose_is_not_unlocked_for_another() -> None:
    with pytest.raises(ValueError, match="cannot be unlocked"):
        vault.unlock(vault.lock(CONTENT, purpose="test"), purpose="other")


def test_a_secret_key_that_was_replaced_unlocks_while_it_is_a_fallback_and_no_longer(settings: Any) -> None:
    settings.SECRET_KEY = "the old secret key of this site"
    locked = vault.lock(CONTENT, purpose="test")
    settings.SECRET_KEY = "the new secret key of this site"
    with pytest.raises(ValueError, match="cannot be unlocked"):
        vault.unlock(locked, purpose="test")
    settings.SECRET_KEY_FALLBACKS = [b"the old secret key of this site"]
    assert vault.unlock(locked, purpose="test") == CONTENT


def test_what_is_looked_for_is_found_by_a_hash_that_needs_the_secret_key(settings: Any) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "the old secret key of this site", []
    (old,) = vault.digests(CONTENT, purpose="test")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "the new secret key of this site", [settings.SECRET_KEY]
    new, fallback = vault.digests(CONTENT, purpose="test")

    assert fallback == old
    assert len({old, new, *vault.digests(CONTENT, purpose="other"), *vault.digests(b"", purpose="test")}) == 6
    assert all(len(each) == 64 for each in (old, new))
