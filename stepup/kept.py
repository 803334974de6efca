"""Forms that wait for a step-up: kept on the server, shown to the person afterwards, and sent once.

What is sent again is an ordinary POST to the form's own address, with a CSRF token of its own and nothing else but a
mark that says which form it stands for. The gate, or the middleware before it, puts the form in its place. So it goes
through all of the site's middleware, and each door on its way judges it as it would judge any other.
"""

from __future__ import annotations

import html
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from io import BytesIO
from typing import Any, cast
from urllib.parse import quote, unquote_plus, urlencode

from django.core.exceptions import BadRequest, SuspiciousOperation
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, RawPostDataException
from django.http.multipartparser import MultiPartParserError
from django.shortcuts import render
from django.urls import get_script_prefix, reverse
from django.utils.crypto import get_random_string
from django.utils.encoding import force_str
from django.utils.translation import gettext as _

from stepup import clock, conf, session
from stepup.assurance import Requirement
from stepup.verdicts import private

__all__ = ["NotKept", "discard", "has_mark", "is_shown_by", "keep", "not_kept", "page", "page_of", "restore", "url_of"]

logger = logging.getLogger("stepup")

#: The query parameter of the view that starts an authentication request: the form to show.
PARAM = "kept"
#: The query parameter that says which form a request stands for.
MARK = "stepup_kept"

#: What somebody who is not signed in may have kept, in bytes. The room is the server's, and anybody may ask for it.
ANONYMOUS_BYTES = 64 * 1024
#: The name of the field that Django's CSRF check reads.
CSRF_FIELD = "csrfmiddlewaretoken"
#: For how long what was proved on the way is fresh for the form, in seconds: the person reads what is about to be sent.
READING_SECONDS = 120
#: After how many seconds the page sends the form by itself, where it may.
COUNTDOWN_SECONDS = 5

#: How much of a form its page shows: fields, characters of a value, and characters of JSON.
SHOWN_FIELDS = 40
SHOWN_LENGTH = 200
SHOWN_JSON_LENGTH = 3000
#: A larger JSON body is not shown, and what is nested more deeply neither.
SHOWN_JSON_BYTES = 10_000
SHOWN_DEPTH = 20

#: What a page does not show, wherever it stands in a name; and what only counts as a word of its own.
_SECRETS = re.compile(
    r"passw|passphrase|passcode|secret|token|credential|card|"
    r"(?:^|[^a-z])(?:pwd|pin|puk|tan|otp|totp|cvc|cvv|ssn|key)[0-9]*(?:[^a-z]|$)"
)
_MASK = "••••••••"

_URLENCODED = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
_PURPOSE = "kept form"


class NotKept(Exception):
    """A form cannot be kept.

    Attributes:
        reason: ``"off"``, ``"method"``, ``"cookie"``, ``"origin"``, ``"too large"``, ``"unreadable"``, ``"address"`` or
            ``"store"``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form that was sent too early.

    Attributes:
        requirement: what has to be satisfied before it is shown: what its door demanded; ``None`` for nothing.
        host: where it was sent to, as `get_host()` gives it.
        path: the same: path and query, as `get_full_path()` gives them.
        content_type: its own, parameters included.
        referer: the page that it was sent from, as the browser said.
        back: where to go instead of sending it.
        by_itself: whether its page may send it without a press: the browser says that it came from a page of
            this site, and whoever filled it in was signed in.
        shown: what its page shows of it, see :func:`_shown`.
    """

    id: str
    requirement: Requirement | None
    path: str
    content_type: str
    referer: str
    back: str
    by_itself: bool
    host: str
    shown: Mapping[str, Any]
    body: bytes = field(repr=False)

    @property
    def url(self) -> str:
        """The page that shows it."""
        return _url(self.id)

    @property
    def action(self) -> str:
        """Where a request goes that stands for it."""
        return f"{self.path}{'&' if '?' in self.path else '?'}{MARK}={quote(self.id)}"

    def pack(self) -> bytes:
        head = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "body"}
        if (requirement := self.requirement) is not None:
            head["requirement"] = {**requirement.to_mapping(), "name": requirement.name}
        return json.dumps(head).encode() + b"\n" + self.body

    @classmethod
    def unpack(cls, packed: bytes) -> Form:
        """What was packed. Nobody but this site can have done it: it comes out of the vault.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: another version has.
        """
        packed_head, _newline, body = packed.partition(b"\n")
        head = json.loads(packed_head)
        if (plain := head["requirement"]) is not None:
            head["requirement"] = Requirement.from_mapping(plain, name=plain.pop("name"))
        return cls(**head, body=body)


def keep(request: HttpRequest, requirement: Requirement | None, *, path: str, back: str) -> Form:
    """Keep the form that a request brings.

    Args:
        requirement: what its door demands for it; ``None`` where it waits for a sign-in alone.
        path: the request's own path and query, checked to lead to this site.
        back: where to go instead of sending the form.

    Raises:
        NotKept: it cannot be; nothing has been stored.
    """
    settings, restored = conf.current(), of(request)
    if not settings.keep_forms or not _is_wanted(request):
        raise NotKept("off")
    if request.method != "POST":
        raise NotKept("method")
    if not session.is_on_server(request.session):
        raise NotKept("cookie")
    most = settings.keep_forms_bytes
    if not request.user.is_authenticated:
        most = min(most, ANONYMOUS_BYTES)
    # A form that was restored in vain is kept as it was; sent by itself it is once, or it could go round in circles.
    form = (
        _form_of(request, requirement, path=path, back=back, most=most)
        if restored is None
        else replace(restored, requirement=requirement, by_itself=False)
    )
    from stepup import vault  # brings cryptography

    locked = vault.lock(form.pack(), purpose=_PURPOSE)
    if not session.keep_form(request, form.id, locked, settings, now=clock.now()):
        raise NotKept("store")
    logger.info(
        "Form kept until the step-up: %d bytes",
        len(form.body),
        extra={"event": "form_kept", "user_pk": request.user.pk},
    )
    return form


def not_kept(request: HttpRequest, reason: str) -> str:
    """What the page says where a form was not kept, or nothing; the log hears of it too."""
    logger.info(
        "Form not kept: %s", reason, extra={"event": "form_not_kept", "reason": reason, "user_pk": request.user.pk}
    )
    return {
        "too large": _("It was too large to be kept until you have done so."),
        "unreadable": _("It could not be kept until you have done so."),
        "store": _("It could not be kept until you have done so."),
        "address": _("It could not be kept until you have done so."),
        "cookie": _("This site keeps nothing on its server between two pages, so it could not keep your form."),
    }.get(reason, "")


def to_show(request: HttpRequest) -> Form | HttpResponse:
    """The form whose page a request is for, or the answer where there is none."""
    form, reason = _open(request, request.GET.get(PARAM, ""))
    if form is None:
        return _gone(request, reason)
    cast("Any", request)._stepup_shown = form
    return form


def page(request: HttpRequest, form: Form) -> HttpResponse:
    """The page that shows what is about to be sent, and sends it with one press."""
    session.claim_form(request, form.id, conf.current(), now=clock.now())
    context = {
        "heading": _("Your form is ready to be sent"),
        "what_happened": _("You have confirmed that it is you. What you filled in was kept, and is not sent yet."),
        "action": form.action,
        "discard_url": form.url,
        "path": form.path,
        "shown": form.shown,
        "countdown": COUNTDOWN_SECONDS if form.by_itself else 0,
    }
    response = private(render(request, "stepup/kept.html", context))
    # Nobody shall lead somebody to press a button that they do not see (RFC 7034).
    response.headers["X-Frame-Options"] = "DENY"
    return response


def discard(request: HttpRequest) -> HttpResponse:
    """Forget a form, and go back to where it came from."""
    settings, now = conf.current(), clock.now()
    form, reason = _open(request, request.GET.get(PARAM, ""))
    if form is None or not session.take_form(request, form.id, settings, now=now):
        return _gone(request, reason)
    logger.info("Form discarded", extra={"event": "form_discarded", "user_pk": request.user.pk})
    response = private(HttpResponseRedirect(form.back))
    response.status_code = 303
    return response


def has_mark(request: HttpRequest) -> bool:
    """Whether a request stands for a kept form."""
    return f"{MARK}=" in request.META.get("QUERY_STRING", "") and MARK in request.GET


def url_of(request: HttpRequest) -> str:
    """The page that shows the form that a request stands for."""
    return _url(request.GET[MARK])


def is_shown_by(request: HttpRequest) -> bool:
    """Whether a request of the view that starts an authentication request is for such a page."""
    return request.method == "GET" and PARAM in request.GET


def restore(request: HttpRequest) -> HttpResponse | None:
    """Put a kept form in the place of the request that stands for it, once; else the answer to give instead.

    The form is off the session before anything is done with it, so that no second request can have it. Whether its
    requirement is met is for the doors to say: one that is not keeps the form again.
    """
    ids, path = request.GET.getlist(MARK), _without_mark(request.get_full_path())
    form, reason = _open(request, ids[0] if len(ids) == 1 else "")
    if form is not None and form.path != path:
        reason = "path"
    if form is None or reason:
        return _gone(request, reason)
    token = request.POST.get(CSRF_FIELD, "")
    if not session.take_form(request, form.id, conf.current(), now=clock.now()):
        return _gone(request, "used")
    _replace(request, form, token)
    logger.info("Form restored", extra={"event": "form_restored", "user_pk": request.user.pk})
    return None


def of(request: HttpRequest) -> Form | None:
    """The form that was put in the place of a request."""
    return getattr(request, "_stepup_kept", None)


def shown(request: HttpRequest) -> Form | None:
    """The form whose page a request is for."""
    return getattr(request, "_stepup_shown", None)


def page_of(request: HttpRequest) -> tuple[str, float]:
    """The page that a step-up for this request was made for, and for how many seconds it may have been satisfied.

    Of a form that was kept, it is the page that shows it: nobody comes from the OP straight to a POST.
    """
    form = of(request) or shown(request)
    return (request.get_full_path(), session.SETTLED_SECONDS) if form is None else (form.url, READING_SECONDS)


def _url(id: str) -> str:  # noqa: A002 - the word for it
    return f"{reverse('oidc_authentication_init')}?{urlencode({PARAM: id})}"


def _is_wanted(request: HttpRequest) -> bool:
    """Whether no door says anything else: the one that asks, to the request, or one on the view, see `gate.mark`.

    Of a class-based view also one on the method that takes forms, which is asked after others.
    """
    if getattr(request, "_stepup_keep_no_form", False):
        return False
    view = getattr(request.resolver_match, "func", None)
    method = getattr(getattr(view, "view_class", None), "post", None)
    return all(getattr(each, "stepup_keep_form", True) is True for each in (view, method))


def keep_none(request: HttpRequest) -> None:
    """Whatever this request brings is not kept: its door says so, where nobody may see it on the view."""
    request._stepup_keep_no_form = True  # type: ignore[attr-defined]


def _open(request: HttpRequest, id: str) -> tuple[Form | None, str]:  # noqa: A002 - the word for it
    """The form that is kept under an id for this user and session, or why there is none."""
    if not request.user.is_authenticated:
        return None, "not signed in"
    locked = session.kept_form(request, id, conf.current(), now=clock.now())
    if locked is None:
        return None, "unknown"
    from stepup import vault  # brings cryptography

    try:
        form = Form.unpack(vault.unlock(locked, purpose=_PURPOSE))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, "unreadable"
    return (form, "") if form.host == request.get_host() else (None, "host")


def _gone(request: HttpRequest, reason: str) -> HttpResponse:
    logger.warning(
        "Kept form refused: %s", reason, extra={"event": "form_refused", "reason": reason, "user_pk": request.user.pk}
    )
    context = {
        "heading": _("This was sent already, or is no longer there"),
        "what_happened": _("A form is kept for a short time, for one person, and is sent once. Nothing was sent now."),
        "what_to_do": _("Look whether it arrived. If it did not, go back to its page and fill it in again."),
        "home_url": get_script_prefix(),
    }
    return private(render(request, "stepup/not_sent.html", context, status=410))


def _form_of(request: HttpRequest, requirement: Requirement | None, *, path: str, back: str, most: int) -> Form:
    if _length(request) > most:
        raise NotKept("too large")
    is_own = _is_same_origin(request)
    # Where nobody was signed in yet, it may be somebody else who signs in, at a computer that others use too.
    by_itself = is_own and request.user.is_authenticated
    if not is_own and not getattr(request, "csrf_processing_done", False):
        # Nobody has looked whose form it is. Sent from here, with a new token, it would be this site's own.
        raise NotKept("origin")
    try:
        content_type, body = _body(request, most)
        shown = _shown(request, body)
    except (RawPostDataException, MultiPartParserError, SuspiciousOperation, BadRequest, OSError, ValueError):
        # UnreadablePostError is an OSError, RequestDataTooBig and its like are SuspiciousOperations.
        raise NotKept("unreadable") from None
    if len(body) > most:
        raise NotKept("too large")
    return Form(
        id=get_random_string(22),
        requirement=requirement,
        path=path,
        content_type=content_type,
        referer=request.headers.get("Referer", ""),
        back=back,
        by_itself=by_itself,
        host=request.get_host(),
        shown=shown,
        body=body,
    )


def _body(request: HttpRequest, most: int) -> tuple[str, bytes]:
    """A form's content type and body; made anew for one whose body was read and taken apart by Django's CSRF check.

    Without its token: it is sent with a new one.
    """
    if request.content_type == _MULTIPART:
        return _multipart(request, most)
    body = request.body
    if request.content_type == _URLENCODED:
        body = b"&".join(part for part in body.split(b"&") if _name_in(part) != CSRF_FIELD)
    return request.META.get("CONTENT_TYPE", ""), body


def _name_in(part: bytes) -> str:
    return unquote_plus(part.partition(b"=")[0].decode("latin-1"))


def _multipart(request: HttpRequest, most: int) -> tuple[str, bytes]:
    from urllib3.filepost import encode_multipart_formdata

    if not hasattr(request, "_post") and getattr(request, "_read_started", False) and not hasattr(request, "_body"):
        raise ValueError("somebody else has read it, and Django would say that it is empty")
    fields = [(name, value) for name, value in _pairs(request.POST) if name != CSRF_FIELD]
    files: list[tuple[str, UploadedFile[Any]]] = _pairs(request.FILES)
    if sum(most + 1 if file.size is None else file.size for _name, file in files) > most:
        raise NotKept("too large")
    if any(set(name) & set('"\r\n') for name, _value in [*fields, *files]):
        raise ValueError("such a name would come back as another")
    parts: list[Any] = [*fields]
    for name, file in files:
        file.seek(0)
        # Django takes references to characters out of the name of a file, and would do so again.
        parts.append((name, (html.escape(file.name or ""), file.read(), _type_of(file))))
    body, content_type = encode_multipart_formdata(parts)
    return f"{content_type}; charset=utf-8", body


def _pairs(values: Any) -> list[tuple[str, Any]]:
    return [(name, value) for name, several in values.lists() for value in several]


def _type_of(file: UploadedFile[Any]) -> str | None:
    params = [f"{name}={force_str(value)}" for name, value in (file.content_type_extra or {}).items()]
    return "; ".join([file.content_type, *params]) if file.content_type else None


def _replace(request: HttpRequest, form: Form, token: str) -> None:
    body = _with_token(form, token) if token else form.body
    request.close()  # what was uploaded with it
    raw, meta = cast("Any", request), request.META
    # What Django has made of the request so far, and makes again of what it is now.
    for name in ("_post", "_files", "_body", "_encoding", "_upload_handlers", "GET", "headers"):
        raw.__dict__.pop(name, None)
    raw._stream = BytesIO(body)
    raw._read_started = False
    meta["QUERY_STRING"] = _unmarked(meta["QUERY_STRING"])
    meta["CONTENT_TYPE"], meta["CONTENT_LENGTH"] = form.content_type, str(len(body))
    # Views go back to where a form came from.
    meta["HTTP_REFERER"] = form.referer
    raw._set_content_type_params(meta)
    raw._stepup_kept = form


def _with_token(form: Form, token: str) -> bytes:
    kind = form.content_type.partition(";")[0].strip().lower()
    if kind == _URLENCODED:
        return b"&".join([*filter(None, [form.body]), urlencode({CSRF_FIELD: token}).encode()])
    if kind == _MULTIPART:
        boundary = form.content_type.partition("boundary=")[2].partition(";")[0]
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{CSRF_FIELD}"\r\n\r\n{token}\r\n'
        return head.encode() + form.body
    return form.body


def _without_mark(path: str) -> str:
    """A path and its query, as they were without the mark."""
    before, _question_mark, query = path.partition("?")
    left = _unmarked(query)
    return f"{before}?{left}" if left else before


def _unmarked(query: str) -> str:
    return "&".join(part for part in query.split("&") if not part.startswith(f"{MARK}="))


def _length(request: HttpRequest) -> int:
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _is_same_origin(request: HttpRequest) -> bool:
    if site := request.headers.get("Sec-Fetch-Site"):
        return site == "same-origin"
    return request.headers.get("Origin") == f"{request.scheme}://{request.get_host()}"


def _shown(request: HttpRequest, body: bytes) -> dict[str, Any]:
    """What the page shows of a form, in JSON's values: what is secret in it goes no further than the form itself."""
    kind, rows, more, text = request.content_type or "", [], 0, ""
    if kind in (_URLENCODED, _MULTIPART):
        values = [(name, value) for name, value in _pairs(request.POST) if name != CSRF_FIELD]
        files = _pairs(request.FILES)
        rows = [
            {"name": _short(name), "value": _MASK if _is_secret(name) and value else _short(value), "size": None}
            for name, value in values[:SHOWN_FIELDS]
        ]
        rows += [
            {"name": _short(name), "value": _short(file.name or ""), "size": file.size}
            for name, file in files[: SHOWN_FIELDS - len(rows)]
        ]
        more = len(values) + len(files) - len(rows)
    elif len(body) <= SHOWN_JSON_BYTES and (kind == "application/json" or kind.endswith("+json")):
        try:
            text = json.dumps(_masked(json.loads(body)), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            text = ""
    return {
        "rows": rows,
        "more": more,
        "text": _short(text, SHOWN_JSON_LENGTH),
        "kind": _short(kind),
        "size": len(body),
    }


def _masked(value: Any, depth: int = 0) -> Any:
    if isinstance(value, (dict, list)) and depth == SHOWN_DEPTH:
        return "…"  # laid out for people, what is nested deeply takes a thousand times as much
    if isinstance(value, dict):
        return {name: _MASK if _is_secret(name) else _masked(inside, depth + 1) for name, inside in value.items()}
    if isinstance(value, list):
        return [_masked(inside, depth + 1) for inside in value]
    return _short(value) if isinstance(value, str) else value


def _is_secret(name: str) -> bool:
    # Nobody reads so long a name to the end.
    return len(name) > SHOWN_LENGTH or _SECRETS.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()) is not None


def _short(text: str, length: int = SHOWN_LENGTH) -> str:
    short = text if len(text) <= length else f"{text[:length]}…"
    # JSON can hold half a character, which no page can.
    return short.encode("utf-8", "backslashreplace").decode()
