"""`{% satisfies "mfa" as ok %}`: whether this page's visitor satisfies a requirement. And until when."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from django import template

from stepup import gate
from stepup.conf import DEFAULT_REQUIREMENT
from stepup.gate import Needs

register = template.Library()


@register.simple_tag(takes_context=True)
def satisfies(context: dict[str, Any], requirement: Needs = DEFAULT_REQUIREMENT) -> bool:
    """True where the visitor satisfies the requirement; False also where there is no request to judge by.

    A requirement that is only reported is satisfied by whoever is signed in. The tag shows or hides what is on a page.
    It protects nothing: that is what the doors are for.
    """
    request = context.get("request")
    return request is not None and gate.decide(request, requirement).satisfied


@register.simple_tag(takes_context=True)
def satisfied_until(context: dict[str, Any], requirement: Needs = DEFAULT_REQUIREMENT) -> datetime | None:
    """When what the visitor has proved will be too old for a requirement, for a countdown; in UTC.

    None where it does not satisfy the requirement now, and where it never grows too old. It is the time without leeway:
    the door may stay open for a little longer.
    """
    request = context.get("request")
    decision = gate.decide(request, requirement) if request is not None else None
    expires = decision.expires if decision is not None else None
    return None if expires is None else datetime.fromtimestamp(expires, tz=timezone.utc)
