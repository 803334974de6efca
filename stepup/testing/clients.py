"""Test clients that sign in, step up, and go to the provider and back.

They sign in through the site's own backend and callback view, with all their hooks, from where the provider has
answered and its ID token was verified. What comes before that is left out; :meth:`StepUpClient.step_up` goes through
all of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from importlib import import_module
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.contrib import auth
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.test import AsyncClient, Client, RequestFactory
from django.utils.module_loading import import_string

from stepup import challenge, clock, conf, gate, renewal, session, statements
from stepup.assurance import Evidence, Requirement
from stepup.backends import StepUpBackend, VerifiedLogin
from stepup.models import Identity
from stepup.session import Pending
from stepup.testing import op, tokens
from stepup.testing.challenges import asked_by, request_of
from stepup.testing.driver import Factor, Person
from stepup.testing.site import earlier
from stepup.views import AuthenticationCallbackView

__all__ = ["AsyncStepUpClient", "StepUpClient"]

#: What a round trip is made of, at most: redirects within the site, ways to the provider, and pages of the site's own.
MOST_STEPS = 20

#: Signs ID tokens that nobody verifies any more: those of sites that keep them.
_SECRET = "signs what was verified before it was made"  # noqa: S105 - of no use to anybody


#: The steps of a round trip. Each is a test client's arguments for a request or, as text, the address of a page of the
#: site's own, on which the test does what a person does there; to each the response is sent, and the last is the page.
Trip = Generator[dict[str, Any] | str, Any, Any]


class _Browser:
    """What both clients do, in code that waits."""

    cookies: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: By their names there, the people who have been to the provider with this browser.
        self._people: dict[tuple[str, str], Person] = {}

    def _request(self) -> HttpRequest:
        """A request of this browser, with its session and user."""
        request = RequestFactory().get("/", {"code": "what the provider sends"})
        name, engine = django_settings.SESSION_COOKIE_NAME, import_module(django_settings.SESSION_ENGINE)
        cookie = self.cookies.get(name)
        request.session = engine.SessionStore(cookie.value if cookie else None)
        if cookie:
            request.COOKIES[name] = cookie.value
        request.user = auth.get_user(request)
        return request

    def _evidence(self) -> Evidence | None:
        return session.evidence(self._request())

    def _sign_in(self, user: Any, age: float, claims: Mapping[str, Any]) -> Any:
        return self._come_back(self._request(), user, None, age, claims, "")[0]

    def _elevate(self, needs: gate.Needs, user: Any, age: float, claims: Mapping[str, Any], path: str) -> Any:
        request = self._request()
        requirement = gate.resolve(request, needs)
        at_provider = [part for part in requirement.parts if not part.step_up_url]
        pages = dict.fromkeys(part.step_up_url for part in requirement.parts if part.step_up_url)
        if pages:  # as in production they come first, for somebody who is signed in
            proving = {"amr", "acr", "auth_time"}.union(*(part.claims for part in requirement.parts))
            said = {claim: value for claim, value in claims.items() if claim not in proving}
            if said or not request.user.is_authenticated or user not in (None, request.user):
                user, _ = self._come_back(request, user, None, age, said, path)
            user = user or request.user
        for page in pages:
            there = Requirement.all_of(*(part for part in requirement.parts if part.step_up_url == page))
            stated = {} if at_provider else {claim: value for claim, value in claims.items() if claim in proving}
            self._state(there, age, {**proof_of(there), **stated}, path)
        if at_provider:
            with_proof = {**proof_of(Requirement.all_of(*at_provider)), **claims}
            user, view = self._come_back(self._request(), user, requirement, age, with_proof, path)
            if not view.is_satisfied:
                raise _unproved(requirement, with_proof)
        return user

    def _state(self, requirement: Requirement, age: float, said: Mapping[str, Any], path: str) -> None:
        """Do as a page of the site's own does, to which somebody was sent for this requirement, `age` seconds ago."""
        request, settings, given = self._request(), conf.current(), tokens.present(said)
        with earlier(age):
            auth_time = given.pop("auth_time", clock.now())
            values = {claim: [value] if isinstance(value, str) else value for claim, value in given.items()}
            amr, acr = values.pop("amr", ()), values.pop("acr", ())
            session.may_go(request, requirement, challenge.path_of(request, path), settings, now=clock.now())
            evidence = statements.record(request, amr=amr, acr=acr, claims=values, auth_time=auth_time)
            if settings.enforced and not settings.judge(evidence, requirement, now=clock.now()):
                raise _unproved(requirement, said)
        self._keep(request)

    def _record(self, age: float, said: Mapping[str, Any]) -> Evidence:
        request = self._request()
        with earlier(age):
            evidence = statements.record(request, **said)
        self._keep(request)
        return evidence

    def _come_back(
        self,
        request: HttpRequest,
        user: Any,
        requirement: Requirement | None,
        age: float,
        claims: Mapping[str, Any],
        path: str,
    ) -> tuple[Any, AuthenticationCallbackView]:
        """What the backend and the callback view make of an ID token of these claims, `age` seconds ago."""
        if user is None and "sub" not in claims:
            user = request.user if request.user.is_authenticated else new_user()
        subject = claims["sub"] if user is None else link(user, claims.get("sub", ""))
        if request.user.is_authenticated and not _is_same(request.user, user, subject):
            self._leave(request)
        with earlier(age):
            said = tokens.present({**tokens.claims(sub=subject), **(_profile(user) if user else {}), **claims})
            view = _callback_view(request)
            view.pending = pending = Pending(
                state="",
                nonce="",
                code_verifier=None,
                next=path,
                requirement=requirement,
                user=str(request.user.pk) if request.user.is_authenticated else None,
                started=clock.now(),
            )
            view.saved = session.snapshot(request.session)
            path, backend = _backend(said)
            user = backend.authenticate(request, nonce=pending.nonce)
            user.backend = path
            login: VerifiedLogin = user.stepup_login
            view._accept(request, pending, user, login, session.changed_since(request.session, view.saved))
        if session.login_pk(request.session) != str(user.pk):
            raise AssertionError(f"{user} could not be signed in: the provider has ended their session.")
        if age:
            # A session that is in use has been renewed since.
            renewal.begin(request, login)
        self._keep(request)
        return user, view

    def _leave(self, request: HttpRequest) -> None:
        """Sign out whoever is signed in: no sign-in puts another in their place."""
        auth.logout(request)
        request.user = AnonymousUser()

    def _keep(self, request: HttpRequest) -> None:
        store: SessionBase = request.session
        store.save()
        name = django_settings.SESSION_COOKIE_NAME
        self.cookies[name] = store.session_key
        self.cookies[name].update(
            {
                "path": django_settings.SESSION_COOKIE_PATH,
                "domain": django_settings.SESSION_COOKIE_DOMAIN or "",
                "secure": django_settings.SESSION_COOKIE_SECURE or "",
            }
        )

    def _round_trip(
        self, response: Any, username: str, factor: Factor | None, choices: Mapping[str, bool], *, own: bool
    ) -> Trip:
        """Gives the addresses on the site to ask for, and takes the responses. Returns the last one.

        The provider is gone to once; where the test says what is done on a page of the site's `own`, as often as the
        site sends the browser there.
        """
        op.follow()  # a test may have changed settings by any means
        if asked_by(response) is None:
            raise AssertionError(_no_challenge(response))
        has_been_there, page = False, ""
        for _ in range(MOST_STEPS):
            here = request_of(response).build_absolute_uri()
            asked = asked_by(response) if own or not has_been_there else None
            if asked is not None and asked.page and not own:
                raise AssertionError(_no_challenge(response))
            if url := _within(response, here):
                # That page may first send the browser elsewhere, to sign in: it stays the page that was meant.
                page = page or (asked.page if asked is not None else "")
                response = yield _address(url)
            elif asked is not None and asked.start:
                response = yield _address(urljoin(here, asked.start))
            elif asked is not None and "Location" not in response:
                raise AssertionError("The challenge has no body to say where it leads to: ask for the page with GET.")
            elif asked is not None:
                back = self._walk(response["Location"], username, factor, choices)
                response, has_been_there = (yield _address(back)), True  # the callback, with a code or an error
            elif page:
                there, page = page, ""
                response = yield there
            else:
                break
        return response

    def _walk(self, url: str, username: str, factor: Factor | None, choices: Mapping[str, bool]) -> str:
        """Do at the provider what its pages ask for. Returns where it sends the browser."""
        provider = op.in_use
        if provider is None or not url.startswith(provider.issuer):
            raise AssertionError(
                f"The challenge leads to {urlsplit(url).netloc}, which is no provider of this test. "
                'It needs the fixture "stepup_provider", or its marker.'
            )
        if not username:
            user = self._request().user
            username = op.know(provider, user, link(user)) if isinstance(user, AbstractBaseUser) else "anna"
        key = (provider.issuer, username)
        if key not in self._people:
            known = {each.username: each.password for each in provider.configuration.users}
            self._people[key] = Person(username, known.get(username, f"{username}-password"))
        return self._people[key].authenticate(url, factor=factor, **choices)


class StepUpClient(_Browser, Client):
    """Django's test client, that can also sign in through the backend, be elevated, and step up at the provider."""

    def sign_in(self, user: Any = None, *, age: float = 0, **claims: Any) -> Any:
        """Sign in through :class:`~stepup.backends.StepUpBackend`, with an ID token that has these claims.

        >>> client.sign_in(user, amr=["pwd"])  # doctest: +SKIP

        Args:
            user: by default whoever is signed in already, or else a new one. Somebody else is signed out first.
            age: how many seconds ago that was: ``auth_time``, unless it is among the claims.
            claims: such as ``amr`` or ``acr``, or what the site's backend looks for; by default there is no proof of
                anything but the time, and what the user is called. ``ABSENT`` of ``stepup.testing.tokens`` leaves
                one out. With ``sub`` and no user, it is for the backend to find an account or to make one.

        Returns:
            The user, as the backend has found them.

        Raises:
            AccountRefused: the backend does not let them sign in, because they are not active for instance.
        """
        return self._sign_in(user, age, claims)

    def elevate(
        self, needs: gate.Needs = "mfa", *, user: Any = None, age: float = 0, path: str = "", **claims: Any
    ) -> Any:
        """Have the session prove a requirement. Whoever is not signed in is signed in by that.

        >>> client.elevate("mfa", age=60)  # doctest: +SKIP

        Args:
            needs: what a door may be given.
            user: as for :meth:`sign_in`.
            age: how many seconds ago it was proved.
            path: the page that it was proved for. A ``max_age`` of 0 is satisfied for one showing of that page.
            claims: in place of those, or beside those, that prove the requirement.

        What is proved on a page of the site's own (``step_up_url``) is stated as that page would with
        :func:`~stepup.statements.record`; the provider says nothing of it.

        Returns:
            The user.

        Raises:
            AccountRefused: as for :meth:`sign_in`.
            AssertionError: with these claims it is not proved.
        """
        return self._elevate(needs, user, age, claims, path)

    def record(
        self,
        *,
        amr: Iterable[str] = (),
        acr: Iterable[str] = (),
        claims: Mapping[str, Iterable[str]] | None = None,
        age: float = 0,
    ) -> Evidence:
        """State what the site has verified itself, as its own page would with :func:`~stepup.statements.record`.

        >>> client.record(amr=["otp"])  # doctest: +SKIP

        Args:
            amr, acr, claims: as :func:`~stepup.statements.record` takes them.
            age: how many seconds ago that was.

        Returns:
            All that is proved in the session, this included.

        Raises:
            StatementRefused: nobody is signed in.
            TypeError, ValueError: as from :func:`~stepup.statements.record`.
        """
        return self._record(age, {"amr": amr, "acr": acr, "claims": claims})

    def step_up(
        self,
        response: Any,
        username: str = "",
        *,
        factor: Factor | None = "push",
        own: Callable[[StepUpClient, str], Any] | None = None,
        **choices: bool,
    ) -> Any:
        """Follow a challenge to the provider of the test and back, doing what its pages ask for.

        >>> page = client.step_up(client.get("/salary/"))  # doctest: +SKIP
        >>> page = client.step_up(client.get("/code/"), own=lambda client, url: client.post(url, {"code": "1"}))
        ... # doctest: +SKIP

        Args:
            response: the challenge: a redirect to the provider, or an answer for scripts, htmx or forms. With ``own``
                also a redirect to a page of the site's own.
            username: who does it. By default whoever is signed in here, and ``"anna"`` where nobody is.
            factor: ``"push"``, ``"totp"``, or ``None`` for somebody who has no second factor at hand.
            own: what to do on a page of the site's own (``step_up_url``). It is called with this client and the page's
                address, ``next`` included, as soon as the page is there, and returns the response, from which it goes
                on. Where signing in comes before, or the provider afterwards, that is gone through too.
            choices: ``deny=True``, to deny on the phone; ``cancel=True``, to press "Cancel".

        Returns:
            The page at the end: the one that was asked for, or the one that says why not. Of a form that was kept it is
            the page that shows it; ``client.post(page.context["action"])`` is the button there.

        Raises:
            AssertionError: the response is no challenge, or leads to a page of the site's own and there is no ``own``.
            ConfigurationError: the provider of the test cannot serve a site with the settings as they are now.
            StuckError: the person cannot go on; the message names the page.
        """
        trip = self._round_trip(response, username, factor, choices, own=own is not None)
        step, page = _next(trip)
        while step is not None:
            answer = own(self, step) if own is not None and isinstance(step, str) else self.get(**step)
            step, page = _next(trip, answer)
        return page

    def evidence(self) -> Evidence | None:
        """What has been proved in this session about its user; ``None`` for nothing."""
        return self._evidence()


class AsyncStepUpClient(_Browser, AsyncClient):
    """The same for asynchronous tests. What the other does is awaited here: ``await client.elevate("mfa")``."""

    async def sign_in(self, user: Any = None, *, age: float = 0, **claims: Any) -> Any:
        """As :meth:`StepUpClient.sign_in`."""
        return await sync_to_async(self._sign_in)(user, age, claims)

    async def elevate(
        self, needs: gate.Needs = "mfa", *, user: Any = None, age: float = 0, path: str = "", **claims: Any
    ) -> Any:
        """As :meth:`StepUpClient.elevate`."""
        return await sync_to_async(self._elevate)(needs, user, age, claims, path)

    async def record(
        self,
        *,
        amr: Iterable[str] = (),
        acr: Iterable[str] = (),
        claims: Mapping[str, Iterable[str]] | None = None,
        age: float = 0,
    ) -> Evidence:
        """As :meth:`StepUpClient.record`."""
        return await sync_to_async(self._record)(age, {"amr": amr, "acr": acr, "claims": claims})

    async def step_up(
        self,
        response: Any,
        username: str = "",
        *,
        factor: Factor | None = "push",
        own: Callable[[AsyncStepUpClient, str], Awaitable[Any]] | None = None,
        **choices: bool,
    ) -> Any:
        """As :meth:`StepUpClient.step_up`. What ``own`` returns is awaited."""
        trip = self._round_trip(response, username, factor, choices, own=own is not None)
        step, page = await sync_to_async(_next)(trip)
        while step is not None:
            answer = own(self, step) if own is not None and isinstance(step, str) else self.get(**step)
            step, page = await sync_to_async(_next)(trip, await answer)
        return page

    async def evidence(self) -> Evidence | None:
        """As :meth:`StepUpClient.evidence`."""
        return await sync_to_async(self._evidence)()


def _no_challenge(response: Any) -> str:
    said = f"Status {response.status_code} is no challenge: there is nothing to step up for at the provider."
    location = response.headers.get("Location", "")
    if not location or urlsplit(location).netloc:
        return said
    return (
        f"{said} It leads to {location.partition('?')[0]}. Where that is a page of the site's own (step_up_url), say "
        "with own= what a person does there, or state it with record()."
    )


def _unproved(requirement: Requirement, claims: Mapping[str, Any]) -> AssertionError:
    name = requirement.name or "the requirement"
    return AssertionError(f"These claims do not satisfy {name}: {tokens.present(claims)}")


def link(user: Any, subject: str = "") -> str:
    """The subject that stands for a user at the provider. Where there is none, this one, or one that is made up."""
    issuer = conf.current().issuer
    known = Identity.objects.filter(issuer=issuer, user=user).first()
    if known is None:
        subject = subject or f"stepup|{user.get_username()}"[:255]
        known = Identity.objects.create(issuer=issuer, user=user, subject=subject)
    found: str = known.subject
    return found


def proof_of(requirement: Requirement) -> dict[str, Any]:
    """Claims that prove a requirement, as a provider would send them that was asked for it."""
    proof: dict[str, dict[str, None]] = {}
    for part in requirement.parts:
        proof.setdefault("amr", {}).update(dict.fromkeys(part.amr))
        proof.setdefault("acr", {}).update(dict.fromkeys((part.acr or part.acr_values)[:1]))
        for claim, values in part.claims.items():
            proof.setdefault(claim, {}).update(dict.fromkeys(values[:1]))
    said: dict[str, Any] = {claim: list(values) for claim, values in proof.items() if values}
    if len(said.get("acr", ())) == 1:
        (said["acr"],) = said["acr"]
    return said


def new_user() -> Any:
    """A user, where a test has named none.

    Raises:
        AssertionError: the site's model wants more than a name and an address.
    """
    from stepup.testing.factories import UserFactory  # brings factory-boy, for those who leave it to us

    try:
        return UserFactory.create()
    except Exception as error:  # each model and database has errors of its own
        raise AssertionError(f"No user could be made, so that the test has to give one: {error!r}") from error


class _VerifiedAlready(StepUpBackend):
    """Has claims where others have to ask the provider. It stands below the site's own backend, so that its hooks are
    asked."""

    said: Mapping[str, Any]

    def get_token(self, payload: dict[str, Any]) -> dict[str, Any]:
        if op.in_use is None:
            id_token = tokens.sign(self.said, "HS256", key=_SECRET)
        else:  # which gets it back from sites that keep it, and has to recognize it
            id_token = op.in_use.id_token(conf.current().client_id, self.said)
        return {"access_token": "an access token", "id_token": id_token}

    def verify_token(self, token: Any, **kwargs: Any) -> dict[str, Any]:
        return dict(self.said)

    def get_userinfo(self, access_token: str, id_token: str, payload: dict[str, Any]) -> dict[str, Any]:
        return dict(self.said)


def _backend(said: Mapping[str, Any]) -> tuple[str, StepUpBackend]:
    """The site's backend, by the name that it has in the settings, and one that is it and knows these claims."""
    for path in django_settings.AUTHENTICATION_BACKENDS:
        site = import_string(path)
        if isinstance(site, type) and issubclass(site, StepUpBackend):
            bases = (_VerifiedAlready,) if site is StepUpBackend else (site, _VerifiedAlready)
            return path, type(site.__name__, bases, {"said": said})()
    raise AssertionError("AUTHENTICATION_BACKENDS has no StepUpBackend, nor a sub-class of it.")


def _is_same(signed_in: Any, user: Any, subject: str) -> bool:
    """Whether the user who is signed in is the one who comes or, where that is open, whom the subject stands for."""
    if user is not None:
        return bool(signed_in.pk == user.pk)
    return bool(Identity.objects.filter(issuer=conf.current().issuer, subject=subject, user=signed_in.pk).exists())


def _profile(user: Any) -> dict[str, Any]:
    """What a provider that knows a user says about them (OpenID Connect Core 1.0, section 5.1)."""
    email = getattr(user, user.get_email_field_name(), "") or ""
    names = {"given_name": getattr(user, "first_name", ""), "family_name": getattr(user, "last_name", "")}
    return {"email": email, "email_verified": True, **{claim: name for claim, name in names.items() if name}}


def _callback_view(request: HttpRequest) -> AuthenticationCallbackView:
    view_class = import_string(conf.current().callback_class)
    if not issubclass(view_class, AuthenticationCallbackView):
        view_class = AuthenticationCallbackView
    view: AuthenticationCallbackView = view_class()
    view.setup(request)
    return view


def _next(trip: Trip, response: Any = None) -> tuple[Any, Any]:
    """The next step; or None, and the page at the end."""
    try:
        return trip.send(response), None
    except StopIteration as end:
        return None, end.value


def _address(url: str) -> dict[str, Any]:
    """What a test client is told to ask for a URL of the site."""
    parts = urlsplit(url)
    address: dict[str, Any] = {"path": urlunsplit(("", "", *parts[2:])), "secure": parts.scheme == "https"}
    if parts.netloc != op.TEST_HOST:
        address["headers"] = {"host": parts.netloc}
    return address


def _within(response: Any, back: str) -> str:
    """Where a response leads to on the site; empty where it leads nowhere, or elsewhere."""
    if not 300 <= response.status_code < 400 or "Location" not in response:
        return ""
    url = urljoin(back, response["Location"])
    return url if urlsplit(url)[:2] == urlsplit(back)[:2] else ""
