"""`{% satisfies "mfa" as ok %}`: whether this page's visitor satisfies a requirement."""

from __future__ import annotations

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
