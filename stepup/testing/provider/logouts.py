"""Tells applications that somebody has signed out (OpenID Connect Back-Channel and Front-Channel Logout 1.0)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import requests

from stepup.testing.provider.configuration import Client
from stepup.testing.provider.personalities import LOGOUT_EVENT
from stepup.testing.provider.state import LogoutRecord, Session

if TYPE_CHECKING:
    from stepup.testing.provider.oidc import Provider

#: Seconds that a logout token is good for, and that an application is waited for.
LIFETIME = 120
PATIENCE = 5


def logout_token(provider: Provider, client: Client, *, sub: str, sid: str) -> str:
    """A logout token (OpenID Connect Back-Channel Logout 1.0, section 2.4), as the personality has it."""
    key, now = provider.keys.signing(client), int(provider.clock())
    header = {"alg": client.id_token_signed_response_alg, "kid": key.kid, "typ": "logout+jwt"}
    claims: dict[str, Any] = {
        "iss": provider.issuer,
        "aud": client.client_id,
        "iat": now,
        "exp": now + LIFETIME,
        "jti": secrets.token_urlsafe(16),
        "events": {LOGOUT_EVENT: {}},
    }
    claims |= {name: value for name, value in (("sub", sub), ("sid", sid)) if value}
    return provider.personality.logout_token(header, claims, key)


def log_out(provider: Provider, client: Client, *, sub: str, sid: str) -> int:
    """Tell one application. Returns the status of its answer, 0 where there is none."""
    try:
        with requests.Session() as session:
            session.trust_env = False
            status = session.post(
                client.backchannel_logout_uri,
                data={"logout_token": logout_token(provider, client, sub=sub, sid=sid)},
                timeout=PATIENCE,
                allow_redirects=False,
            ).status_code
    except requests.RequestException:
        status = 0
    provider.state.record_logout(LogoutRecord(client.client_id, sub, sid, status))
    return status


def session_ended(provider: Provider, session: Session) -> list[str]:
    """Tell all applications that somebody has gone to with this session.

    Returns:
        What is to be shown in frames to tell the others (OpenID Connect Front-Channel Logout 1.0, section 2).
    """
    clients = [provider.clients[each].client for each in provider.state.visited.take(session.sid) or ()]
    for client in clients:
        if client.backchannel_logout_uri:
            log_out(provider, client, sub=session.user.sub, sid=session.sid)
    query = urlencode({"iss": provider.issuer, "sid": session.sid})
    uris = [client.frontchannel_logout_uri for client in clients if client.frontchannel_logout_uri]
    return [f"{uri}{'&' if '?' in uri else '?'}{query}" for uri in uris]
