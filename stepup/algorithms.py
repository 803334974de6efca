"""The names of the algorithms that an ID token may be signed with, in a module that imports no cryptography."""

from __future__ import annotations

#: RFC 7518, 3.1; RFC 8037, 3.1; RFC 9864, 2.2. "none" is not among them.
SIGNING_ALGORITHMS = frozenset(
    {f"{family}{size}" for family in ("HS", "RS", "PS", "ES") for size in ("256", "384", "512")}
    | {"EdDSA", "Ed25519", "Ed448"}
)
