"""The end of a sign-in: here, at the OP, and here because the OP says so.

RP-Initiated Logout 1.0, Back-Channel Logout 1.0 and Front-Channel Logout 1.0, of OpenID Connect.
"""

from __future__ import annotations

import logging
import secrets
from urllib.parse import urlencode, urlsplit

from django.contrib import auth
from django.contrib.auth.decorators import login_not_required
from django.core.signing import BadSignature
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render, resolve_url
from django.urls import NoReverseMatch, get_script_prefix, reverse
from django.utils.crypto import constant_time_compare
from django.utils.decorators import method_decorator
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.generic import View
from mozilla_django_oidc.views import OIDCLogoutView

from stepup import conf, links, logout_token, provider, session, turns
from stepup.exceptions import ClaimError, ProviderError
from stepup.logout_token import Logout
from stepup.verdicts import private

__all__ = ["BackChannelLogoutView", "FrontChannelLogoutView", "LogoutView", "SignedOutView"]

logger = logging.getLogger("stepup")

#: Knows the browser again that comes back from signing out at the OP, and for how long, in seconds.
COOKIE = "stepup_signing_out"
COOKIE_MAX_AGE = 600
#: An ID token of more characters is no hint any more: the whole address has to fit into what servers take for one.
MAX_HINT_LENGTH = 4096


@method_decorator(login_not_required, name="dispatch")
class LogoutView(OIDCLogoutView):
    """Signs out, by POST: here and, with ``STEPUP["SIGN_OUT_AT_PROVIDER"]``, at the OP.

    `OIDC_OP_LOGOUT_URL_METHOD` names a function of the site's own that gives the OP's sign-out URL; it wins.
    """

    @property
    def redirect_url(self) -> str:
        """`LOGOUT_REDIRECT_URL`, which Django has as None where it is not set, and the base class cannot take."""
        return resolve_url(conf.current().logout_redirect_url or "/")

    def post(self, request: HttpRequest) -> HttpResponse:
        settings, pk = conf.current(), request.user.pk
        # Who came another way, with a password of this site, has nothing to end there.
        came_from_op = bool(session.claims(request)) or session.id_token_hint(request) is not None
        at_op = settings.sign_out_at_provider and not settings.logout_url_method and came_from_op and pk is not None
        with turns.writing(request.session, settings):
            response = self._by_way_of_op(request, settings) if at_op else super().post(request)
        is_sent = at_op and response.status_code == 302
        logger.info("Signed out", extra={"event": "signed_out", "user_pk": pk, "at_provider": is_sent})
        return private(response)

    @sensitive_variables()
    def _by_way_of_op(self, request: HttpRequest, settings: conf.Settings) -> HttpResponse:
        """Sign out here, and send the browser to the OP (RP-Initiated Logout 1.0, 2)."""
        id_token, state, pk = session.id_token_hint(request), secrets.token_urlsafe(16), request.user.pk
        # First of all, whatever becomes of the rest.
        auth.logout(request)
        try:
            endpoint = provider.current().endpoint("end_session_endpoint")
        except ProviderError as error:
            logger.warning(
                "Sign-out at the provider is not possible: %s",
                error,
                extra={"event": "sign_out_unavailable", "reasons": (str(error),), "user_pk": pk},
            )
            return _page(
                request,
                _("You are signed out of this site only"),
                _("Your sign-in service could not be reached. You may still be signed in there."),
                _("If others use this computer, sign out at your sign-in service too, or close the browser."),
            )
        back = _signed_out_path()
        query = {
            "client_id": settings.client_id,
            "post_logout_redirect_uri": request.build_absolute_uri(back or self.redirect_url),
            "state": state,
        }
        if id_token and len(id_token) <= MAX_HINT_LENGTH:
            # With it the OP knows that this very user wants to leave, and need not ask.
            query["id_token_hint"] = id_token
        response = HttpResponseRedirect(f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}")
        if back:
            response.set_signed_cookie(
                COOKIE,
                state,
                salt=COOKIE,
                max_age=COOKIE_MAX_AGE,
                path=back,
                secure=request.is_secure(),
                httponly=True,
                samesite="Lax",
            )
        return response


@method_decorator(login_not_required, name="dispatch")
class SignedOutView(View):
    """Where the OP sends the browser after signing out there. It changes nothing, whoever comes, and however."""

    http_method_names = ("get",)

    def get(self, request: HttpRequest) -> HttpResponse:
        chosen = conf.current().logout_redirect_url
        # Where sites send people after signing out may be this very page.
        if chosen and urlsplit(onwards := resolve_url(chosen)).path != request.path:
            response: HttpResponse = HttpResponseRedirect(onwards)
        elif request.user.is_authenticated:
            response = HttpResponseRedirect(get_script_prefix())
        elif self._is_from_op(request):
            happened = _("You are signed out of this site, and of your sign-in service.")
            response = _page(request, _("You are signed out"), happened)
        else:
            response = _page(request, _("You are signed out"), _("Nobody is signed in on this site in this browser."))
        response.delete_cookie(COOKIE, path=request.path, samesite="Lax")
        return private(response)

    @staticmethod
    def _is_from_op(request: HttpRequest) -> bool:
        try:
            sent = request.get_signed_cookie(COOKIE, salt=COOKIE, max_age=COOKIE_MAX_AGE)
        except (KeyError, BadSignature):
            return False
        return sent is not None and constant_time_compare(sent, request.GET.get("state", ""))


@method_decorator(
    [csrf_exempt, login_not_required, transaction.non_atomic_requests, sensitive_post_parameters("logout_token")],
    name="dispatch",
)
class BackChannelLogoutView(View):
    """Where the OP says itself that somebody has signed out (Back-Channel Logout 1.0, 2.5 to 2.8)."""

    http_method_names = ("post",)

    def dispatch(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        if conf.current().back_channel_logout is None:
            raise Http404
        return private(super().dispatch(request, *args, **kwargs))

    @sensitive_variables()
    def post(self, request: HttpRequest) -> HttpResponse:
        try:
            logout = self._verified(request)
            sessions = links.end(logout)
        except (ClaimError, ProviderError) as error:
            return self._refuse(str(error))
        except Exception as error:  # noqa: BLE001 - a session store may raise anything, and the OP has to hear of it
            return self._refuse(f"sessions: {type(error).__name__}")
        logger.info(
            "Back-channel logout: %d sessions",
            sessions,
            extra={"event": "back_channel_logout", "sessions": sessions, "mode": conf.current().back_channel_logout},
        )
        return HttpResponse()

    @staticmethod
    @sensitive_variables()
    def _verified(request: HttpRequest) -> Logout:
        given = request.POST.getlist("logout_token")
        if len(given) > 1:
            raise ClaimError("logout_token", "more than one")
        return provider.current().verified(logout_token.verify, "".join(given))

    @staticmethod
    def _refuse(reason: str) -> HttpResponse:
        logger.warning(
            "Back-channel logout refused: %s", reason, extra={"event": "back_channel_refused", "reasons": (reason,)}
        )
        return JsonResponse({"error": "invalid_request", "error_description": reason}, status=400)


@method_decorator([login_not_required, xframe_options_exempt], name="dispatch")
class FrontChannelLogoutView(View):
    """What the OP shows in a frame when somebody signs out there (Front-Channel Logout 1.0, 2).

    Anybody can make a browser ask for it. So it ends no session but that browser's own, and that only where issuer and
    `sid` are those that it came about with.
    """

    http_method_names = ("get",)

    def dispatch(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        if not conf.current().front_channel_logout:
            raise Http404
        return private(super().dispatch(request, *args, **kwargs))

    def get(self, request: HttpRequest) -> HttpResponse:
        said, user = session.claims(request), request.user
        issuer, sid = (request.GET.getlist(name) for name in ("iss", "sid"))
        if issuer == [said.get("iss")] and len(sid) == 1 and session.is_of(request, sid[0]):
            auth.logout(request)
            logger.info("Front-channel logout", extra={"event": "front_channel_logout", "user_pk": user.pk})
        # Nothing tells whether it was so: a page that frames this one learns nothing.
        return HttpResponse("<!doctype html><title>-</title>")


def _signed_out_path() -> str:
    try:
        return reverse("stepup_signed_out")
    except NoReverseMatch:
        return ""


def _page(
    request: HttpRequest, heading: Promise, what_happened: Promise, what_to_do: Promise | str = ""
) -> HttpResponse:
    context = {
        "heading": heading,
        "what_happened": what_happened,
        "what_to_do": what_to_do,
        "home_url": get_script_prefix(),
    }
    return render(request, "stepup/signed_out.html", context)
