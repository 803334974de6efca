"""Provider dialects as data: how each OP is asked, and what of its answer proves it.

Pure: no Django, no settings. A dialect is a value, and what is special about an OP is written here or nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from stepup.assurance import Requirement

__all__ = ["DIALECTS", "MULTI_FACTOR", "Dialect"]

#: The authentication context class for multi-factor authentication (PAPE 1.0), which Auth0 is asked with.
MULTI_FACTOR = "http://schemas.openid.net/pape/policies/2007/06/multi-factor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What one OP's way of speaking OpenID Connect asks for.

    Attributes:
        requirements: the named requirements that a site gets without defining them.
        prompt_again: the ``prompt`` that makes it authenticate the user anew.
    """

    requirements: Mapping[str, Requirement] = field(default_factory=lambda: MappingProxyType({}))
    prompt_again: str = "login"


DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        # Auth0 answers with `amr` only after multi-factor authentication, and never with `amr` in ID tokens from silent
        # authentication, from refresh tokens or from its MFA API. The request is honoured by a post-login Action.
        "auth0": Dialect(
            requirements=MappingProxyType({"mfa": Requirement(name="mfa", acr_values=(MULTI_FACTOR,), amr=("mfa",))}),
        ),
        # OPs agree on no value that means multi-factor authentication, so the site has to say what its OP's is.
        "generic": Dialect(),
    }
)
