"""What `stepup.session` keeps on a session, made by hand where a test needs it odd."""

from __future__ import annotations

from typing import Any

from stepup import session


def stored_evidence(store: Any, user: Any, issuer: str, subject: str = "stepup|anna", **changes: Any) -> dict[str, Any]:
    """Evidence of this user and issuer, with whatever else is said of it."""
    return {"for": session._whose(store, user), "iss": session._mark(issuer), "sub": subject, **changes}
