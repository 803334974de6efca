"""Remembers when a step-up succeeded, for the start page to tell.

An OP need not say when the user authenticated, and one like Auth0 does not where no `max_age` was asked for. The
evidence is then without a time, which is right for a decision. For a person, the time at which this site was told is
good enough.
"""

from __future__ import annotations

import time
from typing import Any

from django.http import HttpRequest

from stepup import Evidence, Requirement

SESSION_KEY = "stepped_up_at"


def remember_step_up(
    *, request: HttpRequest, requirement: Requirement | None, evidence: Evidence, **kwargs: Any
) -> None:
    """Note the time by this site's clock for each method proved; a receiver of `stepup.signals.elevated`."""
    if requirement is not None:
        request.session[SESSION_KEY] = {method: time.time() for method in evidence.proofs.get("amr", {})}


def step_up_times(request: HttpRequest) -> dict[str, float]:
    """When this site was told of each method, in seconds since the epoch."""
    remembered: dict[str, float] = request.session.get(SESSION_KEY, {})
    return remembered
