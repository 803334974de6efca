"""The only module that builds the answer to an unmet requirement, and with it every authentication request."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit

from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render, resolve_url
from django.urls import NoReverseMatch, get_script_prefix, reverse
from django.utils.crypto import get_random_string
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from stepup import clock, conf, kept, session, signals, verdicts
from stepup.assurance import Decision, Requirement
from stepup.exceptions import ProviderError, StepUpError, TokenRequestRefused
from stepup.verdicts import Verdict, private

__all__ = [
    "answer",
    "authentication_request",
    "is_page",
    "kind_of",
    "path_of",
    "redirect_uri",
    "requirement_from",
    "safe_next",
    "seconds_to_wait",
    "sign_in_anew",
    "step_up_url",
]

logger = logging.getLogger("stepup")

#: The query parameters of the view that starts an authentication request: the requirement, and whether to ask harder.
REQUIREMENT_PARAM = "stepup"
AGAIN_PARAM = "again"

#: A longer address is not gone back to: it is kept on the session.
MAX_NEXT_LENGTH = 2000
#: A longer ID token is no hint: it would make a URL that servers refuse.
MAX_HINT_LENGTH = 1500

#: Methods by which something is sent that a person has filled in (RFC 9110, 9.3; RFC 5789).
SUBMITTING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
#: Methods that change nothing (RFC 9110, 9.2.1).
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

_SALT = "stepup.requirement"


def answer(request: HttpRequest, requirement: Requirement, decision: Decision) -> HttpResponse:
    """The answer to a request that does not satisfy a requirement, in the form that the client understands."""
    logger.info(
        "Step-up challenged: %s (%s)",
        requirement.name or "unnamed requirement",
        ", ".join(map(str, decision.unmet)),
        extra={"event": "challenged", "requirement": requirement.name, "user_pk": request.user.pk},
    )
    signals.challenged.send_robust(sender=Requirement, request=request, requirement=requirement, decision=decision)

    here = _off_page(request, requirement)
    if not isinstance(here, str):
        return here
    if request.method not in SAFE_METHODS:
        # The form will be sent from where it waits, and not its page be opened.
        requirement = requirement.for_submission()
    if session.settled(request, requirement, here, now=clock.now(), within=kept.page_of(request)[1]) is not None:
        session.note_attempt(request, requirement, conf.current(), now=clock.now(), lasting=True)
        wait = seconds_to_wait(request, requirement)
        return verdicts.page(
            request,
            Verdict.IGNORED,
            user=request.user,
            requirement=requirement,
            reasons=[*map(str, decision.unmet), "the page still asks after a step-up that satisfied it"],
            retry_url="" if wait else step_up_url(requirement, here, again=True),
            wait=wait,
        )
    # Evidence that exists but is too old is not renewed by an OP that still has its own session, unless it is told to:
    # several ignore `max_age`.
    again = any(unmet.reason != "missing" for unmet in decision.unmet)
    return authentication_request(request, requirement=requirement, next_url=here, again=again)


def seconds_to_wait(request: HttpRequest, requirement: Requirement | None) -> float:
    """For how long the OP is not asked again for this requirement, which it was in vain; 0 where it may be."""
    if requirement is None:
        return 0
    return session.seconds_to_wait(request, requirement, conf.current(), now=clock.now())


def sign_in_anew(request: HttpRequest) -> HttpResponse:
    """The answer to a request of somebody for whom the OP no longer vouches: a sign-in that leads back to the page.

    A form is kept until then. Where no page goes with the answer it is what an unmet requirement is answered there. The
    user stays signed in here.
    """
    here = _off_page(request, None)
    return authentication_request(request, requirement=None, next_url=here) if isinstance(here, str) else here


def is_page(request: HttpRequest) -> bool:
    """Whether a redirect to the OP takes the whole page there for certain, and loses nothing."""
    headers = request.headers
    if kind_of(request) != "page":
        return False
    if "Sec-Fetch-Mode" in headers:
        return headers.get("Sec-Fetch-Dest", "document") == "document"
    return "text/html" in headers.get("Accept", "")


def _off_page(request: HttpRequest, requirement: Requirement | None) -> HttpResponse | str:
    """The answer where no page can be sent to the OP; where one can, the address to come back to."""
    kind = kind_of(request)
    try:
        here = _way_back(request, requirement, kind)
    except kept.NotKept as why:
        return _not_sent(request, requirement, why.reason)
    if kind not in ("htmx", "script"):
        return here
    if requirement is not None and kept.of(request) is not None:
        requirement = requirement.for_submission()
    url = step_up_url(requirement, here)
    if kind == "htmx":
        return _noted(
            private(HttpResponse(status=401, headers={"HX-Redirect": url, **_authenticate_header()})), requirement
        )
    needs_more = requirement is not None and request.user.is_authenticated
    error = "insufficient_user_authentication" if needs_more else "login_required"
    body = {"error": error, "requirement": requirement.name if requirement else "", "step_up_url": url}
    return _noted(private(JsonResponse(body, status=401, headers=_authenticate_header())), requirement)


def _way_back(request: HttpRequest, requirement: Requirement | None, kind: str) -> str:
    """Where to come back to: the page or, for a form, the one that shows it. There it is kept until then.

    Raises:
        NotKept: it cannot be.
    """
    here = request.get_full_path()
    if kind == "page":
        return here
    # Back to the page that a script's request was made from: its own address is nothing that a person wants to see. It
    # has what it sent, except for a form that was kept before.
    if kind != "form" and kept.of(request) is None:
        return safe_next(request, request.headers.get("HX-Current-URL" if kind == "htmx" else "Referer"))
    if kept.has_mark(request):
        return kept.url_of(request)  # where it is still kept, and was not touched
    if safe_next(request, here) != here:
        raise kept.NotKept("address")
    wanted = None if requirement is None else requirement.for_submission()
    return kept.keep(request, wanted, path=here, back=_came_from(request)).url


def _came_from(request: HttpRequest) -> str:
    return safe_next(request, request.headers.get("Referer") or request.get_full_path())


def authentication_request(
    request: HttpRequest,
    *,
    requirement: Requirement | None,
    next_url: str,
    again: bool = False,
    silent: bool = False,
) -> HttpResponse:
    """Send the browser to the OP with an authentication request (OpenID Connect Core 1.0, 3.1.2.1).

    Where that was tried in vain too often, in this session and of late, it is not: the person gets a page that says so.
    And what is proved on a page of the site's own has them sent there, signed in or not: that page sees to it.

    Args:
        requirement: what the answer has to prove; ``None`` where signing in is all.
        next_url: where to go afterwards.
        again: have the OP authenticate the user anew, whatever it remembers.
        silent: have it answer from what it remembers, and show nothing (``prompt=none``).

    Raises:
        ProviderError, TokenRequestRefused: the OP cannot be asked. Only where ``silent``; others get a page.
    """
    from stepup import provider  # brings requests and cryptography, which a request that is allowed never needs

    settings = conf.current()
    user = request.user
    parts = _unmet_parts(request, requirement, settings)
    if requirement is not None and (page := next(filter(None, (part.step_up_url for part in parts)), "")):
        there = Requirement.all_of(*(part for part in parts if part.step_up_url == page))
        return _own_page(request, requirement, there, next_url)
    if wait := seconds_to_wait(request, requirement):
        return verdicts.page(request, Verdict.EXHAUSTED, user=user, requirement=requirement, wait=wait)
    try:
        endpoint = provider.current().endpoint("authorization_endpoint")
    except ProviderError as error:
        if silent:
            raise
        return _unavailable(request, requirement, next_url, error)
    pending = session.Pending(
        state=get_random_string(settings.state_size),
        nonce=get_random_string(settings.nonce_size),
        code_verifier=get_random_string(settings.code_verifier_size),
        next=safe_next(request, next_url),
        requirement=requirement,
        user=str(user.pk) if user.is_authenticated else None,
        started=clock.now(),
        silent=silent,
    )
    params = {
        **_extra_params(request, settings),
        **_asked(parts, again=again, settings=settings),
        **_hints(request, user),
        "response_type": "code",
        "client_id": settings.client_id,
        "redirect_uri": redirect_uri(request),
        "state": pending.state,
        "nonce": pending.nonce,
        "code_challenge": _s256(pending.code_verifier or ""),
        "code_challenge_method": "S256",
    }
    params["scope"] = _with_openid(str(params.get("scope") or settings.scopes))
    if silent:
        params["prompt"] = "none"
    if settings.audience:
        params["audience"] = settings.audience
    if settings.signed_requests or settings.pushed_requests:
        try:
            if settings.signed_requests:
                # Outside the signature stays what OpenID Connect wants to find there too (Core 1.0, section 6.1).
                signed = {"request": provider.current().signed_request(params)}
                params = {name: params[name] for name in ("client_id", "response_type", "scope")} | signed
            if settings.pushed_requests:
                params = {"client_id": settings.client_id, "request_uri": provider.current().push(params)}
        except (ProviderError, TokenRequestRefused) as error:
            if silent:
                raise
            return _unavailable(request, requirement, next_url, error)
    url = f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(params)}"
    if not session.add_pending(request, pending, settings):
        # It has ended, or has another key by now: the browser comes again with the cookie that it has then.
        return _seeing_other(request, pending.next)
    return _noted(_seeing_other(request, url), requirement)


def _seeing_other(request: HttpRequest, url: str) -> HttpResponse:
    response = private(HttpResponseRedirect(url))
    if request.method not in SAFE_METHODS:
        response.status_code = 303  # so that no browser repeats a form there (RFC 9700, 4.12)
    return response


def _noted(response: HttpResponse, requirement: Requirement | None) -> HttpResponse:
    """The response, with a note of what it asks for, which its address does not say. It is for the test kit."""
    response._stepup_requirement = requirement  # type: ignore[attr-defined]
    return response


def _own_page(request: HttpRequest, requirement: Requirement, there: Requirement, next_url: str) -> HttpResponse:
    """Send the browser to a page of this site's own; `next` says where to go then.

    Args:
        there: what of the requirement is proved on that page.
    """
    back, page, settings = safe_next(request, next_url), there.parts[0].step_up_url, conf.current()
    try:
        url = page if page.startswith("/") else reverse(page)
    except NoReverseMatch:
        reason = "step_up_url: no such page"
    else:
        reason = "step_up_url: the page asks for what is to be proved there"
        is_there = urlsplit(url).path == request.path
        if not is_there and session.may_go(request, there, path_of(request, back), settings, now=clock.now()):
            separator = "&" if "?" in url else "?"
            there_and_back = f"{url}{separator}{urlencode({REDIRECT_FIELD_NAME: back})}"
            return _noted(_seeing_other(request, there_and_back), requirement)
        if not is_there:
            reason = "step_up_url: leads back without a statement that satisfies it"
    return verdicts.page(
        request,
        Verdict.IGNORED,
        user=request.user,
        requirement=requirement,
        reasons=[reason],
        retry_url=step_up_url(requirement, back),
    )


def redirect_uri(request: HttpRequest) -> str:
    """The callback's absolute URL: the same in the authentication request and in the token request."""
    return request.build_absolute_uri(reverse(conf.current().callback_url_name))


def step_up_url(requirement: Requirement | None, next_url: str, *, again: bool = False) -> str:
    """The URL on this site that starts a step-up and leads to `next_url` afterwards.

    A named requirement goes by its name. Another is signed: nobody but this site can say what proves what.
    """
    params = {conf.current().redirect_field_name: next_url}
    if requirement is not None:
        named = conf.current().requirements.get(requirement.name) == requirement
        params[REQUIREMENT_PARAM] = (
            requirement.name
            if named
            else signing.dumps({**requirement.to_mapping(), "name": requirement.name}, salt=_SALT, compress=True)
        )
    if again:
        params[AGAIN_PARAM] = "1"
    return f"{reverse('oidc_authentication_init')}?{urlencode(params)}"


def requirement_from(request: HttpRequest) -> Requirement | None:
    """The requirement that a URL of :func:`step_up_url` carries; ``None`` where it carries none.

    Raises:
        ValueError: it carries one that this site does not know or did not sign.
    """
    text = request.GET.get(REQUIREMENT_PARAM)
    if text is None:
        return None
    if named := conf.current().requirements.get(text):
        return named
    try:
        plain = signing.loads(text, salt=_SALT)
    except signing.BadSignature:
        raise ValueError("unknown requirement") from None
    return Requirement.from_mapping({k: v for k, v in plain.items() if k != "name"}, name=plain["name"])


def safe_next(request: HttpRequest, url: str | None) -> str:
    """The URL, if it leads to this site (or to a host of `OIDC_REDIRECT_ALLOWED_HOSTS`); else where sign-ins go."""
    settings = conf.current()
    require_https = settings.redirect_require_https
    if (
        url
        and len(url) <= MAX_NEXT_LENGTH
        and url.isprintable()
        and url_has_allowed_host_and_scheme(
            url,
            allowed_hosts={request.get_host(), *settings.redirect_hosts},
            require_https=request.is_secure() if require_https is None else require_https,
        )
    ):
        return url
    return resolve_url(settings.login_redirect_url)


def path_of(request: HttpRequest, url: str) -> str:
    """A URL of this site as a request for it has it: what the address of a script's page is, is a path for the page."""
    return url.removeprefix(f"{request.scheme}://{request.get_host()}") or "/"


def kind_of(request: HttpRequest) -> Literal["page", "form", "script", "htmx"]:
    """What sends a request, and so in which form it has to be answered."""
    if "HX-Request" in request.headers:
        return "htmx"
    if request.method in SAFE_METHODS - {"GET"} or not _is_navigation(request):
        return "script"
    return "page" if request.method in SAFE_METHODS else "form"


def _is_navigation(request: HttpRequest) -> bool:
    """Whether the whole page goes where the answer sends it: a redirect to another site is of no use to a script."""
    if "prefetch" in request.headers.get("Sec-Purpose", request.headers.get("Purpose", "")):
        return False  # nobody has clicked, so nobody's telephone should ring
    if mode := request.headers.get("Sec-Fetch-Mode"):
        return mode == "navigate"
    if request.headers.get("X-Requested-With") == "XMLHttpRequest":
        return False
    accepts = request.headers.get("Accept", "")
    return "json" not in accepts or "text/html" in accepts


def _unavailable(
    request: HttpRequest, requirement: Requirement | None, next_url: str, error: StepUpError
) -> HttpResponse:
    return verdicts.page(
        request,
        Verdict.UNAVAILABLE,
        user=request.user,
        requirement=requirement,
        reasons=[str(error)],
        retry_url=step_up_url(requirement, next_url),
    )


def _not_sent(request: HttpRequest, requirement: Requirement | None, reason: str) -> HttpResponse:
    back = _came_from(request)
    context = {
        "step_up_url": step_up_url(requirement, back),
        "back_url": back,
        "heading": _("Your form was not sent"),
        "what_happened": _("What you sent needs an additional confirmation that it is you. It was not carried out."),
        "why": kept.not_kept(request, reason),
        "what_to_do": _("Confirm that it is you. You then come back to the page, where you can send it again."),
    }
    return _noted(private(render(request, "stepup/not_sent.html", context, status=403)), requirement)


def _authenticate_header() -> dict[str, str]:
    # A 401 has to name a scheme (RFC 9110, 11.6.1). This one tells a script where to go, and a browser nothing.
    return {"WWW-Authenticate": f'StepUp uri="{get_script_prefix()}"'}


def _extra_params(request: HttpRequest, settings: conf.Settings) -> dict[str, Any]:
    """What the site sends with each authentication request: from settings, or from its own sub-class of the view."""
    from stepup.views import AuthenticationRequestView

    view_class = import_string(settings.authenticate_class)
    if isinstance(view_class, type) and issubclass(view_class, AuthenticationRequestView):
        view = view_class()
        view.setup(request)
        return dict(view.get_extra_params(request))
    return dict(settings.extra_params)


def _unmet_parts(
    request: HttpRequest, requirement: Requirement | None, settings: conf.Settings
) -> tuple[Requirement, ...]:
    """Of the requirements that it is made of, those to ask for: what is proved already need not be proved again."""
    if requirement is None or not requirement.also:
        return () if requirement is None else (requirement,)
    evidence, now = session.read_evidence(request.session, request.user), clock.now()
    unmet = tuple(part for part in requirement.parts if not settings.judge(evidence, part, now=now))
    return unmet or requirement.parts


def _asked(parts: Sequence[Requirement], *, again: bool, settings: conf.Settings) -> dict[str, str]:
    """What to ask for, so that the answer can satisfy all of these at once."""
    params: dict[str, str] = {}
    for part in parts:
        params.update(part.params)
    if essential := _essential([part for part in parts if part.essential]):
        params["claims"] = json.dumps({"id_token": essential}, separators=(",", ":"))
    values = dict.fromkeys(value for part in parts if not part.essential for value in part.acr_values)
    if values:
        params["acr_values"] = " ".join(values)
    ages = [part.max_age for part in parts if part.max_age is not None]
    if ages:
        params["max_age"] = str(min(ages))
    prompts = dict.fromkeys(prompt for part in parts if part.prompt for prompt in part.prompt.split())
    if again:
        params["prompt"] = settings.dialect.prompt_again
    elif prompts:
        params["prompt"] = " ".join(prompts)
    return params


def _essential(parts: Sequence[Requirement]) -> Mapping[str, Any]:
    """The individual claims to request as essential (OpenID Connect Core 1.0, 5.5.1)."""
    wanted: dict[str, tuple[str, ...]] = {}
    for part in parts:
        mine = dict(part.claims)
        if part.acr_values or part.acr:
            mine["acr"] = part.acr_values or part.acr
        for claim, values in mine.items():
            wanted[claim] = tuple(dict.fromkeys([*wanted.get(claim, ()), *values]))
    return {
        claim: {"essential": True, **({"value": values[0]} if len(values) == 1 else {"values": list(values)})}
        for claim, values in wanted.items()
    }


def _hints(request: HttpRequest, user: AbstractBaseUser | AnonymousUser) -> dict[str, str]:
    """Who is expected, so that the OP asks the right person (OpenID Connect Core 1.0, 3.1.2.1)."""
    if isinstance(user, AnonymousUser):
        return {}
    id_token = session.id_token_hint(request)
    if id_token and len(id_token) <= MAX_HINT_LENGTH:
        return {"id_token_hint": id_token}
    email = getattr(user, user.get_email_field_name(), "")
    return {"login_hint": email} if email else {}


def _with_openid(scope: str) -> str:
    return scope if "openid" in scope.split() else f"openid {scope}"


def _s256(code_verifier: str) -> str:
    digest = hashlib.sha256(code_verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
