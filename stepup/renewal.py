"""Renewing a sign-in without the user's knowing: by refresh token, on the server, or else through the browser.

The OP is asked from time to time whether it still vouches for the user. That it does not answer is no answer: the user
goes on for a while. That it says no is one, and then the user has to sign in anew. Nobody is signed out here.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from django.contrib.auth import load_backend
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string
from django.views.decorators.debug import sensitive_variables

from stepup import challenge, clock, conf, provider, session, turns, vault
from stepup.backends import StepUpBackend, VerifiedLogin
from stepup.exceptions import ClaimError, ProviderError, TokenRequestRefused
from stepup.id_token import UnknownKey
from stepup.session import Renewal

__all__ = ["begin", "end", "forget_other_session", "note_success", "put_off", "renew", "save_carefully"]

logger = logging.getLogger("stepup")

#: After an attempt that came to nothing the next one waits for so long, in seconds.
COOL_DOWN = 60
#: A longer refresh token is not kept: sessions are small.
MAX_TOKEN_LENGTH = 4096

BY_TOKEN, BY_BROWSER = "refresh_token", "prompt"

_PURPOSE = "refresh-token"


class _OtherOne(ClaimError):
    """The ID token is about another user, or about another session at the OP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grant:
    """A refresh token, whose it is, and what the ID token that it came with said, for its successors to keep to."""

    token: str = field(repr=False)
    pk: str
    iss: str
    sub: str
    aud: list[str]
    azp: Any = None
    sid: Any = None
    nonce: Any = field(default=None, repr=False)
    auth_time: Any = None
    iat: Any = None


def renew(request: HttpRequest, view_name: str) -> HttpResponse | None:
    """Renew the sign-in of a request for which that is due.

    Returns:
        The answer where the request cannot go on; None where it can.
    """
    settings = conf.current()
    if not request.user.is_authenticated or _is_exempt(request, view_name, settings):
        return None
    state = session.renewal(request)
    if state is None or not _is_ours(session.login_backend(request.session)):
        return None
    may_ask, is_dropped = not state.ended and clock.now() >= state.not_before, False
    if may_ask and _held(request, state, settings) is not None:
        if _is_settled_by_token(request, settings):
            return None
        state = session.renewal(request) or Renewal()
        is_dropped = state.locked is None
    is_page = challenge.is_page(request)
    # There is no grace where the OP refuses a refresh token, but it has yet to be asked through the browser.
    if state.ended or (_is_over(state, settings) and not (is_dropped and is_page)):
        return _sign_in_anew(request, state.ended or "grace: over")
    return _through_browser(request, settings) if is_page else None


@sensitive_variables()
def begin(request: HttpRequest, login: VerifiedLogin) -> None:
    """Begin anew, with the evidence on the session, after an answer of the OP that came by way of the browser."""
    settings, claims = conf.current(), login.claims
    state = session.renewal(request) or Renewal()
    kept = _held(request, state, settings)
    if kept is not None and kept.sid != claims.get("sid"):
        kept = None  # the OP has ended the session that it was for
    token = login.refresh_token
    if settings.keep_refresh_token and token and session.is_on_server(request.session):
        kept = _grant(request, token, claims) if len(token) <= MAX_TOKEN_LENGTH else None
    session.note_renewal(request, Renewal(locked=_lock(kept)), due=clock.now() + settings.renew_after)


def forget_other_session(request: HttpRequest, claims: Mapping[str, Any], *, silent: bool) -> None:
    """Forget what was proved in a session at the OP that has been ended since, where validated claims are of another.

    Args:
        silent: whether the answer came to a renewal. Else it is one only where the OP had ceased to vouch.
    """
    state = session.renewal(request)
    if (silent or (state is not None and state.ended)) and session.is_of(request, claims.get("sid")) is False:
        session.forget_evidence(request)


def note_success(request: HttpRequest, *, by: str = BY_BROWSER) -> None:
    """Tell the log that a sign-in was renewed."""
    logger.info("Sign-in renewed (%s)", by, extra={"event": "renewed", "by": by, "user_pk": request.user.pk})


def end(request: HttpRequest, reason: str) -> None:
    """Note that the OP does not vouch for the user any more: nothing but a sign-in changes that."""
    _note_failure(request, BY_BROWSER, reason)
    session.note_renewal(request, Renewal(ended=reason), due=0)


def save_carefully(request: HttpRequest) -> None:
    """Have the session of this request undo no renewal that another request has stored meanwhile, once it is saved."""
    store, settings = request.session, conf.current()
    save = store.save

    def carefully(must_create: bool = False) -> None:
        with turns.writing(request.session, settings):
            session.adopt_renewal(request)
            save(must_create)

    # That is done by Django's middleware, which is further out.
    store.save = carefully  # type: ignore[method-assign]


def put_off(request: HttpRequest, reason: str, *, by: str = BY_BROWSER, locked: str | None = None) -> bool:
    """Note that the OP could not be asked. It is asked again after a while, and until then the user goes on.

    Args:
        locked: the refresh token for the next time, encrypted; None for the one that is held.

    Returns:
        Whether the user goes on, or has done so for long enough.
    """
    _note_failure(request, by, reason)
    settings = conf.current()

    def note() -> None:
        state = _failing(session.renewal(request))
        state = replace(state, locked=locked or state.locked, not_before=clock.now() + COOL_DOWN)
        session.note_renewal(request, state, due=_next_look(state, settings))

    session.merge(request, note)
    return not _is_over(session.renewal(request) or Renewal(), settings)


def _through_browser(request: HttpRequest, settings: conf.Settings) -> HttpResponse | None:
    """Send the page to the OP, to come back at once (`prompt=none`; OpenID Connect Core 1.0, 3.1.2.1).

    Of pages that are opened at the same time one goes there, and the others are shown. If it does not come back, since
    the OP is down, then the next page is shown without: until a while has passed.
    """
    here = request.get_full_path()
    if challenge.safe_next(request, here) != here:
        return None  # nobody would find back to it; another page will do
    with turns.asking(request.session, settings) as is_alone:
        if not is_alone or not session.adopt_renewal(request):
            return None
        if not session.is_renewal_due(request.session, now=clock.now()):
            return None
        if ended := (session.renewal(request) or Renewal()).ended:
            return _sign_in_anew(request, ended)
        try:
            response = challenge.authentication_request(request, requirement=None, next_url=here, silent=True)
        except (ProviderError, TokenRequestRefused) as error:
            return None if put_off(request, str(error)) else _sign_in_anew(request, "grace: over")

        def note() -> None:
            state = _failing(session.renewal(request))
            session.note_renewal(request, state, due=_next_look(state, settings))

        session.merge(request, note)
    return response


def _is_settled_by_token(request: HttpRequest, settings: conf.Settings) -> bool:
    """Renew by the refresh token, for all requests that come at the same time. Whether this one may just go on."""
    with turns.asking(request.session, settings) as is_alone:
        if not is_alone:
            # Whoever is at it needs a moment. What there is, is as good as it was.
            return not _is_over(session.renewal(request) or Renewal(), settings)
        # Another may have been at it since this session was loaded.
        if not session.adopt_renewal(request) or not session.is_renewal_due(request.session, now=clock.now()):
            return True
        state = session.renewal(request) or Renewal()
        grant = _held(request, state, settings)
        return grant is not None and _by_token(request, grant, settings)


@sensitive_variables()
def _by_token(request: HttpRequest, grant: _Grant, settings: conf.Settings) -> bool:
    backend: Any = load_backend(session.login_backend(request.session))
    user: Any = request.user
    backend.request = request
    try:
        answer = provider.current().refresh(grant.token)
    except ProviderError as error:
        return put_off(request, str(error), by=BY_TOKEN)
    except TokenRequestRefused as error:
        if error.error == "invalid_client":
            # It is this site that is refused, and so would be whatever else it asked.
            return put_off(request, str(error), by=BY_TOKEN)
        return _drop(request, grant, str(error))
    newer = answer.get("refresh_token")
    if isinstance(newer, str) and newer:
        grant = replace(grant, token=newer)
    try:
        claims, access_token = backend.verify_renewal(answer)
        if claims is not None:
            if session.is_of(request, claims.get("sid")) is False:
                raise _OtherOne("sid", "another in a renewal")
            _check(claims, grant, leeway=settings.leeway)
    except (ProviderError, UnknownKey) as error:
        # The token has been exchanged, and the old one is good for nothing.
        return put_off(request, str(error), by=BY_TOKEN, locked=_lock(grant))
    except _OtherOne as error:
        return _give_up(request, str(error))
    except ClaimError as error:
        return _drop(request, grant, str(error))

    def store() -> None:
        if session.evidence(request) is None:
            return  # what was taken away meanwhile, by the OP for one, stays away
        if claims is not None:
            session.record(request, user, claims, proof_claims=settings.proof_claims, renewal=True)
        backend.store_tokens(access_token, answer.get("id_token") or session.id_token_hint(request) or "")
        due = clock.now() + settings.renew_after
        session.note_renewal(request, Renewal(locked=_lock(grant)), due=due)

    if session.merge(request, store) and not session.is_renewal_due(request.session, now=clock.now()):
        note_success(request, by=BY_TOKEN)
    return True


def _drop(request: HttpRequest, grant: _Grant, reason: str) -> bool:
    """The refresh token is good for nothing. Unless another has come meanwhile, the browser has to do."""
    _note_failure(request, BY_TOKEN, reason)
    # Without a cache that all processes share, another may have been faster.
    if not session.adopt_renewal(request) or not session.is_renewal_due(request.session, now=clock.now()):
        return True

    def drop() -> None:
        state = _failing(session.renewal(request))
        session.note_renewal(request, replace(state, locked=None), due=clock.now())

    return not session.merge(request, drop)


def _give_up(request: HttpRequest, reason: str) -> bool:
    """Somebody else, or another session at the OP: nothing that was proved holds, and the user has to sign in."""
    _note_failure(request, BY_TOKEN, reason)

    def give_up() -> None:
        session.forget_evidence(request)
        session.note_renewal(request, Renewal(ended=reason), due=0)

    return not session.merge(request, give_up)


def _check(claims: Mapping[str, Any], grant: _Grant, *, leeway: float) -> None:
    """Hold the claims of a renewed ID token against those of the first (OpenID Connect Core 1.0, 12.2).

    Raises:
        _OtherOne: it is about another user.
        ClaimError: something else is not as it was.
    """
    if claims["sub"] != grant.sub:
        raise _OtherOne("sub", "another in a renewal")
    if not set(grant.aud) <= set(_audiences(claims)):
        raise ClaimError("aud", "mismatch in a renewal")
    if claims.get("azp") != grant.azp:
        raise ClaimError("azp", "mismatch in a renewal")
    nonce = claims.get("nonce")
    if nonce is not None and not hmac.compare_digest(str(nonce).encode(), str(grant.nonce).encode()):
        raise ClaimError("nonce", "mismatch in a renewal")
    auth_time = claims.get("auth_time")
    # Where the first said no time, it was at any rate before it was issued.
    if auth_time not in (None, grant.auth_time) and (grant.auth_time is not None or auth_time > grant.iat + leeway):
        raise ClaimError("auth_time", "mismatch in a renewal")


def _audiences(claims: Mapping[str, Any]) -> list[str]:
    aud = claims["aud"]
    return [aud] if isinstance(aud, str) else list(aud)


def _grant(request: HttpRequest, token: str, claims: Mapping[str, Any]) -> _Grant:
    said = {name: claims.get(name) for name in ("iss", "sub", "azp", "sid", "nonce", "auth_time", "iat")}
    return _Grant(token=token, pk=str(request.user.pk), aud=_audiences(claims), **said)  # type: ignore[arg-type]


def _held(request: HttpRequest, state: Renewal, settings: conf.Settings) -> _Grant | None:
    """The refresh token on the session, if it is for the user, issuer and subject that the evidence is about."""
    evidence = session.evidence(request)
    if state.locked is None or evidence is None or not settings.keep_refresh_token:
        return None
    try:
        grant = _Grant(**json.loads(vault.unlock(state.locked, purpose=_PURPOSE)))
    except (ValueError, TypeError):
        # Of a key that is no more, or of another version.
        return None
    is_theirs = (grant.pk, grant.iss, grant.sub) == (str(request.user.pk), evidence.issuer, evidence.subject)
    return grant if is_theirs else None


def _lock(grant: _Grant | None) -> str | None:
    if grant is None:
        return None
    said = {name: value for name, value in asdict(grant).items() if value is not None}
    return vault.lock(json.dumps(said, separators=(",", ":")).encode(), purpose=_PURPOSE)


def _failing(state: Renewal | None) -> Renewal:
    state = state or Renewal()
    return state if state.failing_since is not None else replace(state, failing_since=clock.now())


def _next_look(state: Renewal, settings: conf.Settings) -> float:
    return 0 if state.ended else min(clock.now() + COOL_DOWN, (state.failing_since or 0) + settings.renewal_grace)


def _is_over(state: Renewal, settings: conf.Settings) -> bool:
    since = state.failing_since
    return since is not None and clock.now() >= since + settings.renewal_grace


def _is_exempt(request: HttpRequest, view_name: str, settings: conf.Settings) -> bool:
    return any(
        each in (request.path, view_name) if isinstance(each, str) else each.match(request.path)
        for each in settings.renewal_exempt
    )


def _is_ours(path: str) -> bool:
    try:
        backend = import_string(path)
    except ImportError:
        return False
    return isinstance(backend, type) and issubclass(backend, StepUpBackend)


def _sign_in_anew(request: HttpRequest, reason: str) -> HttpResponse:
    logger.info(
        "Sign-in asked for anew (%s)",
        reason,
        extra={"event": "sign_in_required", "reason": reason, "user_pk": request.user.pk},
    )
    return challenge.sign_in_anew(request)


def _note_failure(request: HttpRequest, by: str, reason: str) -> None:
    logger.warning(
        "Sign-in not renewed: %s (%s)",
        reason,
        by,
        extra={"event": "renewal_failed", "by": by, "reason": reason, "user_pk": request.user.pk},
    )
