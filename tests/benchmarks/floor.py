"""The least that a sign-in through an OP can be: written by hand for one OP and one site, which it trusts."""

from __future__ import annotations

from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

import jwt
import requests
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model, login
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.crypto import get_random_string

settings: Any = django_settings  # with names that only these sites have
_http = requests.Session()


@lru_cache
def _key(kid: str) -> jwt.PyJWK:
    jwks = _http.get(f"{settings.ISSUER}keys", timeout=10, verify=settings.OIDC_VERIFY_SSL).json()
    return next(jwt.PyJWK(jwk) for jwk in jwks["keys"] if jwk["kid"] == kid)


def authenticate(request: HttpRequest) -> HttpResponse:
    pending = {"state": get_random_string(32), "nonce": get_random_string(32)}
    request.session["pending"] = pending
    params = {"client_id": settings.OIDC_RP_CLIENT_ID, "redirect_uri": _redirect_uri(request), **pending}
    return HttpResponseRedirect(f"{settings.ISSUER}authorize?{urlencode(params)}")


def callback(request: HttpRequest) -> HttpResponse:
    pending = request.session.pop("pending", None)
    if pending is None or pending["state"] != request.GET["state"]:
        return HttpResponseForbidden()
    form = {
        "grant_type": "authorization_code",
        "code": request.GET["code"],
        "redirect_uri": _redirect_uri(request),
        "client_id": settings.OIDC_RP_CLIENT_ID,
        "client_secret": settings.OIDC_RP_CLIENT_SECRET,
    }
    answer = _http.post(f"{settings.ISSUER}token", data=form, timeout=10, verify=settings.OIDC_VERIFY_SSL)
    answer.raise_for_status()
    id_token = answer.json()["id_token"]
    claims: dict[str, Any] = jwt.decode(
        id_token,
        _key(jwt.get_unverified_header(id_token)["kid"]),
        algorithms=["RS256"],
        audience=settings.OIDC_RP_CLIENT_ID,
        issuer=settings.ISSUER,
    )
    if claims["nonce"] != pending["nonce"]:
        return HttpResponseForbidden()
    user = get_user_model().objects.get(email=claims["email"])
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    request.session["amr"] = claims.get("amr", [])
    return HttpResponseRedirect("/")


def _redirect_uri(request: HttpRequest) -> str:
    return request.build_absolute_uri(reverse("oidc_authentication_callback"))


urlpatterns = [
    path("authenticate/", authenticate, name="oidc_authentication_init"),
    path("callback/", callback, name="oidc_authentication_callback"),
]
