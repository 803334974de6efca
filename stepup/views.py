"""The round trip: the view that sends the browser to the OP, and the callback that it comes back to."""

from __future__ import annotations

import logging
from typing import Any

from django.contrib import auth
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.utils.decorators import method_decorator
from django.utils.functional import cached_property
from django.views.decorators.debug import sensitive_variables
from mozilla_django_oidc.views import OIDCAuthenticationCallbackView, OIDCAuthenticationRequestView

from stepup import challenge, clock, conf, gate, kept, links, provider, renewal, session, signals, turns, verdicts
from stepup.assurance import Evidence, Requirement
from stepup.backends import VerifiedLogin
from stepup.exceptions import AccountRefused, ClaimError, ProviderError, TokenRequestRefused, WrongUser
from stepup.id_token import UnknownKey
from stepup.session import Pending
from stepup.sign_out import BackChannelLogoutView, FrontChannelLogoutView, LogoutView, SignedOutView
from stepup.verdicts import Verdict

__all__ = [
    "AuthenticationCallbackView",
    "AuthenticationRequestView",
    "BackChannelLogoutView",
    "FrontChannelLogoutView",
    "LogoutView",
    "SignedOutView",
]

logger = logging.getLogger("stepup")

#: What the OP's error responses come to (RFC 6749, 4.1.2.1; OpenID Connect Core 1.0, 3.1.2.6; Unmet Authentication
#: Requirements 1.0). Any other means that something about the request was not right.
ERRORS = {
    "access_denied": Verdict.DECLINED,
    "unmet_authentication_requirements": Verdict.UNMET,
    "interaction_required": Verdict.UNMET,
    "login_required": Verdict.UNMET,
    "account_selection_required": Verdict.UNMET,
    "consent_required": Verdict.UNMET,
    "server_error": Verdict.UNAVAILABLE,
    "temporarily_unavailable": Verdict.UNAVAILABLE,
}

#: For how long after an authentication request went out what was proved since is fresh in any case, in seconds.
LONGEST_TRIP = 120

#: Verdicts after which another try has the OP authenticate the user anew, instead of answering from its memory.
ASK_HARDER = frozenset({Verdict.IGNORED, Verdict.STALE, Verdict.PROOF_MISSING, Verdict.UNMET})


#: Verdicts by which an attempt has come to nothing: those on an answer that was accepted, and those on any other. One
#: that the OP did not answer is nobody's fault, and costs nobody an attempt.
IN_VAIN = frozenset({Verdict.IGNORED, Verdict.STALE, Verdict.PROOF_MISSING})
IN_VAIN_UNACCEPTED = frozenset({Verdict.DECLINED, Verdict.UNMET, Verdict.WRONG_USER, Verdict.INVALID})


@method_decorator(login_not_required, name="dispatch")
class AuthenticationRequestView(OIDCAuthenticationRequestView):
    """Starts a sign-in or, with ``?stepup=NAME``, a step-up. ``?next=`` says where to go afterwards.

    With ``?kept=ID`` it shows a form that was kept until after the step-up and, on POST, forgets it.

    A sub-class may override `get_extra_params(request)`; what it returns goes with every authentication request, those
    that a protected page makes included.
    """

    http_method_names = ["get", "post"]  # noqa: RUF012 - the base class's

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Not the base class's, which wants the endpoints in the settings.
        super(OIDCAuthenticationRequestView, self).__init__(*args, **kwargs)

    @cached_property
    def OIDC_OP_AUTH_ENDPOINT(self) -> str:  # noqa: N802 - the base class's names
        return provider.current().endpoint("authorization_endpoint")

    @cached_property
    def OIDC_RP_CLIENT_ID(self) -> str:  # noqa: N802
        return conf.current().client_id

    def get_extra_params(self, request: HttpRequest) -> dict[str, Any]:
        """Further parameters for the authentication request: those of `OIDC_AUTH_REQUEST_EXTRA_PARAMS`.

        A copy, to which an override may add. The base class hands out the settings dictionary itself.
        """
        return dict(conf.current().extra_params)

    def get(self, request: HttpRequest) -> HttpResponse:
        if kept.is_shown_by(request):
            return self._kept(request)
        next_url = request.GET.get(conf.current().redirect_field_name, "")
        try:
            requirement = challenge.requirement_from(request)
        except ValueError:
            reasons = ["requirement: unknown"]
            return verdicts.page(request, Verdict.EXPIRED, user=request.user, reasons=reasons)
        return challenge.authentication_request(
            request, requirement=requirement, next_url=next_url, again=challenge.AGAIN_PARAM in request.GET
        )

    @staticmethod
    def _kept(request: HttpRequest) -> HttpResponse:
        """The page of a kept form, for whoever satisfies what the form waits for."""
        form = kept.to_show(request)
        if isinstance(form, HttpResponse):
            return form
        refusal = gate.check(request, form.requirement) if form.requirement is not None else None
        return refusal or kept.page(request, form)

    def post(self, request: HttpRequest) -> HttpResponse:
        return kept.discard(request) if kept.PARAM in request.GET else HttpResponseNotAllowed(["GET"])


@method_decorator(login_not_required, name="dispatch")
class AuthenticationCallbackView(OIDCAuthenticationCallbackView):
    """Judges what came back from the OP: a page shown, or a page that says why not. Nobody is signed out here.

    A sub-class may override `login_success()`, `login_failure()` and `success_url`, as in the base class.
    """

    user: Any
    pending: Pending | None = None
    failure: HttpResponse
    saved: dict[str, Any]
    is_satisfied = False

    @property
    def success_url(self) -> str:
        """Where to go after success: where this very authentication request was meant to lead."""
        return challenge.safe_next(self.request, self.pending.next if self.pending else None)

    def login_success(self) -> HttpResponse:
        return HttpResponseRedirect(self.success_url)

    def login_failure(self) -> HttpResponse:
        return self.failure

    def get(self, request: HttpRequest) -> HttpResponse:
        return verdicts.private(self._answer(request))

    @sensitive_variables()
    def _answer(self, request: HttpRequest) -> HttpResponse:
        if any(len(request.GET.getlist(name)) > 1 for name in ("state", "code", "iss", "error")):
            # Two values are read as the first by one party and as the last by another.
            return self._fail(Verdict.INVALID, "response: duplicate parameter")
        settings = conf.current()
        self.pending = pending = session.take_pending(request, request.GET.get("state", ""), settings, now=clock.now())
        if pending is None:
            return self._fail(Verdict.EXPIRED, "state: unknown")
        if reason := self._wrong_issuer(request, settings):
            return self._fail(Verdict.INVALID, reason)
        if pending.user != _pk(request.user) and pending.user is not None:
            return self._fail(Verdict.EXPIRED, "session: another user than at the start")
        if error := request.GET.get("error"):
            return self._declined(request, pending, error)
        if not request.GET.get("code"):
            return self._fail(Verdict.INVALID, "code: missing")
        self.saved = session.snapshot(request.session)
        try:
            user = auth.authenticate(request, nonce=pending.nonce, code_verifier=pending.code_verifier)
        except (ProviderError, UnknownKey) as error:
            if pending.silent:
                # Also where it has other keys than are known: those it may have given itself a moment ago.
                session.revert(request.session, self.saved)
                return self._put_off(request, pending, str(error))
            is_down = isinstance(error, ProviderError)
            return self._undo(Verdict.UNAVAILABLE if is_down else Verdict.INVALID, str(error))
        except (ClaimError, TokenRequestRefused) as error:
            return self._undo(Verdict.INVALID, str(error))
        except WrongUser:
            return self._undo(Verdict.WRONG_USER, "sub: mismatch")
        except AccountRefused as error:
            return self._undo(Verdict.NO_ACCOUNT, str(error))
        login = getattr(user, "stepup_login", None)
        if user is None or not isinstance(login, VerifiedLogin):
            # No backend of ours is configured, or another vouched for the user: then nothing was verified here.
            return self._undo(Verdict.NO_ACCOUNT, "backend: no user")
        return self._accept(request, pending, user, login, session.changed_since(request.session, self.saved))

    @sensitive_variables()
    def _accept(
        self, request: HttpRequest, pending: Pending, user: Any, login: VerifiedLogin, by_hooks: dict[str, Any]
    ) -> HttpResponse:
        # The OP took its time. What the session has become meanwhile counts, not what it was.
        before, now = request.session, session.renewed(request.session)
        if now is None and pending.user is not None:
            return self._undo(Verdict.EXPIRED, "session: ended meanwhile")
        request.session = now if now is not None else type(before)()
        is_same = session.has_same_login(before, request.session)
        signed_in = _pk(request.user if is_same else auth.get_user(request))
        is_another_now = pending.user is not None and signed_in != pending.user
        if is_another_now or signed_in not in (None, str(user.pk)):
            request.session = before
            return self._undo(Verdict.EXPIRED, "session: another user meanwhile")

        self.user = user
        if signed_in is None:
            auth.login(request, user)  # which gives the session a new key
        else:
            request.user = user
        request.session.update(by_hooks)
        requirement, settings = pending.requirement, conf.current()
        named = settings.proof_claims | (requirement.proof_claims if requirement else frozenset())
        renewal.forget_other_session(request, login.claims, silent=pending.silent)
        known = session.read_evidence(request.session, user)
        evidence = session.record(request, user, login.claims, proof_claims=named, renewal=pending.silent)
        renewal.begin(request, login)
        login.backend.store_tokens(login.access_token, login.id_token)
        if pending.silent:
            response = self.login_success()
        else:
            received = Evidence.from_claims(login.claims, proof_claims=named)
            response = self._judge(request, pending, evidence, received)
        # Where a renewal elevates nobody, requests that are on their way with the old key need not lose it.
        keeps_key = pending.silent and known is not None and known.proofs == evidence.proofs
        former = session.rotate(request) if signed_in is not None and not keeps_key else None
        goes_on = True
        if settings.back_channel_logout:
            key = (former or request.session).session_key if signed_in is not None else None
            try:
                goes_on = links.keep(request, user, login.claims, before=key)
            except Exception as error:  # noqa: BLE001 - a session store may raise anything
                # Nothing is granted that the OP could not take back; and whoever was signed in stays so.
                if signed_in is None:
                    auth.logout(request)
                else:
                    request.session = before
                return self._undo(Verdict.UNAVAILABLE, f"sessions: {type(error).__name__}")
            if not goes_on:
                response = self._ended(request, settings)
        if former is not None:
            with turns.writing(former, settings):
                former.delete()
        if self.is_satisfied:
            self._announce(request, requirement, evidence)
        elif pending.silent and goes_on:
            renewal.note_success(request)
        return response

    def _ended(self, request: HttpRequest, settings: conf.Settings) -> HttpResponse:
        """The OP has ended the session there while the answer was on its way here."""
        self.is_satisfied = False
        if settings.back_channel_logout == "lower":
            session.lower(request.session)
        else:
            auth.logout(request)
        return self._fail(Verdict.EXPIRED, "session: ended by the provider meanwhile")

    def _announce(self, request: HttpRequest, requirement: Requirement | None, evidence: Evidence) -> None:
        logger.info(
            "Step-up satisfied: %s",
            _name(requirement) or "sign-in",
            extra={"event": "elevated", "requirement": _name(requirement), "user_pk": self.user.pk},
        )
        signals.elevated.send_robust(
            sender=Requirement,
            request=request,
            user=self.user,
            requirement=requirement,
            evidence=evidence,
            by="provider",
        )

    def _judge(self, request: HttpRequest, pending: Pending, evidence: Evidence, received: Evidence) -> HttpResponse:
        requirement, settings, now = pending.requirement, conf.current(), clock.now()
        if requirement is not None and settings.enforced:
            since = self._fresh_since(pending, received, now=now, leeway=settings.leeway)
            decision = settings.judge(evidence, requirement.within(now - since), now=now)
            verdict = verdicts.judge(decision, received)
            if verdict is not Verdict.SATISFIED:
                return self._fail(verdict, *map(str, decision.unmet))
            here = challenge.path_of(request, pending.next)
            session.settle(request, requirement, here, now=now, since=since)
            session.forget_attempts(request, requirement)
        self.is_satisfied = True
        return self.login_success()

    @staticmethod
    def _fresh_since(pending: Pending, received: Evidence, *, now: float, leeway: float) -> float:
        """From when on proof is fresh for the page that this request was made for, whatever its `max_age`.

        Somebody who authenticated after being asked did what was asked (OpenID Connect Core 1.0, 3.1.2.1), though the
        second factor took a while. Not longer than a while: an answer can be kept, and handed in later.
        """
        during = received.auth_time is not None and received.auth_time >= pending.started - leeway
        return pending.started if during and now - pending.started <= LONGEST_TRIP else now

    def _declined(self, request: HttpRequest, pending: Pending, error: str) -> HttpResponse:
        # The description that comes with it is not shown: the text could be anybody's.
        reason = f"error: {error if error in ERRORS else 'other'}"
        verdict = ERRORS.get(error, Verdict.INVALID)
        if not pending.silent:
            return self._fail(verdict, reason)
        if verdict is Verdict.UNAVAILABLE:
            return self._put_off(request, pending, reason)
        # It was asked behind the user's back, by us or by mozilla-django-oidc's SessionRefresh, which goes on asking
        # until a sign-in has succeeded. So the user gets the chance to.
        renewal.end(request, reason)
        return challenge.authentication_request(request, requirement=None, next_url=pending.next)

    def _put_off(self, request: HttpRequest, pending: Pending, reason: str) -> HttpResponse:
        """Nobody who is signed in has to wait for an OP that is down, for a while."""
        if renewal.put_off(request, reason):
            return HttpResponseRedirect(self.success_url)
        return challenge.authentication_request(request, requirement=None, next_url=pending.next)

    def _wrong_issuer(self, request: HttpRequest, settings: conf.Settings) -> str:
        """Why the response may be another OP's (RFC 9207, 2.4); empty where it is not."""
        issuer = request.GET.get("iss")
        if issuer is None:
            return "iss: missing" if provider.current().promises_iss() else ""
        return "" if issuer == settings.issuer else "iss: mismatch"

    def _undo(self, verdict: Verdict, *reasons: str) -> HttpResponse:
        """Fail, and take back what hooks have put on the session of somebody who is now not signed in by it."""
        session.revert(self.request.session, self.saved)
        return self._fail(verdict, *reasons)

    def _fail(self, verdict: Verdict, *reasons: str) -> HttpResponse:
        pending, retry_url, wait = self.pending, "", 0.0
        if pending is not None and pending.requirement is not None:
            self._count(verdict, pending.requirement)
            wait = challenge.seconds_to_wait(self.request, pending.requirement)
        if pending is not None and not wait and verdict not in (Verdict.EXPIRED, Verdict.NO_ACCOUNT):
            again = verdict in ASK_HARDER or verdict is Verdict.WRONG_USER
            retry_url = challenge.step_up_url(pending.requirement, pending.next, again=again)
        self.failure = verdicts.page(
            self.request,
            verdict,
            user=self.request.user,
            requirement=pending.requirement if pending else None,
            reasons=reasons,
            retry_url=retry_url,
            wait=wait,
        )
        return self.login_failure()

    def _count(self, verdict: Verdict, requirement: Requirement) -> None:
        def note() -> None:
            session.note_attempt(self.request, requirement, conf.current(), now=clock.now())

        if verdict in IN_VAIN:
            note()
        elif verdict in IN_VAIN_UNACCEPTED:
            # The session may have become another one while the OP was asked.
            session.merge(self.request, note)


def _pk(user: Any) -> str | None:
    return str(user.pk) if user.is_authenticated else None


def _name(requirement: Requirement | None) -> str:
    return requirement.name if requirement is not None else ""
