"""Which session here belongs to which session at the OP, and how the OP ends it (Back-Channel Logout 1.0, 2.7).

Nothing here is asked while a page is opened. A row is written when somebody signs in or steps up, and follows the key
of the session wherever this gets another one.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.contrib import auth
from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from stepup import clock, conf, session, vault
from stepup.exceptions import ClaimError
from stepup.logout_token import MAX_LENGTH, Logout
from stepup.models import LogoutNotice, SessionLink

__all__ = ["adopt", "end", "follow", "forget", "keep"]

logger = logging.getLogger("stepup")

#: For how long a logout is remembered, in seconds: longer than its token is good, and than a sign-in is on its way.
REMEMBERED = 3600
#: How many rows that are done with are taken out for each one that is written.
TIDIED = 20
#: How often sessions are looked for again that got another key while they were being ended.
PASSES = 10

_PURPOSE = "session"


def keep(request: HttpRequest, user: AbstractBaseUser, claims: Mapping[str, Any], *, before: str | None) -> bool:
    """Note whose the session of this request is at the OP.

    Args:
        claims: those of the ID token by which it was elevated a moment ago.
        before: the key that it had until then; ``None`` for a new session.

    Returns:
        Whether it may go on. It may not where the OP has ended it while it was on its way here.
    """
    if not session.is_on_server(request.session):
        return True  # nobody can end it, which a system check says
    try:
        return _kept(request, user, claims, before)
    except BaseException:
        # The caller goes back to the session as it was, and so does what is known of it.
        with _not_in_the_way("taking back what was kept"):
            new = _under(request.session.session_key or "")
            if before is None:
                new.delete()
            else:
                new.update(key_digest=_digests(before)[0], locked_key=_lock(before))
        raise


def _kept(request: HttpRequest, user: AbstractBaseUser, claims: Mapping[str, Any], before: str | None) -> bool:
    if request.session.session_key is None:
        # It is stored now, so that it can be ended: what is not there anymore cannot be saved by accident.
        request.session.create()
    sid = claims.get("sid")
    is_sid = isinstance(sid, str) and len(sid) <= MAX_LENGTH
    about = {"issuer": claims["iss"], "subject": claims["sub"], "user": user, **({"sid": sid} if is_sid else {})}
    if not _moved(request, before, about):
        if _was_ended(before):
            return False
        with transaction.atomic():
            SessionLink.objects.create(**_under_key_of(request), **about)
    # The row comes first, and a notice before sessions are looked for: one of the two finds the other.
    if _is_noticed(claims["iss"], claims["sub"], sid if is_sid else None, claims["iat"]):
        forget(request.session.session_key)
        return False
    with _not_in_the_way("taking out what has expired"):
        _tidy()
    return True


def follow(request: HttpRequest, before: str) -> None:
    """Go along with a session that got another key: a password was changed, or somebody signed in once more.

    Where the OP has ended it in the meantime, what it has become is ended, or lowered, too.
    """
    link = _under(before).first()
    if link is None:
        return
    if str(link.user_id) != session.login_pk(request.session) or not session.holds_evidence(request.session):
        # Somebody else has signed in, or the same person in another way: it is not about this session.
        link.delete()
    elif not SessionLink.objects.filter(pk=link.pk, ended=False).update(**_under_key_of(request)):
        if conf.current().back_channel_logout == "lower":
            session.lower(request.session)
        else:
            request.session.flush()


def forget(key: str | None) -> None:
    """There is no such session any more."""
    if key:
        with _not_in_the_way("forgetting a session"):
            _under(key).delete()


def adopt(request: HttpRequest) -> None:
    """Go on with what a session has become that was lowered, under its new key, which the browser is then told.

    To be called for each request, but asks the database only where the session that the browser names is not there.
    """
    settings = conf.current()
    known = request.COOKIES.get(settings.session_cookie_name)
    if not known or session.is_there(request.session):
        return
    link = _under(known).filter(ended=True).exclude(locked_key="").first()
    key = _key_of(link) if link is not None else None
    if key is None or not session.is_there(successor := session.stored(key, settings)):
        return
    successor.modified = True
    request.session = successor
    request.COOKIES[settings.session_cookie_name] = key
    request.user = SimpleLazyObject(lambda: auth.get_user(request))  # type: ignore[assignment] # as Django's own does
    vars(request).pop("_acached_user", None)


def end(logout: Logout) -> int:
    """End or lower the sessions that a logout is about: as the settings say, and no others.

    Returns:
        How many there were.

    Raises:
        ClaimError: its token was used before, or sessions got other keys as fast as they were ended.
        Exception: whatever the session store or the database raise. The token may then be used again.
    """
    notice = _noticed(logout)
    ended = _end_all(logout, conf.current())
    # Only now: whoever is stopped half-way, by whatever it may be, can be asked once more.
    LogoutNotice.objects.filter(pk=notice.pk).update(is_done=True)
    return ended


@contextmanager
def _not_in_the_way(doing: str) -> Iterator[None]:
    """What may fail without harm, and must then not keep anybody from signing in or out."""
    try:
        with transaction.atomic():
            yield
    except Exception as error:  # noqa: BLE001 - a session store may raise anything
        reason = type(error).__name__
        logger.warning("Failed %s: %s", doing, reason, extra={"event": "links_failed", "reasons": (reason,)})


def _end_all(logout: Logout, settings: conf.Settings) -> int:
    ended = 0
    about = Q() if logout.subject is None else Q(subject=logout.subject)
    if logout.sid is not None:
        about &= Q(sid=logout.sid)
    for _ in range(PASSES):
        found = SessionLink.objects.filter(about, issuer=logout.issuer, ended=False)
        # Some databases take "ANNA" for "anna".
        links = [link for link in found if _is_about(logout, link.issuer, link.subject, link.sid)]
        if not links:
            return ended
        ended += sum(_end(link, settings) for link in links)
    raise ClaimError("sessions", "always on the move")


def _end(link: SessionLink, settings: conf.Settings) -> bool:
    """End or lower one session; whether it was there, and had no other key by then."""
    key = _key_of(link)
    if key is None:
        # SECRET_KEY is another one now, and with it every session is nobody's.
        _mark(link, "")
        return False
    if not session.is_there(before := session.stored(key, settings)):
        # It expired, or was ended otherwise; or a cache does not answer, which Django takes for an empty one. So it is
        # deleted all the same: where it cannot be, that fails, and the OP hears of it.
        before.delete(key)
        _mark(link, "")
        return False
    if settings.back_channel_logout != "lower":
        before.delete(key)
        return _mark(link, "")
    # First the way to what it becomes, so that no request finds neither.
    after = session.lowered(before, settings)
    if not _mark(link, _lock(after)):
        before.delete(after)
        return False
    try:
        before.delete(key)
    except BaseException:
        SessionLink.objects.filter(pk=link.pk).update(ended=False, locked_key=link.locked_key)
        raise
    return True


def _mark(link: SessionLink, locked_key: str) -> bool:
    """Note that it has ended, unless it has another key by now."""
    same = SessionLink.objects.filter(pk=link.pk, key_digest=link.key_digest, ended=False)
    return bool(same.update(ended=True, locked_key=locked_key))


def _noticed(logout: Logout) -> LogoutNotice:
    """Write down that this logout has come, for all to see at once; and before anything is done about it.

    Raises:
        ClaimError: it came before, and all was done about it.
    """
    digest = hashlib.sha256(f"{logout.issuer} {logout.jti}".encode("utf-8", "surrogatepass")).hexdigest()
    try:
        with transaction.atomic():
            notice: LogoutNotice = LogoutNotice.objects.create(
                digest=digest,
                issuer=logout.issuer,
                subject=logout.subject or "",
                sid=logout.sid or "",
                issued_at=logout.issued_at,
                expires=int(clock.now()) + REMEMBERED,
            )
    except IntegrityError:
        notice = LogoutNotice.objects.get(digest=digest)
        if notice.is_done:
            raise ClaimError("jti", "used") from None
    return notice


def _is_noticed(issuer: str, subject: str, sid: str | None, issued_at: float) -> bool:
    """Whether the OP has ended what an ID token is about, in the second in which it was issued or later."""
    about = Q(sid="", subject=subject)
    if sid is not None:
        about |= Q(sid=sid)
    notices = LogoutNotice.objects.filter(about, issuer=issuer, issued_at__gte=int(issued_at))
    return any(
        _is_about(Logout(each.issuer, each.subject or None, each.sid or None, 0, ""), issuer, subject, sid or "")
        for each in notices
    )


def _is_about(logout: Logout, issuer: str, subject: str, sid: str) -> bool:
    return logout.issuer == issuer and logout.subject in (None, subject) and (logout.sid is None or logout.sid == sid)


def _moved(request: HttpRequest, before: str | None, about: Mapping[str, Any]) -> bool:
    rows = _under(before).filter(ended=False) if before else SessionLink.objects.none()
    return bool(rows.update(**_under_key_of(request), **about))


def _was_ended(key: str | None) -> bool:
    return key is not None and _under(key).filter(ended=True).exists()


def _under(key: str) -> Any:
    return SessionLink.objects.filter(key_digest__in=_digests(key))


def _under_key_of(request: HttpRequest) -> dict[str, Any]:
    key = request.session.session_key or ""
    expires = int(clock.now()) + request.session.get_expiry_age()
    return {"key_digest": _digests(key)[0], "locked_key": _lock(key), "expires": expires}


def _digests(key: str) -> tuple[str, ...]:
    return vault.digests(key.encode("utf-8", "surrogatepass"), purpose=_PURPOSE)


def _lock(key: str) -> str:
    return vault.lock(key.encode(), purpose=_PURPOSE)


def _key_of(link: SessionLink) -> str | None:
    try:
        return vault.unlock(link.locked_key, purpose=_PURPOSE).decode()
    except ValueError:
        return None


def _tidy() -> None:
    """Take out what has expired: a few for each row that is written, so that there are never many."""
    now, settings = int(clock.now()), conf.current()
    done = list(LogoutNotice.objects.filter(expires__lt=now).values_list("pk", flat=True)[:TIDIED])
    if done:
        LogoutNotice.objects.filter(pk__in=done).delete()
    for link in SessionLink.objects.filter(expires__lt=now).order_by("expires")[:TIDIED]:
        key = _key_of(link)
        if key is not None and session.is_there(left := session.stored(key, settings)):
            # It was used since, and so prolonged.
            SessionLink.objects.filter(pk=link.pk).update(expires=now + left.get_expiry_age())
        else:
            link.delete()
