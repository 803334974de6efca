"""The only module that knows session keys: what has been proved, and which authentication requests are pending.

What is read back is checked as if it came from outside: it may be of an older version, of another user (a site that
lets staff act as somebody else keeps the session), or simply damaged. Whatever does not fit is as if it were not there.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from string import ascii_lowercase, digits
from typing import Any, TypeGuard

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieStore
from django.http import HttpRequest
from django.utils.crypto import get_random_string

from stepup import clock, conf, turns
from stepup.assurance import Evidence, Requirement

__all__ = ["Pending", "aevidence", "claims", "evidence"]

EVIDENCE = "stepup"
PENDING = "stepup_pending"
SETTLED = "stepup_settled"
FORMS = "stepup_forms"
RENEWAL = "stepup_renewal"
ATTEMPTS = "stepup_attempts"
WAY = "stepup_way"

#: For how long a step-up that was found satisfied must have satisfied its page too, in seconds.
SETTLED_SECONDS = 10

#: How many kept forms one session may have. The oldest is dropped for a new one.
MAX_FORMS = 5

#: What every engine takes in a key.
_KEY_CHARACTERS = frozenset(ascii_lowercase + digits)
_KEY_LENGTH = 32
#: So often within so many seconds somebody is sent to the site's own page for one thing: a person is slower, and a page
#: that sends them back at once, without asking for anything, would go on for ever.
WAYS = 5
WAY_SECONDS = 10

#: Of so many requirements the attempts are counted, those that were tried last: sessions are small.
MAX_COUNTED = 8

#: So much of Django's hash of the user's password is kept beside evidence, which a change of password thereby ends.
AUTH_HASH_LENGTH = 6
#: A claim that takes more than this many characters as JSON is not kept: no OP sends such, and sessions are small.
KEPT_LENGTH = 1000

# mozilla-django-oidc's own keys: what a site reads itself, and what its `SessionRefresh` middleware goes by.
BASE_PENDING = "oidc_states"
BASE_NEXT = "oidc_login_next"
BASE_EXPIRATION = "oidc_id_token_expiration"
BASE_ID_TOKEN = "oidc_id_token"  # noqa: S105 - the name of a key
BASE_ACCESS_TOKEN = "oidc_access_token"  # noqa: S105 - see above

#: What a renewal changes.
_RENEWED = (EVIDENCE, RENEWAL, BASE_EXPIRATION, BASE_ID_TOKEN, BASE_ACCESS_TOKEN)
#: What goes where a session is lowered: all that came from the OP, and could prove something or bring proof back.
PROOF = (EVIDENCE, SETTLED, RENEWAL, BASE_EXPIRATION, BASE_ID_TOKEN, BASE_ACCESS_TOKEN)

User = AbstractBaseUser | AnonymousUser

#: As values of a claim are stored that were all proved when the user last authenticated: which is what `auth_time` is.
_AUTH_TIME = [""]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An authentication request that was sent, and whose answer is waited for.

    Attributes:
        state: what the answer is recognized by (OpenID Connect Core 1.0, 3.1.2.1).
        nonce: what the ID token has to repeat.
        code_verifier: what proves to the OP that the answer is ours (RFC 7636); ``None`` for a request of
            mozilla-django-oidc's own middleware that was made without.
        next: where to go afterwards: a path of this site that was checked before it came here.
        requirement: what the answer has to prove; ``None`` where signing in is all.
        user: the primary key, as text, of the user who was signed in; ``None`` for nobody.
        started: when it was sent, in seconds since the epoch.
        silent: sent with ``prompt=none``, to renew the sign-in without the user's knowing.
    """

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    code_verifier: str | None = field(repr=False)
    next: str
    requirement: Requirement | None = None
    user: str | None = None
    started: float
    silent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """How it stands with the renewal of a sign-in.

    Attributes:
        locked: the refresh token, encrypted; ``None`` where none is held.
        failing_since: since when no renewal has succeeded, in seconds since the epoch; ``None`` where the last one has.
        not_before: when the OP may be asked again by refresh token, in seconds since the epoch.
        ended: why the OP no longer vouches for the user, in a word or two; empty where it does.
    """

    locked: str | None = field(default=None, repr=False)
    failing_since: float | None = None
    not_before: float = 0
    ended: str = ""


def evidence(request: HttpRequest) -> Evidence | None:
    """What has been proved in this session about the user who is signed in; ``None`` for nothing."""
    return read_evidence(request.session, request.user)


async def aevidence(request: HttpRequest) -> Evidence | None:
    """As :func:`evidence`, from asynchronous code."""
    return await aread_evidence(request.session, await request.auser())


def claims(request: HttpRequest) -> Mapping[str, Any]:
    """The validated claims (``iss``, ``sub``, ``amr``, ``acr``, ``auth_time``) of the newest ID token.

    Empty where the OP has given none. What has been proved *in this session* is :func:`evidence`: a renewed ID token
    may carry no ``amr`` though the user has passed multi-factor authentication before.
    """
    stored = _bound(request.session, request.session.get(EVIDENCE), request.user)
    if stored is None or not stored["sub"]:
        return {}
    return {"iss": conf.current().issuer, "sub": stored["sub"], **_said(request.session, stored, request.user)}


def is_of(request: HttpRequest, sid: object) -> bool | None:
    """Whether the newest ID token came about in this session at the OP; ``None`` where one of the two says nothing."""
    stored = _bound(request.session, request.session.get(EVIDENCE), request.user)
    known = stored.get("sid") if stored is not None else None
    return None if known is None or not isinstance(sid, str) else known == _mark(sid)


def read_evidence(session: SessionBase, user: User) -> Evidence | None:
    """The evidence on a session that is loaded, if it is that user's."""
    return _evidence(session, session.get(EVIDENCE), user)


def shows(
    session: SessionBase, user: User, requirement: Requirement, max_age: float | None, settings: conf.Settings
) -> bool:
    """A quick yes, for nearly every request that is allowed. No means only: look more closely.

    It says yes to nothing that the evidence, read and evaluated, does not satisfy; it exists because these few look-ups
    cost a tenth of that, and each request of a protected page pays for them.

    Args:
        max_age: in place of the requirement's own, in seconds.
    """
    if requirement.also or max_age == 0:
        return False
    try:
        # Each look through the session's own methods costs as much as a third of all this.
        held: Any = session._session  # type: ignore[attr-defined] # the stubs leave it out
        stored, pk, now = held[EVIDENCE], user.pk, clock.now()
        known, password = stored["for"]
        if (
            known != (pk if type(pk) is int else str(pk))
            or password != held[HASH_SESSION_KEY][:AUTH_HASH_LENGTH]
            or stored["iss"] != _mark(settings.issuer)
            or type(stored["sub"]) is not str
            or (SETTLED in held and abs(now - held[SETTLED][2]) < SETTLED_SECONDS)
        ):
            return False
        limit, leeway = settings.max_evidence_age, settings.leeway
        if max_age is not None:
            oldest = now - leeway - (max_age if limit is None or max_age < limit else limit)
        else:
            oldest = 0.0 if limit is None else now - leeway - limit
        newest = now + leeway
        for claim, values in requirement.wanted:
            proved: Any = _AUTH_TIME if claim == "auth_time" else stored["proofs"][claim]
            for value in values:
                if value in proved:
                    time = stored["at"] if type(proved) is list else proved[value]
                    if time < 0 and max_age is None:
                        time = -time
                    if oldest <= time <= newest and type(time) is int:
                        break
            else:
                return False
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return False
    return user.is_authenticated


async def aread_evidence(session: SessionBase, user: User) -> Evidence | None:
    """As :func:`read_evidence`, for a session that may have to be loaded first."""
    return _evidence(session, await session.aget(EVIDENCE), user)


def record(
    request: HttpRequest,
    user: AbstractBaseUser,
    claims: Mapping[str, Any],
    *,
    proof_claims: Iterable[str] = (),
    renewal: bool = False,
    stated: bool = False,
) -> Evidence:
    """Add the evidence in validated claims to the session of a user who is signed in.

    Args:
        renewal: whether the ID token renews a sign-in, so that nobody need have authenticated for it. What it says
            without a time is no fresher than it was.
        stated: whether this site itself says so, and no ID token. The subject is then the one that is known, or empty,
            which no OP's is: what is stated is about the user, so it stays when the OP says later who they are there.
    """
    now = int(clock.now())
    new = Evidence.from_claims(claims, proof_claims=proof_claims, now=now)
    old = read_evidence(request.session, user)
    together = new
    if old and old.issuer == new.issuer and old.subject in (new.subject, ""):
        together = replace(old, subject=new.subject).add(new, renewal=renewal)
    else:
        # What a step-up has satisfied, it has with evidence that is no more.
        request.session.pop(SETTLED, None)
    stored: dict[str, Any] = {
        "for": _whose(request.session, user),
        "iss": _mark(together.issuer),
        "sub": together.subject,
        "at": -now if together.auth_time is None else together.auth_time,
    }
    former = _bound(request.session, request.session.get(EVIDENCE), user) or {}
    sid = _mark(claims["sid"]) if isinstance(claims.get("sid"), str) else None
    if renewal and sid is None:
        sid = former.get("sid")  # many an OP leaves it out then
    said = {claim: claims[claim] for claim in ("auth_time", "acr", "amr") if _is_kept(claims, claim)}
    if stated:
        # The OP has not said a word, so its last one stands.
        sid, said = former.get("sid"), _said(request.session, former, user)
    if sid is not None:
        stored["sid"] = sid
    if together.proofs:
        stored["proofs"] = {claim: _stored_times(together, claim, stored["at"]) for claim in together.proofs}
    if said != _said_by(together):
        # Only where it is not what the evidence says anyway: sessions are small.
        stored["said"] = said
    request.session[EVIDENCE] = stored
    return together


def note_renewal(request: HttpRequest, state: Renewal | None = None, *, due: float) -> None:
    """Say when the sign-in is to be renewed next, in seconds since the epoch, and how it stands with that.

    The former under mozilla-django-oidc's own key, for its `SessionRefresh`.
    """
    session, state = request.session, state or Renewal()
    entry: dict[str, Any] = {}
    if state.locked is not None:
        entry["token"] = state.locked
    if state.failing_since is not None:
        entry["since"] = int(state.failing_since)
    if state.not_before:
        entry["next"] = int(state.not_before)
    if state.ended:
        entry["ended"] = state.ended
    if entry or RENEWAL in session:
        # Which of two is the newer. Where there has never been anything to say, there is nothing to overtake either.
        session[RENEWAL] = {**entry, "n": _generation(session) + 1}
    session[BASE_EXPIRATION] = int(due)


def is_renewal_due(session: SessionBase, *, now: float) -> bool:
    """Whether the sign-in should be renewed now; of a session that is there and came about through the OP."""
    return session.session_key is not None and _is_due(session.get(BASE_EXPIRATION), now)


async def ais_renewal_due(session: SessionBase, *, now: float) -> bool:
    """As :func:`is_renewal_due`, for a session that may have to be loaded first."""
    return session.session_key is not None and _is_due(await session.aget(BASE_EXPIRATION), now)


def renewal(request: HttpRequest) -> Renewal | None:
    """How it stands with the renewal; ``None`` where the evidence is another user's, who is not there to renew it."""
    evidence, stored = request.session.get(EVIDENCE), request.session.get(RENEWAL)
    if isinstance(evidence, dict) and not _is_about(evidence, request.user):
        return None
    if not isinstance(stored, dict):
        return Renewal()
    locked, since, after, ended = (stored.get(key) for key in ("token", "since", "next", "ended"))
    return Renewal(
        locked=locked if isinstance(locked, str) else None,
        failing_since=since if _is_time(since) else None,
        not_before=after if _is_time(after) else 0,
        ended=ended if isinstance(ended, str) else "",
    )


def login_backend(session: SessionBase) -> str:
    """The path of the backend that the user of this session signed in with; empty where there is none."""
    path = session.get(BACKEND_SESSION_KEY)
    return path if isinstance(path, str) else ""


def forget_evidence(request: HttpRequest) -> None:
    """Of what has been proved in this session nothing counts any more."""
    request.session.pop(EVIDENCE, None)


def is_overtaken(request: HttpRequest, settings: conf.Settings, *, now: float) -> bool:
    """Whether this session, once it is saved, may undo a renewal that another request has stored meanwhile.

    That happens only after it was due, so that hardly a request has to look.
    """
    session = request.session
    is_saved = session.modified or (settings.session_is_always_saved and session.accessed)
    return is_saved and is_renewal_due(session, now=now)


def adopt_renewal(request: HttpRequest) -> bool:
    """Take over the renewal that another request has stored since this session was loaded, if there is one.

    With it goes what is pending: a renewal through the browser is still under way.

    Returns:
        Whether there is still such a session, of the same login.
    """
    session, stored = request.session, renewed(request.session)
    if stored is None or not has_same_login(session, stored):
        return False
    if _generation(stored) > _generation(session):
        _take_over(session, stored, _RENEWED)
    mine, theirs = session.get(PENDING), stored.get(PENDING)
    if isinstance(theirs, dict):
        stored[PENDING] = {**mine, **theirs} if isinstance(mine, dict) else theirs
        _take_over(session, stored, [PENDING])
    return True


def merge(request: HttpRequest, change: Callable[[], None]) -> bool:
    """Make a change to the session as it is stored now, and store it at once, whatever else this request does to it.

    Args:
        change: makes it, to ``request.session``.

    Returns:
        Whether there still was such a session, of the same login.
    """
    with turns.writing(request.session, conf.current()):
        return _merge(request, change)


def _merge(request: HttpRequest, change: Callable[[], None]) -> bool:
    session, stored = request.session, renewed(request.session)
    if stored is None or not has_same_login(session, stored):
        return False
    before = snapshot(stored)
    request.session = stored
    try:
        change()
        stored.save()
    except UpdateError:
        return False
    finally:
        request.session = session
    gone = before.keys() - dict(stored.items()).keys()
    _take_over(session, stored, [*changed_since(stored, before), *gone])
    return True


def id_token_hint(request: HttpRequest) -> str | None:
    """The ID token, on sites that keep it (`OIDC_STORE_ID_TOKEN`)."""
    stored = request.session.get(BASE_ID_TOKEN)
    return stored if isinstance(stored, str) else None


def add_pending(request: HttpRequest, pending: Pending, settings: conf.Settings) -> bool:
    """Keep a pending request, and no more of them, nor for longer, than the settings allow.

    A session that this request does not store anyway is stored at once, as it is then: else tabs that are opened at the
    same time would undo each other's, and one could bring back the cookie from before a step-up in another.

    Returns:
        Whether there still is such a session, of the same login.
    """
    if request.session.session_key is not None and not request.session.modified:
        return merge(request, lambda: _add_pending(request, pending, settings))
    _add_pending(request, pending, settings)
    return True


def _add_pending(request: HttpRequest, pending: Pending, settings: conf.Settings) -> None:
    kept = _pendings(request.session, settings, now=pending.started)
    while len(kept) >= settings.max_pending:
        del kept[min(kept, key=lambda state: kept[state]["at"])]
    entry: dict[str, Any] = {
        "nonce": pending.nonce,
        "pkce": pending.code_verifier,
        "next": pending.next,
        "at": int(pending.started),
    }
    if pending.user is not None:
        entry["user"] = pending.user
    if pending.silent:
        entry["silent"] = True
    if pending.requirement is not None:
        entry["need"] = _packed(pending.requirement, settings)
    kept[pending.state] = entry
    request.session[PENDING] = kept


def take_pending(request: HttpRequest, state: str, settings: conf.Settings, *, now: float) -> Pending | None:
    """Take a pending request off the session, for good: one `state`, one use.

    That is stored at once, so that a second answer with this `state` finds nothing while the OP is still being asked
    about the first. Where nothing is found, or the session has ended meanwhile, the session stays as it is.
    """
    found: list[Pending | None] = []

    def take() -> None:
        session = request.session
        kept = _pendings(session, settings, now=now)
        states = session.get(BASE_PENDING)
        if (entry := kept.pop(state, None)) is not None:
            if kept:
                session[PENDING] = kept
            else:
                del session[PENDING]
            found.append(_pending(state, entry, settings))
        elif isinstance(states, dict) and (base := states.pop(state, None)) is not None:
            session[BASE_PENDING] = states
            found.append(_base_pending(session, state, base, settings, now=now))

    names = (request.session.get(key) for key in (PENDING, BASE_PENDING))
    if not any(isinstance(known, dict) and state in known for known in names):
        return None
    return found[0] if merge(request, take) and found else None


def pendings(request: HttpRequest, settings: conf.Settings, *, now: float) -> list[Pending]:
    """The pending requests, which stay where they are; the newest comes last."""
    kept = _pendings(request.session, settings, now=now)
    found = (_pending(state, entry, settings) for state, entry in kept.items())
    return [pending for pending in found if pending is not None]


def rotate(request: HttpRequest) -> SessionBase:
    """Give the session a new key, so that one from before an elevation is worth nothing after it (ASVS 5.0, 7.2.4).

    Returns:
        What it was, to be deleted: the last thing to do, because from then on the browser needs the answer to be signed
        in still, and an error would lose it.
    """
    old = request.session
    new: SessionBase = type(old)()
    new.update(old.items())
    # Not `cycle_key`, which stores the new one at once, for the response to store it once more.
    request.session = new
    return old


def is_known_to_browser(request: HttpRequest, settings: conf.Settings) -> bool:
    """Whether the session has the key that the browser came with: no other, from a sign-in in this very request."""
    key = request.session.session_key
    return key is not None and key == request.COOKIES.get(settings.session_cookie_name)


def snapshot(session: SessionBase) -> dict[str, Any]:
    """What is on the session, apart from it."""
    return copy.deepcopy(dict(session.items()))


def changed_since(session: SessionBase, before: Mapping[str, Any]) -> dict[str, Any]:
    """What has been put on the session since a snapshot: by a site's hooks, while the OP was asked."""
    return {key: value for key, value in session.items() if key not in before or before[key] != value}


def revert(session: SessionBase, before: Mapping[str, Any]) -> None:
    """Take the session back to a snapshot of it as it was saved, without asking what is stored now."""
    for key in changed_since(session, before):
        del session[key]
    session.update(before)
    session.modified = _is_in_cookie(session)


def has_same_login(session: SessionBase, other: SessionBase) -> bool:
    """Whether two states of a session are of one login: then whoever was its user still is."""
    return all(session.get(key) == other.get(key) for key in (SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY))


def renewed(session: SessionBase) -> SessionBase | None:
    """The session as it is stored now, other requests having had their time; ``None`` where it has been ended.

    To be asked after a slow step and before the session is written: what was loaded before it would undo what parallel
    requests have stored since.
    """
    fresh: SessionBase = type(session)(session.session_key)
    fresh.get(EVIDENCE)
    return fresh if fresh.session_key else None


def settled(
    request: HttpRequest, requirement: Requirement, path: str, *, now: float, within: float = SETTLED_SECONDS
) -> float | None:
    """Since when proof is fresh for this requirement and page, where a step-up for them was satisfied a moment ago.

    Not longer ago than ``within`` seconds.

    What was proved on the way is fresh for the page that it was proved for, once, however small its `max_age`. If the
    page still asks, then it and the callback disagree, and asking the OP again would go round in circles.
    """
    stored = request.session.get(SETTLED)
    if (
        isinstance(stored, list)
        and len(stored) == 5
        and isinstance(stored[0], list)
        and stored[1] == f"{request.get_host()}{path}"
        and all(map(_is_time, stored[2:4]))
        and isinstance(stored[4], str)
        and abs(now - stored[2]) < within
        and all(_fingerprint(part) in stored[0] for part in requirement.parts)
    ):
        return float(stored[3])
    return None


def settle(request: HttpRequest, requirement: Requirement, path: str, *, now: float, since: float) -> None:
    """Note that a step-up was found satisfied, see :func:`settled`."""
    needs, page = [_fingerprint(part) for part in requirement.parts], f"{request.get_host()}{path}"
    request.session[SETTLED] = [needs, page, int(now), int(since), _new_key()]


def is_settled(request: HttpRequest) -> bool:
    """Whether there is something of :func:`settle` on a session that is loaded, whatever it is worth."""
    return SETTLED in request.session


def use_up_settled(request: HttpRequest, settings: conf.Settings, *, for_good: bool) -> bool:
    """The page is shown, by this request and no other.

    Args:
        for_good: whether nothing else proves enough. Then it is stored at once, and of several requests that come at
            the same moment, or with what the session was before, one has it: the first to store one more session,
            under a key that follows from it. Sessions in cookies have the cache for that.

    Returns:
        Whether this is that request.
    """
    session = request.session
    key, is_modified = session[SETTLED][4], session.modified

    def drop() -> None:
        request.session.pop(SETTLED, None)

    if not for_good:
        drop()
        return True
    if _is_in_cookie(session):
        is_first = turns.is_first(_used_key(key), settings)
    else:
        is_first = _create(_apart(session, settings), _used_key(key))
    if is_first and merge(request, drop):
        return True
    drop()
    session.modified = is_modified or _is_in_cookie(session)
    return False


def keep_form(request: HttpRequest, id: str, form: str, settings: conf.Settings, *, now: float) -> bool:  # noqa: A002
    """Keep a form, encrypted, under an id: in a session of its own, which nobody has a cookie for and which expires.

    So it is kept wherever the site keeps sessions, and the user's own session stays small. False where it cannot be.
    """
    session, user = request.session, request.user
    store, key = _apart(session, settings), _new_key()
    store[FORMS] = form
    if not _create(store, key):
        return False
    kept = _forms(session, settings, now=now)
    while len(kept) >= MAX_FORMS:
        oldest = kept.pop(min(kept, key=lambda each: kept[each]["at"]))
        session.delete(oldest["key"])
    kept[id] = {"key": key, "at": int(now)}
    if user.is_authenticated:
        kept[id]["user"] = str(user.pk)
    session[FORMS] = kept
    return True


def kept_form(request: HttpRequest, id: str, settings: conf.Settings, *, now: float) -> str | None:  # noqa: A002
    """The form, still encrypted, that was kept in this session for its user under an id; it stays there.

    One that was kept before anybody was signed in is for whoever signed in then.
    """
    entry = _forms(request.session, settings, now=now).get(id)
    if entry is None or entry.get("user", str(request.user.pk)) != str(request.user.pk):
        return None
    form = type(request.session)(entry["key"]).get(FORMS)
    return form if isinstance(form, str) else None


def claim_form(request: HttpRequest, id: str, settings: conf.Settings, *, now: float) -> None:  # noqa: A002
    """From now on the form is this user's alone."""
    kept = _forms(request.session, settings, now=now)
    if "user" not in kept[id]:
        kept[id]["user"] = str(request.user.pk)
        request.session[FORMS] = kept


def take_form(request: HttpRequest, id: str, settings: conf.Settings, *, now: float) -> bool:  # noqa: A002
    """Take a form off the session, for good, and say whether this request is the one that has it.

    It is off the session at once, as with :func:`take_pending`. Of two requests that come at the same moment both find
    the form there: so each has to be the first to store one more session, under a key that follows from the form's.
    """
    session = request.session
    entry = _forms(session, settings, now=now).get(id)
    if entry is None or not _create(_apart(session, settings), _used_key(entry["key"])):
        return False

    def take() -> None:
        kept = _forms(request.session, settings, now=now)
        kept.pop(id, None)
        if kept:
            request.session[FORMS] = kept
        else:
            request.session.pop(FORMS, None)

    if not merge(request, take):
        # It was ended, or has another key by now, under which it still has the form.
        session.delete(_used_key(entry["key"]))
        return False
    session.delete(entry["key"])
    return True


def note_attempt(
    request: HttpRequest, requirement: Requirement, settings: conf.Settings, *, now: float, lasting: bool = False
) -> None:
    """Note that a step-up for this requirement came to nothing.

    Args:
        lasting: it did though the OP satisfied it, so that the next time the OP does is no success either.
    """
    counted = _attempts(request, settings, now=now)
    key = _counted_as(requirement, lasting=lasting)
    counted[key] = [*counted.pop(key, ()), int(now)][-settings.max_attempts - 1 :]
    for forgotten in list(counted)[:-MAX_COUNTED]:
        del counted[forgotten]
    request.session[ATTEMPTS] = {"for": str(request.user.pk), "at": counted}


def forget_attempts(request: HttpRequest, requirement: Requirement) -> None:
    """A step-up for this requirement was satisfied."""
    stored = request.session.get(ATTEMPTS)
    if isinstance(stored, dict) and isinstance(stored.get("at"), dict):
        if stored["at"].pop(_counted_as(requirement), None) is not None:
            request.session.modified = True
        if not stored["at"]:
            del request.session[ATTEMPTS]


def seconds_to_wait(request: HttpRequest, requirement: Requirement, settings: conf.Settings, *, now: float) -> float:
    """For how long no step-up for this requirement is to be tried by this user; 0 where one may be.

    It is the visitor's own session that counts, so nobody can keep another person out.
    """
    counted = _attempts(request, settings, now=now)
    times = sorted(
        time for lasting in (False, True) for time in counted.get(_counted_as(requirement, lasting=lasting), ())
    )
    if len(times) <= settings.max_attempts:
        return 0
    return min(times[-settings.max_attempts - 1] + settings.attempts_within - now, settings.attempts_within)


def may_go(request: HttpRequest, requirement: Requirement, path: str, settings: conf.Settings, *, now: float) -> bool:
    """Whether the browser may be sent to the site's own page for this requirement, or goes round in circles there."""
    need, way = _packed(requirement, settings), _way(request)
    times = [] if way.get("need") != need or way.get("next") != path else way["at"]
    times = [time for time in times if abs(now - time) < WAY_SECONDS]
    if len(times) >= WAYS:
        del request.session[WAY]
        return False
    request.session[WAY] = {"need": need, "next": path, "at": [*times, int(now)]}
    return True


def arrive(request: HttpRequest, evidence: Evidence, settings: conf.Settings, *, now: float) -> None:
    """Note, where somebody was sent to the site's own page and has now proved there what they were to, that they have.

    As after a step-up at the OP: it is fresh for the page that they came from, see :func:`settled`.
    """
    way = _way(request)
    if not way or now - max(way["at"]) > settings.pending_max_age:
        return
    try:
        requirement = _unpacked(way["need"], settings)
    except (KeyError, ValueError, TypeError, AttributeError):
        return  # as with a pending request
    if settings.judge(evidence, requirement, now=now):
        settle(request, requirement, way["next"], now=now, since=now)
        del request.session[WAY]


def spare_cookie(request: HttpRequest) -> None:
    """Keep the browser's session cookie where the session that it names was gone when the request came.

    Django would have the browser delete it. But a request that was on its way while an elevation gave the session its
    new key would so delete the new one, and the user would be signed out.
    """
    store = getattr(request, "session", None)
    if store is not None and store.accessed and not store.modified and store.is_empty():
        request.COOKIES.pop(conf.current().session_cookie_name, None)


def is_there(session: SessionBase) -> bool:
    """Whether the session that the browser names is stored still. Looking makes no response depend on the cookie."""
    accessed = session.accessed
    session.get(EVIDENCE)
    session.accessed = accessed
    return session.session_key is not None


def former_key(request: HttpRequest, settings: conf.Settings) -> str | None:
    """The key under which the browser knows its session, where this request has given it another one."""
    known, now = request.COOKIES.get(settings.session_cookie_name), request.session.session_key
    return known if known and now and known != now and request.session.modified else None


def login_pk(session: SessionBase) -> str | None:
    """The primary key, as text, of the user whose session it is."""
    pk = session.get(SESSION_KEY)
    return pk if isinstance(pk, str) else None


def stored(key: str | None, settings: conf.Settings) -> SessionBase:
    """A session of the store that the site uses, by its key; a new one for ``None``."""
    store: SessionBase = import_module(settings.session_engine).SessionStore(key)
    return store


def holds_evidence(session: SessionBase) -> bool:
    """Whether something is kept that an OP has said of its user, whatever it is worth by now."""
    return EVIDENCE in session


def lower(session: SessionBase) -> None:
    """Take away what has been proved. Whoever is signed in stays so."""
    for key in PROOF:
        session.pop(key, None)


def lowered(session: SessionBase, settings: conf.Settings) -> str:
    """Store what is left of a session that is lowered, under a key of its own, which is returned.

    What is under the old key is not changed: a request that has loaded it before could save it after that.
    """
    left = stored(None, settings)
    left.update(session.items())
    lower(left)
    left.create()
    return left.session_key or ""


def _apart(session: SessionBase, settings: conf.Settings) -> SessionBase:
    """A session that is nobody's, and ends when a pending request does."""
    store: SessionBase = type(session)()
    store.set_expiry(settings.pending_max_age)
    return store


def _create(store: SessionBase, key: str) -> bool:
    """Store a session under a key that no other has; not with `create()`, which tries one after the other."""
    store._session_key = key
    try:
        store.save(must_create=True)
    except Exception:  # noqa: BLE001 - engines have limits of their own, memcached of one megabyte, and their own errors
        return False
    return True


def _new_key() -> str:
    return get_random_string(_KEY_LENGTH, ascii_lowercase + digits)


def _used_key(key: str) -> str:
    return hashlib.sha256(f"used {key}".encode()).hexdigest()[:_KEY_LENGTH]


def _forms(session: SessionBase, settings: conf.Settings, *, now: float) -> dict[str, dict[str, Any]]:
    stored = session.get(FORMS)
    if not isinstance(stored, dict):
        return {}
    return {
        id: entry
        for id, entry in stored.items()  # noqa: A001 - the word for it
        if isinstance(entry, dict)
        and isinstance(entry.get("key"), str)
        and len(entry["key"]) == _KEY_LENGTH
        and set(entry["key"]) <= _KEY_CHARACTERS
        and _is_time(entry.get("at"))
        and -settings.leeway <= now - entry["at"] <= settings.pending_max_age
    }


def _take_over(session: SessionBase, stored: SessionBase, keys: Iterable[str]) -> None:
    """Have these keys be what they are where they are stored already, which is no change that has to be stored."""
    modified = session.modified
    for key in keys:
        if key in stored:
            session[key] = stored[key]
        else:
            session.pop(key, None)
    session.modified = modified or _is_in_cookie(session)


def is_on_server(session: SessionBase) -> bool:
    """Whether what is on the session stays here, and cannot be brought again by the browser when it is old."""
    return not _is_in_cookie(session)


def _generation(session: SessionBase) -> int:
    stored = session.get(RENEWAL)
    number = stored.get("n") if isinstance(stored, dict) else None
    return number if type(number) is int else 0


def _is_due(expiration: object, now: float) -> bool:
    return isinstance(expiration, (int, float)) and not isinstance(expiration, bool) and expiration <= now


def _is_in_cookie(session: SessionBase) -> bool:
    # Its key is what it holds, and it is not stored before the response is sent.
    return isinstance(session, CookieStore)


def _is_kept(claims: Mapping[str, Any], claim: str) -> bool:
    return claim in claims and len(json.dumps(claims[claim])) <= KEPT_LENGTH


def _said(session: SessionBase, stored: Mapping[str, Any], user: User) -> dict[str, Any]:
    """What the newest ID token said of the authentication."""
    said = stored.get("said")
    return said if isinstance(said, dict) else _said_by(_evidence(session, stored, user))


def _said_by(evidence: Evidence | None) -> dict[str, Any]:
    """What an ID token that gave all of this evidence, and no other has been, said of the authentication."""
    said: dict[str, Any] = {}
    if evidence is not None:
        if evidence.auth_time is not None:
            said["auth_time"] = evidence.auth_time
        if classes := list(evidence.proofs.get("acr", ())):
            said["acr"] = classes[0] if len(classes) == 1 else classes
        if methods := list(evidence.proofs.get("amr", ())):
            said["amr"] = methods
    return said


def _bound(session: SessionBase, stored: object, user: User) -> dict[str, Any] | None:
    """What is stored, if it is whole and belongs to this user and to the issuer that is trusted now."""
    if not isinstance(stored, dict) or not user.is_authenticated or stored.get("for") != _whose(session, user):
        return None
    if stored.get("iss") != _mark(conf.current().issuer) or not isinstance(stored.get("sub"), str):
        return None
    return stored


def _whose(session: SessionBase, user: User) -> list[int | str]:
    """The user, and that their password is what it was: Django keeps a session through a change of password."""
    return [user.pk if type(user.pk) is int else str(user.pk), session.get(HASH_SESSION_KEY, "")[:AUTH_HASH_LENGTH]]


def _is_about(stored: Mapping[str, Any], user: User) -> bool:
    """Whether what is stored is about this user, whatever has become of their password."""
    whose = stored.get("for")
    return isinstance(whose, list) and [str(each) for each in whose[:1]] == [str(user.pk)]


@lru_cache(maxsize=1024)
def _mark(text: str) -> str:
    """What a text is recognized by, in eleven characters: sessions are small."""
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _evidence(session: SessionBase, stored: object, user: User) -> Evidence | None:
    bound = _bound(session, stored, user)
    if bound is None:
        return None
    at, stored_proofs = bound.get("at"), bound.get("proofs", {})
    if not isinstance(stored_proofs, dict):
        return None
    proofs: dict[str, dict[str, float | None]] = {}
    recorded: dict[str, dict[str, float]] = {}
    for claim, kept in stored_proofs.items():
        values = {value: at for value in kept if isinstance(value, str)} if isinstance(kept, list) else kept
        if not isinstance(values, dict):
            continue
        known = proofs[claim] = {value: time for value, time in values.items() if _is_time(time)}
        for value, time in values.items():
            if _is_number(time) and _is_time(-time) and value not in known:
                known[value] = None
                recorded.setdefault(claim, {})[value] = -time
    return Evidence(
        issuer=conf.current().issuer,
        subject=bound["sub"],
        auth_time=at if _is_time(at) else None,
        proofs=proofs,
        recorded=recorded,
    )


def _stored_times(evidence: Evidence, claim: str, at: float) -> list[str] | dict[str, float]:
    """When each value of a claim was proved or, as a negative number, recorded where that is unknown.

    In short, as a list, where each is what stands once for all as the time of the evidence: sessions are small.
    """
    recorded = evidence.recorded.get(claim, {})
    times = {
        value: -recorded[value] if time is None else time
        for value, time in evidence.proofs[claim].items()
        if time is not None or value in recorded
    }
    return list(times) if all(time == at for time in times.values()) else times


def _pendings(session: SessionBase, settings: conf.Settings, *, now: float) -> dict[str, dict[str, Any]]:
    stored = session.get(PENDING)
    if not isinstance(stored, dict):
        return {}
    return {
        state: entry
        for state, entry in stored.items()
        if isinstance(entry, dict)
        and _is_time(entry.get("at"))
        # Made by another server, whose clock may be ahead of this one's.
        and -settings.leeway <= now - entry["at"] <= settings.pending_max_age
    }


def _packed(requirement: Requirement, settings: conf.Settings) -> str | dict[str, Any] | list[Any]:
    if settings.requirements.get(requirement.name) == requirement:
        return requirement.name
    if requirement.wanted:
        return {**requirement.to_mapping(), "name": requirement.name}
    return [_packed(unit, settings) for unit in requirement.units]


def _unpacked(need: Any, settings: conf.Settings) -> Requirement:
    if isinstance(need, str):
        return settings.requirements[need]
    if isinstance(need, list):
        return Requirement.all_of(*(_unpacked(part, settings) for part in need))
    return Requirement.from_mapping({key: value for key, value in need.items() if key != "name"}, name=need["name"])


def _pending(state: str, entry: Mapping[str, Any], settings: conf.Settings) -> Pending | None:
    need = entry.get("need")
    try:
        requirement = None if need is None else _unpacked(need, settings)
        texts = [entry["nonce"], entry["pkce"], entry["next"], entry.get("user", "")]
        if not all(isinstance(text, str) for text in texts):
            return None
        return Pending(
            state=state,
            nonce=entry["nonce"],
            code_verifier=entry["pkce"],
            next=entry["next"],
            requirement=requirement,
            user=entry.get("user"),
            started=entry["at"],
            silent=entry.get("silent") is True,
        )
    except (KeyError, ValueError, TypeError, AttributeError):
        # Stored by another version, or for a requirement that the settings no longer have: nobody can judge by it.
        return None


def _base_pending(
    session: SessionBase, state: str, base: object, settings: conf.Settings, *, now: float
) -> Pending | None:
    if not isinstance(base, dict) or not isinstance(base.get("nonce"), str) or not _is_time(base.get("added_on")):
        return None
    code_verifier, next_url = base.get("code_verifier"), session.get(BASE_NEXT)
    if now - base["added_on"] > settings.pending_max_age or not isinstance(code_verifier or "", str):
        return None
    return Pending(
        state=state,
        nonce=base["nonce"],
        code_verifier=code_verifier,
        next=next_url if isinstance(next_url, str) else "",
        user=session.get(SESSION_KEY),
        started=base["added_on"],
        silent=True,
    )


def _way(request: HttpRequest) -> dict[str, Any]:
    stored = request.session.get(WAY)
    if (
        isinstance(stored, dict)
        and isinstance(stored.get("next"), str)
        and isinstance(stored.get("at"), list)
        and stored["at"]
        and all(map(_is_time, stored["at"]))
    ):
        return stored
    return {}


def _attempts(request: HttpRequest, settings: conf.Settings, *, now: float) -> dict[str, list[float]]:
    """When the attempts of this user came to nothing that count still."""
    stored = request.session.get(ATTEMPTS)
    if not isinstance(stored, dict) or stored.get("for") != str(request.user.pk):
        return {}
    at = stored.get("at")
    counted = {
        key: [time for time in times if _is_time(time) and -settings.leeway <= now - time < settings.attempts_within]
        for key, times in (at.items() if isinstance(at, dict) else ())
        if isinstance(times, list)
    }
    return {key: times for key, times in counted.items() if times}


def _counted_as(requirement: Requirement, *, lasting: bool = False) -> str:
    return f"{_fingerprint(requirement)}{'!' if lasting else ''}"


def _fingerprint(requirement: Requirement) -> str:
    plain = json.dumps(requirement.to_mapping(), sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def _is_time(value: object) -> TypeGuard[float]:
    return _is_number(value) and 0 <= value < math.inf


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
