"""Signing out of the OP too: otherwise the next person at this computer signs in without a password."""

from __future__ import annotations

from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from stepup import provider, session
from stepup.exceptions import ProviderError


def sign_out_url(request: HttpRequest) -> str:
    """Where the browser goes after signing out here (OpenID Connect RP-Initiated Logout 1.0, section 2).

    While the OP does not answer, that is the start page: signing out of this site must not depend on another.
    """
    start = reverse("start")
    try:
        endpoint = provider.current().endpoint("end_session_endpoint")
    except ProviderError:
        return start
    query = {
        "client_id": settings.OIDC_RP_CLIENT_ID,
        "post_logout_redirect_uri": request.build_absolute_uri(start),
    }
    if id_token := session.id_token_hint(request):
        # With it the OP knows that this very user wants to leave, and does not ask once more.
        query["id_token_hint"] = id_token
    return f"{endpoint}?{urlencode(query)}"
