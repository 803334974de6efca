"""Encryption of what is kept on the server's side of a session, and of which nobody else should read a word.

A session store is a table, a cache or a file: backups, replicas and administrators have it too.
"""

from __future__ import annotations

import base64
import hmac
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from stepup import conf

__all__ = ["digests", "lock", "unlock"]


def lock(content: bytes, *, purpose: str) -> str:
    """Encrypt and authenticate, with a key that is made of `SECRET_KEY` for this purpose alone.

    Args:
        purpose: a fixed word. What was locked for one purpose cannot be unlocked for another.
    """
    return _fernet(purpose, conf.secret_keys()).encrypt(content).decode("ascii")


def unlock(locked: str, *, purpose: str) -> bytes:
    """What was locked, also where it was with one of `SECRET_KEY_FALLBACKS`.

    Raises:
        ValueError: it was changed, or locked for another purpose or with a key that is no more.
    """
    try:
        return _fernet(purpose, conf.secret_keys()).decrypt(locked)
    except (InvalidToken, TypeError, ValueError):
        raise ValueError("cannot be unlocked") from None


def digests(content: bytes, *, purpose: str) -> tuple[str, ...]:
    """Keyed hashes to find by what must not be read: with `SECRET_KEY` first, then with each of its fallbacks."""
    return tuple(
        hmac.digest(_key(f"{purpose}.digest", secret_key), content, "sha256").hex() for secret_key in conf.secret_keys()
    )


@lru_cache(maxsize=16)
def _fernet(purpose: str, secret_keys: tuple[bytes, ...]) -> MultiFernet:
    return MultiFernet([Fernet(_key(purpose, secret_key)) for secret_key in secret_keys])


@lru_cache(maxsize=16)
def _key(purpose: str, secret_key: bytes) -> bytes:
    derived = HKDF(SHA256(), length=32, salt=None, info=f"stepup.{purpose}".encode()).derive(secret_key)
    return base64.urlsafe_b64encode(derived)
