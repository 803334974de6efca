"""The pages and endpoints of the provider."""

from __future__ import annotations

import io
import json
import secrets
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import pyotp
import segno
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import AccessDeniedError
from authlib.oidc.core.errors import InteractionRequiredError, LoginRequiredError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from stepup.testing.provider.action import Known, Step
from stepup.testing.provider.configuration import Client, Configuration, ConfigurationError, User
from stepup.testing.provider.logouts import log_out, logout_token, session_ended
from stepup.testing.provider.middleware import content_security_policy
from stepup.testing.provider.oidc import (
    PUSHED,
    SESSION_COOKIE,
    AuthenticationRequest,
    Provider,
    UnmetAuthenticationRequirementsError,
    user_info,
)
from stepup.testing.provider.personality import sign
from stepup.testing.provider.state import Authentication, Interaction, Push, Session
from stepup.testing.provider.uris import origin

#: Names the browser, so that nobody can go on with what was begun in another.
BROWSER_COOKIE = "stepup_op_browser"

CANCELLED = "The person cancelled."
DENIED = "The request was denied on the phone."
NO_SECOND_FACTOR = "no second factor enrolled"


def provider_of(request: HttpRequest) -> Provider:
    """The provider this request came to; the server puts it into the WSGI environment."""
    provider: Provider = request.META["stepup.provider"]
    return provider


# The protocol


@require_GET
def metadata(request: HttpRequest) -> HttpResponse:
    """Discovery (OpenID Connect Discovery 1.0, section 4)."""
    return JsonResponse(provider_of(request).metadata())


@require_GET
def jwks(request: HttpRequest) -> HttpResponse:
    """The public keys (RFC 7517, section 5)."""
    provider = provider_of(request)
    return JsonResponse(provider.personality.keys(provider.keys.published()))


@csrf_exempt
@require_http_methods(["GET", "POST"])
def authorize(request: HttpRequest) -> HttpResponse:
    """The authorization endpoint (OpenID Connect Core 1.0, section 3.1.2)."""
    provider = provider_of(request)
    sent = request.POST if request.method == "POST" else request.GET
    asking = AuthenticationRequest(provider.issuer, dict(sent.lists()))
    if sent.get("request_uri", "").startswith(PUSHED):
        pushed = provider.server.take_pushed(sent.dict())
        if pushed is None:
            return _expired(request)
        asking = pushed
    session = _session(request)
    try:
        grant = provider.server.get_consent_grant(provider.server.open(asking), end_user=session and session.user)
    except OAuth2Error as error:
        if error.redirect_uri:
            return provider.server.refuse(asking, error)
        # Without a redirect URI that is known to be good the person has to be told here.
        return _page(
            request,
            "error",
            {
                "heading": "This application sent a request that cannot be answered",
                "detail": error.get_error_description() or error.error,
                "sent": sorted(asking.payload.data.items()),
            },
            status=400,
        )
    interaction = Interaction(
        key=secrets.token_urlsafe(16),
        browser=request.COOKIES.get(BROWSER_COOKIE) or secrets.token_urlsafe(16),
        parameters=asking.payload.data,
        redirect_uri=grant.redirect_uri,
        sid=session.sid if session and _fits_hint(provider, asking, session) else None,
    )
    response = _advance(provider, interaction, session)
    response.set_cookie(BROWSER_COOKIE, interaction.browser, httponly=True, samesite="Lax")
    return response


@csrf_exempt
@require_POST
def pushed_authorization_request(request: HttpRequest) -> HttpResponse:
    """The pushed authorization request endpoint (RFC 9126, section 2)."""
    return provider_of(request).server.push(request)


@csrf_exempt
def token(request: HttpRequest) -> HttpResponse:
    """The token endpoint (OpenID Connect Core 1.0, section 3.1.3)."""
    response: HttpResponse = provider_of(request).server.create_token_response(request)
    return response


@csrf_exempt
@require_http_methods(["GET", "POST"])
def userinfo(request: HttpRequest) -> HttpResponse:
    """The userinfo endpoint (OpenID Connect Core 1.0, section 5.3)."""
    provider = provider_of(request)
    try:
        access_token = provider.resource_protector.acquire_token(request, "openid")
    except OAuth2Error as error:
        refusal: HttpResponse = provider.server.handle_error_response(None, error)
        return refusal
    claims = user_info(access_token.user, access_token.scope)
    return JsonResponse(provider.personality.user_info(dict(claims)))


@csrf_exempt
@require_http_methods(["GET", "POST"])
def end_session(request: HttpRequest) -> HttpResponse:
    """The end session endpoint (RP-Initiated Logout 1.0, section 2)."""
    return _end_session(request, confirmed=False)


@require_POST
def end_session_confirmed(request: HttpRequest) -> HttpResponse:
    """The same request, confirmed by the person on the page."""
    return _end_session(request, confirmed=True)


def _end_session(request: HttpRequest, *, confirmed: bool) -> HttpResponse:
    provider = provider_of(request)
    try:
        asked = provider.server.validate_endpoint_request("end_session", request)
    except (OAuth2Error, ValueError):
        return _page(
            request,
            "error",
            {
                "heading": "You are still signed in",
                "detail": "The application sent an ID token that this provider did not issue, or issued before it "
                "was last started, or for another application.",
            },
            status=400,
        )
    session = _session(request)
    hinted = asked.id_token_claims and asked.id_token_claims.get("sub")
    # An ID token of somebody else does not sign this person out unasked (RP-Initiated Logout 1.0, section 2).
    if session is not None and hinted != session.user.sub and not confirmed:
        sent = sorted((request.POST or request.GET).dict().items())
        return _page(request, "sign_out", {"user": session.user, "sent": sent}, asked.redirect_uri)
    answer: HttpResponse | None = provider.server.create_endpoint_response("end_session", asked)
    frames = session_ended(provider, session) if session is not None else []
    response = answer if answer is not None and not frames else _signed_out(request, frames, asked.redirect_uri)
    response.delete_cookie(SESSION_COOKIE, samesite="Lax")
    return response


def _signed_out(request: HttpRequest, frames: list[str], back: str | None) -> HttpResponse:
    """The page at the end. It shows applications in frames that want to be told so, and leads back."""
    response = _page(request, "signed_out", {"frames": frames, "back": back})
    if frames:
        sources = " ".join(sorted({origin(frame) for frame in frames}))
        response["Content-Security-Policy"] = f"{content_security_policy()}; frame-src {sources}"
    return response


# The pages a person walks through


@require_http_methods(["GET", "POST"])
def sign_in(request: HttpRequest, key: str) -> HttpResponse:
    """Username and password. `?other=1` offers another account than the one that is signed in."""
    provider = provider_of(request)
    interaction = _interaction(request, key)
    if interaction is None:
        return _expired(request)
    session = _session(request)
    username = request.POST.get("username", "")
    if request.method == "POST":
        user = provider.user_named(username)
        if user is not None and _same(user.password, request.POST.get("password", "")):
            return _signed_in(request, interaction, session, user)
    elif "other" not in request.GET:
        username = _expected_username(provider, interaction, session)
    return _page(
        request,
        "sign_in",
        {
            "interaction": interaction,
            "application": _application(provider, interaction),
            "username": username,
            "wrong": request.method == "POST",
            "someone": session and session.user,
        },
        interaction.redirect_uri,
    )


@require_http_methods(["GET", "POST"])
def choose_account(request: HttpRequest, key: str) -> HttpResponse:
    """Go on as the person who is signed in, or as another (`prompt=select_account`)."""
    provider = provider_of(request)
    interaction = _interaction(request, key)
    session = _session(request)
    if interaction is None:
        return _expired(request)
    if session is None:
        return _advance(provider, interaction, session)
    if request.method == "POST":
        return _go_on(provider, interaction, session, sid=session.sid, chosen_here=True)
    return _page(
        request,
        "choose_account",
        {
            "interaction": interaction,
            "application": _application(provider, interaction),
            "user": session.user,
        },
        interaction.redirect_uri,
    )


@require_http_methods(["GET", "POST"])
def second_factor(request: HttpRequest, key: str) -> HttpResponse:
    """A code from the authenticator app, or a push to the phone."""
    provider = provider_of(request)
    interaction, session = _signed_in_interaction(request, key)
    if interaction is None:
        return _expired(request)
    if session is None:
        return _advance(provider, interaction, _session(request))
    user, outcome = session.user, ""
    if request.method == "POST" and "push" in request.POST and user.push:
        return _send_push(provider, interaction, user)
    if request.method == "POST":
        code = "".join(request.POST.get("code", "").split())
        outcome = provider.state.one_time_codes.check(user, code)
        if outcome == "accepted":
            return _finish(provider, interaction, session)
    return _page(
        request,
        "second_factor" if user.has_second_factor else "no_second_factor",
        {
            "interaction": interaction,
            "application": _application(provider, interaction),
            "user": user,
            "outcome": outcome,
        },
        interaction.redirect_uri,
    )


@require_GET
def push(request: HttpRequest, key: str) -> HttpResponse:
    """Waits for the phone. The page asks again by itself every few seconds."""
    provider = provider_of(request)
    interaction, session = _signed_in_interaction(request, key)
    if interaction is None:
        return _expired(request)
    if session is None:
        return _advance(provider, interaction, _session(request))
    question = provider.state.pushes.get(interaction.push or "")
    if question is not None and question.status == "approved":
        return _finish(provider, interaction, session)
    if question is not None and question.status == "denied":
        return _refuse(provider, interaction, AccessDeniedError(DENIED))
    return _page(
        request,
        "push",
        {
            "interaction": interaction,
            "application": _application(provider, interaction),
            "user": session.user,
            "push": question,
        },
        interaction.redirect_uri,
    )


@require_POST
def cancel(request: HttpRequest, key: str) -> HttpResponse:
    """Back to the application with nothing done."""
    interaction, session = _signed_in_interaction(request, key)
    if interaction is None:
        return _expired(request)
    stuck = session is not None and not session.user.has_second_factor
    error = AccessDeniedError(NO_SECOND_FACTOR if stuck else CANCELLED)
    return _refuse(provider_of(request), interaction, error)


# The toy phone


@require_http_methods(["GET", "POST"])
def phone(request: HttpRequest) -> HttpResponse:
    """A page that plays the phone of a person: `?user=anna`.

    Whoever can open it can approve. That is enough for people who do not exist, on a machine that serves only itself;
    what it does keep is the comparison of the numbers.
    """
    provider = provider_of(request)
    user = provider.users.get((request.POST or request.GET).get("user", ""))
    outcome = ""
    if user is not None and request.method == "POST":
        outcome = _answer_push(provider, user, request)
    waiting = [] if user is None else _waiting(provider, user)
    code = provider.state.one_time_codes.current(user) if user and user.totp_secret else ("", 0)
    return _page(
        request,
        "phone",
        {
            "user": user,
            "users": provider.users.values(),
            "waiting": waiting[::-1],
            "outcome": outcome,
            "code": code[0],
            "seconds": code[1],
        },
    )


@require_GET
def qr_code(request: HttpRequest, username: str) -> HttpResponse:
    """The secret of a person as an image, for an authenticator app of your own."""
    user = provider_of(request).users.get(username)
    if user is None or user.totp_secret is None:
        raise Http404
    uri = pyotp.TOTP(user.totp_secret).provisioning_uri(name=user.username, issuer_name="Harbour ID")
    image = io.BytesIO()
    segno.make(uri, micro=False).save(image, kind="svg", scale=4, xmldecl=False)
    return HttpResponse(image.getvalue(), content_type="image/svg+xml")


# Round about


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """What this is, and who can sign in."""
    provider = provider_of(request)
    return _page(
        request,
        "home",
        {
            "issuer": provider.issuer,
            "users": provider.users.values(),
            "clients": provider.configuration.clients,
        },
    )


@require_GET
def healthz(request: HttpRequest) -> HttpResponse:
    """Answers as soon as the provider does."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_GET
def stylesheet(request: HttpRequest) -> HttpResponse:
    """The one style sheet."""
    return _file("harbour.css", "text/css; charset=utf-8")


@require_GET
def icon(request: HttpRequest) -> HttpResponse:
    """The sign of the house."""
    return _file("harbour.svg", "image/svg+xml")


@require_GET
def recorded_requests(request: HttpRequest) -> HttpResponse:
    """For the launcher: what was requested since the start or the last reset."""
    provider = _controlled(request)
    return JsonResponse({"requests": [asdict(each) for each in provider.state.recorded()]})


@csrf_exempt
@require_POST
def reset(request: HttpRequest) -> HttpResponse:
    """For the launcher: forget all sessions, codes and records. The keys stay."""
    _controlled(request).reset()
    return HttpResponse(status=204)


@csrf_exempt
@require_POST
def configure(request: HttpRequest) -> HttpResponse:
    """For the launcher: know other people and applications. The sessions, codes and keys stay."""
    provider = _controlled(request)
    try:
        provider.configure(Configuration.from_dict(json.loads(request.body)))
    except ConfigurationError as error:
        return HttpResponse(str(error), content_type="text/plain", status=400)
    return HttpResponse(status=204)


@csrf_exempt
@require_POST
def set_clock(request: HttpRequest, milliseconds: int) -> HttpResponse:
    """For the launcher: be ahead of the machine's clock."""
    _controlled(request).ahead = milliseconds / 1000
    return HttpResponse(status=204)


@csrf_exempt
@require_POST
def set_clock_back(request: HttpRequest, milliseconds: int) -> HttpResponse:
    """For the launcher: be behind it."""
    _controlled(request).ahead = -milliseconds / 1000
    return HttpResponse(status=204)


@csrf_exempt
@require_POST
def behave(request: HttpRequest, name: str) -> HttpResponse:
    """For the launcher: take on another personality."""
    try:
        _controlled(request).behave(name)
    except ConfigurationError as error:
        return HttpResponse(str(error), content_type="text/plain", status=400)
    return HttpResponse(status=204)


@require_GET
def recorded_authentications(request: HttpRequest) -> HttpResponse:
    """For the launcher: who has authenticated since the start or the last reset, and how."""
    provider = _controlled(request)
    return JsonResponse({"authentications": [asdict(each) for each in provider.state.recorded_authentications()]})


@csrf_exempt
@require_POST
def id_token_for(request: HttpRequest) -> HttpResponse:
    """For the launcher: an ID token for an application, with claims that it was given."""
    provider = _controlled(request)
    client: Client = _about(provider, request)["client"]
    key = provider.keys.signing(client)
    header = {"alg": client.id_token_signed_response_alg, "kid": key.kid}
    return HttpResponse(sign(header, json.loads(request.body), key), content_type="text/plain")


@csrf_exempt
@require_POST
def logout_token_for(request: HttpRequest) -> HttpResponse:
    """For the launcher: a logout token for an application, about a person or a session."""
    provider = _controlled(request)
    return HttpResponse(logout_token(provider, **_about(provider, request)), content_type="text/plain")


@csrf_exempt
@require_POST
def log_out_from(request: HttpRequest) -> HttpResponse:
    """For the launcher: send one."""
    provider = _controlled(request)
    return HttpResponse(str(log_out(provider, **_about(provider, request))), content_type="text/plain")


@require_GET
def recorded_logouts(request: HttpRequest) -> HttpResponse:
    """For the launcher: the logout tokens that were sent since the start or the last reset, and how they fared."""
    provider = _controlled(request)
    return JsonResponse({"logouts": [asdict(each) for each in provider.state.recorded_logouts()]})


def _about(provider: Provider, request: HttpRequest) -> dict[str, Any]:
    client = provider.clients.get(request.GET.get("client_id", ""))
    if client is None:
        raise Http404
    return {"client": client.client, "sub": request.GET.get("sub", ""), "sid": request.GET.get("sid", "")}


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """What a form without its CSRF token is answered."""
    return _page(
        request,
        "error",
        {"heading": "This form cannot be used any more", "detail": reason or "Open the page again."},
        status=403,
    )


# Shared steps


def _advance(provider: Provider, interaction: Interaction, session: Session | None) -> HttpResponse:
    """Do what comes next in this interaction: show a page, refuse, or answer."""
    if session is not None and session.sid != interaction.sid:
        session = None
    step = provider.next_step(provider.asked(interaction.parameters), _known(interaction, session))
    if step is Step.LOGIN_REQUIRED:
        return _refuse(provider, interaction, LoginRequiredError())
    if step is Step.INTERACTION_REQUIRED:
        return _refuse(provider, interaction, InteractionRequiredError())
    if step is Step.UNMET:
        return _refuse(provider, interaction, UnmetAuthenticationRequirementsError())
    if session is not None and step is Step.DONE:
        return _answer(provider, interaction, session, _known(interaction, session))
    page = {Step.CHOOSE_ACCOUNT: "choose_account", Step.SECOND_FACTOR: "second_factor"}
    provider.state.interactions.put(interaction.key, interaction)
    return HttpResponseRedirect(reverse(page.get(step, "sign_in"), args=[interaction.key]))


def _go_on(provider: Provider, interaction: Interaction, session: Session, **changes: Any) -> HttpResponse:
    return _advance(provider, replace(interaction, **changes), session)


def _known(interaction: Interaction, session: Session | None) -> Known:
    return Known(
        auth_time=None if session is None else session.auth_time,
        signed_in_here=interaction.signed_in_here,
        chosen_here=interaction.chosen_here,
    )


def _signed_in(request: HttpRequest, interaction: Interaction, before: Session | None, user: User) -> HttpResponse:
    """The password was right: a new session under a new cookie, then on."""
    provider = provider_of(request)
    provider.state.sessions.take(request.COOKIES.get(SESSION_COOKIE, ""))
    again = before is not None and before.user == user
    if before is not None and not again:
        session_ended(provider, before)
    session = Session(
        sid=before.sid if before is not None and again else secrets.token_urlsafe(16),
        user=user,
        auth_time=provider.clock(),
    )
    cookie = secrets.token_urlsafe(32)
    provider.state.sessions.put(cookie, session)
    response = _go_on(provider, interaction, session, sid=session.sid, signed_in_here=True)
    response.set_cookie(SESSION_COOKIE, cookie, httponly=True, samesite="Lax")
    return response


def _send_push(provider: Provider, interaction: Interaction, user: User) -> HttpResponse:
    # One question at a time: the one before, if any, can no longer be approved.
    provider.state.pushes.take(interaction.push or "")
    question = Push.to(user, _application(provider, interaction), _waiting(provider, user))
    provider.state.pushes.put(question.key, question)
    provider.state.interactions.put(interaction.key, replace(interaction, push=question.key))
    return HttpResponseRedirect(reverse("push", args=[interaction.key]))


def _answer_push(provider: Provider, user: User, request: HttpRequest) -> str:
    question = provider.state.pushes.get(request.POST.get("push", ""))
    if question is None or question.user != user or not question.waits:
        return "gone"
    status: Any = "denied"
    if "approve" in request.POST:
        # A wrong number ends it: with three to choose from, a second try would be half a proof.
        right = request.POST.get("number") == str(question.number)
        status = "approved" if right else "mismatch"
    answered = provider.state.pushes.replace(question.key, question, replace(question, status=status))
    return status if answered else "gone"


def _waiting(provider: Provider, user: User) -> list[Push]:
    """What the phone of this person is asked, the newest last."""
    return [each for each in provider.state.pushes.values() if each.user == user and each.waits]


def _finish(provider: Provider, interaction: Interaction, session: Session) -> HttpResponse:
    """The second factor was proved."""
    known = replace(_known(interaction, session), factor_here=True)
    return _answer(provider, interaction, session, known)


def _answer(provider: Provider, interaction: Interaction, session: Session, known: Known) -> HttpResponse:
    provider.state.interactions.take(interaction.key)
    provider.state.pushes.take(interaction.push or "")
    asked = provider.asked(interaction.parameters)
    return provider.answer(
        _asking(provider, interaction),
        Authentication(
            user=session.user, sid=session.sid, auth_time=session.auth_time, proved=provider.proved(asked, known)
        ),
    )


def _refuse(provider: Provider, interaction: Interaction, error: OAuth2Error) -> HttpResponse:
    provider.state.interactions.take(interaction.key)
    provider.state.pushes.take(interaction.push or "")
    error.redirect_uri = interaction.redirect_uri
    return provider.server.refuse(_asking(provider, interaction), error)


def _asking(provider: Provider, interaction: Interaction) -> AuthenticationRequest:
    datalist = {name: [value] for name, value in interaction.parameters.items()}
    # Whether it had to be pushed or signed was asked when it came.
    return AuthenticationRequest(provider.issuer, datalist, pushed=True, signed=True)


def _session(request: HttpRequest) -> Session | None:
    return provider_of(request).state.sessions.get(request.COOKIES.get(SESSION_COOKIE, ""))


def _interaction(request: HttpRequest, key: str) -> Interaction | None:
    """The interaction, if it was begun in this browser and is still open."""
    interaction = provider_of(request).state.interactions.get(key)
    browser = request.COOKIES.get(BROWSER_COOKIE, "")
    if interaction is None or not _same(interaction.browser, browser):
        return None
    return interaction


def _signed_in_interaction(request: HttpRequest, key: str) -> tuple[Interaction | None, Session | None]:
    """The interaction, and the session it goes on with, unless that has ended meanwhile or needs a password again."""
    provider = provider_of(request)
    interaction = _interaction(request, key)
    session = _session(request)
    if interaction is None or session is None or session.sid != interaction.sid:
        return interaction, None
    step = provider.next_step(provider.asked(interaction.parameters), _known(interaction, session))
    return interaction, session if step is Step.SECOND_FACTOR else None


def _fits_hint(provider: Provider, asking: AuthenticationRequest, session: Session) -> bool:
    """Whether `id_token_hint` is about the person who is signed in, or about nobody we know."""
    hinted = provider.hinted_user(asking.payload.data.get("id_token_hint", ""))
    return hinted is None or hinted == session.user


def _expected_username(provider: Provider, interaction: Interaction, session: Session | None) -> str:
    hinted = provider.hinted_user(interaction.parameters.get("id_token_hint", ""))
    if "login_hint" in interaction.parameters:
        return interaction.parameters["login_hint"]
    someone = hinted or (session and session.user)
    return someone.username if someone else ""


def _application(provider: Provider, interaction: Interaction) -> str:
    return provider.clients[interaction.parameters["client_id"]].client.display_name


def _same(expected: str, given: str) -> bool:
    return secrets.compare_digest(expected.encode(), given.encode())


def _controlled(request: HttpRequest) -> Provider:
    provider = provider_of(request)
    given = request.headers.get("X-Stepup-Control", "")
    if not provider.control_secret or not _same(provider.control_secret, given):
        raise Http404
    return provider


def _expired(request: HttpRequest) -> HttpResponse:
    return _page(
        request,
        "error",
        {
            "heading": "This page has expired",
            "detail": "It was used already, waited too long, or belongs to another browser. "
            "Go back to the application and start again.",
        },
        status=410,
    )


def _page(
    request: HttpRequest,
    name: str,
    context: dict[str, Any],
    redirect_uri: str | None = None,
    *,
    status: int = 200,
) -> HttpResponse:
    """One page. Browsers apply `form-action` to the redirects after a form too, so where a form leads back to an
    application, its origin is let through."""
    response = render(request, f"stepup_provider/{name}.html", context, status=status)
    if redirect_uri:
        response["Content-Security-Policy"] = content_security_policy(origin(redirect_uri))
    return response


def _file(name: str, content_type: str) -> HttpResponse:
    response = HttpResponse(_content(name), content_type=content_type)
    response["Cache-Control"] = "max-age=600"
    return response


@cache
def _content(name: str) -> bytes:
    return (Path(__file__).parent / "static" / "stepup_provider" / name).read_bytes()
