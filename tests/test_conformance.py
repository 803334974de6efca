"""What the standards ask of a relying party and no other file proves: see `docs/reference/standards.rst`.

Each test goes the whole way, with ID tokens that are really signed and an OP over HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from django.contrib.auth import get_user_model
from django.test import Client

from stepup import clock
from stepup.models import Identity
from stepup.testing.provider.launcher import RunningProvider
from tests.hostile_op import ANNA, JWKS, TOKEN, USERINFO, Answer, HostileOP, Request, answer
from tests.tokens import ABSENT, CLIENT_SECRET, KEYS, SigningKey, claims, sign
from tests.urls import SECRET
from tests.visitor import CALLBACK, Visitor, query, with_query

PAR = "/par"
ANOTHER_OP = "https://another-op.example/"


@pytest.fixture
def hostile(settings: Any, db: None) -> Iterator[HostileOP]:
    """An OP that vouches for whomever a test names, and the site's settings pointing to it."""
    with HostileOP() as op:
        settings.STEPUP = {**settings.STEPUP, "ISSUER": op.url, "CACHE": None}
        settings.OIDC_TIMEOUT = 2
        yield op


def come_back(client: Client, op: HostileOP, path: str = "/decorated/", **vouched: Any) -> Any:
    """Open a page, and answer the authentication request with what the OP is told to vouch for."""
    challenge = client.get(path)
    assert challenge.status_code == 302, challenge.content
    return client.get(op.vouch(challenge["Location"], **vouched).removeprefix("http://testserver"))


def is_shown(client: Client, path: str = "/decorated/") -> bool:
    response = client.get(path)
    return bool(response.status_code == 200 and response.content.decode() == SECRET)


def is_signed_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def require(settings: Any, **mfa: Any) -> None:
    """Let the site define for itself what "mfa" is."""
    requirements = {"mfa": mfa, "sudo": {"max_age": 300}}
    settings.STEPUP = {**settings.STEPUP, "PROVIDER": "generic", "REQUIREMENTS": requirements}


# Authentication requests


def test_no_two_authentication_requests_share_a_secret_and_none_shows_what_proves_it(op: RunningProvider) -> None:
    """RFC 9700, 2.1.1 and RFC 7636, 4.1 and 7.1."""
    client = Client()
    urls = [client.get(path)["Location"] for path in ("/decorated/", "/class/", "/sudo/", "/oidc/authenticate/") * 4]

    for name in ("state", "nonce", "code_challenge"):
        assert len({query(url)[name] for url in urls}) == len(urls), name
    verifiers = {pending["pkce"] for pending in client.session["stepup_pending"].values()}
    assert len(verifiers) == len(urls)
    assert all(re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", verifier) for verifier in verifiers)
    assert not [url for url in urls for secret in (*verifiers, CLIENT_SECRET) if secret in url]


@pytest.fixture
def pushed(hostile: HostileOP, settings: Any) -> HostileOP:
    """The same, where authentication requests are handed over directly (RFC 9126)."""
    settings.STEPUP = {**settings.STEPUP, "PUSHED_REQUESTS": True}
    hostile.metadata["pushed_authorization_request_endpoint"] = hostile.at(PAR)
    hostile.answers[PAR] = answer({"request_uri": "urn:example:request-1", "expires_in": 60}, 201)
    return hostile


def test_of_a_pushed_request_the_browser_carries_the_name_alone(pushed: HostileOP) -> None:
    """RFC 9126, 2.1 and 4: `acr_values` and the rest cannot be changed on the way."""
    client = Client()

    sent = query(client.get("/decorated/")["Location"])

    assert sent == {"client_id": "site", "request_uri": "urn:example:request-1"}
    (handed_over,) = pushed.asked(PAR)
    assert handed_over.method == "POST"
    form = handed_over.form
    assert (form["client_id"], form["client_secret"]) == ("site", CLIENT_SECRET)
    assert (form["redirect_uri"], form["response_type"]) == (CALLBACK, "code")
    assert form["acr_values"]
    assert form["code_challenge_method"] == "S256"
    assert "request_uri" not in form
    # And what comes back is judged as ever.
    callback = pushed.vouch(f"{pushed.url}?{urlencode(form)}")
    assert client.get(callback.removeprefix("http://testserver"))["Location"] == "/decorated/"
    assert is_shown(client)


@pytest.mark.parametrize(
    "said",
    [
        answer({"error": "invalid_request"}, 400),
        answer({}, 500),
        answer({}, 201),
        answer({"request_uri": ""}, 201),
        answer({"request_uri": ["urn:example:request-1"]}, 201),
        answer(b"<html>", 201, "text/html"),
        answer(b"", 302, Location="https://evil.example/"),
    ],
    ids=["refused", "broken", "nameless", "an empty name", "a list of names", "a page", "elsewhere"],
)
def test_a_request_that_cannot_be_pushed_is_not_sent_another_way(pushed: HostileOP, said: Answer) -> None:
    """RFC 9126, 2.3: it would go through the browser, where it can be changed."""
    pushed.answers[PAR] = said
    client = Client()

    page = client.get("/decorated/")

    assert (page.status_code, page.context["verdict"]) == (503, "unavailable")
    assert "stepup_pending" not in client.session


# How the client proves who it is


def pem(key: SigningKey) -> str:
    return key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.mark.parametrize(("name", "alg"), [("rsa", "RS256"), ("p256", "ES256"), ("ed25519", "EdDSA")])
def test_a_client_assertion_is_this_clients_for_this_op_for_one_use_and_for_a_moment(
    hostile: HostileOP, settings: Any, name: str, alg: str
) -> None:
    """RFC 7523, 2.2 and 3; OpenID Connect Core 1.0, 9 (`private_key_jwt`)."""
    authentication = {
        "CLIENT_AUTHENTICATION": "private_key_jwt",
        "PRIVATE_KEY": pem(KEYS[name]),
        "PRIVATE_KEY_ID": "ours",
    }
    settings.STEPUP = {**settings.STEPUP, **authentication}
    del settings.OIDC_RP_CLIENT_SECRET

    for _ in range(2):
        assert come_back(Client(), hostile)["Location"] == "/decorated/"

    forms = [request.form for request in hostile.asked(TOKEN)]
    told = []
    for form in forms:
        assert "client_secret" not in form
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        assertion = form["client_assertion"]
        assert jwt.get_unverified_header(assertion)["kid"] == "ours"
        audiences = [hostile.url, hostile.at(TOKEN)]
        told.append(jwt.decode(assertion, KEYS[name].pem, [alg], audience=audiences))
    assert all(claim["iss"] == claim["sub"] == "site" for claim in told)
    assert all(0 < claim["exp"] - claim["iat"] <= 300 for claim in told)
    assert told[0]["jti"] != told[1]["jti"]


# Authorization responses


@pytest.mark.parametrize(("issuer", "reason"), [(ANOTHER_OP, "iss: mismatch"), (None, "iss: missing")])
def test_an_error_of_another_issuer_is_not_taken_for_our_ops(visitor: Visitor, issuer: str | None, reason: str) -> None:
    """RFC 9207, 2.2 and 2.4: errors are held to it as codes are."""
    visitor.sign_in()
    cancelled = visitor.authenticate(visitor.get("/decorated/"), cancel=True)
    assert query(cancelled)["error"] == "access_denied"

    back = visitor.come_back(with_query(cancelled, iss=issuer))

    assert (back.status_code, back.context["verdict"], back.context["reasons"]) == (400, "invalid", [reason])
    assert visitor.session["_auth_user_id"]


def test_tokens_that_come_with_the_response_are_not_looked_at(hostile: HostileOP) -> None:
    """RFC 9700, 2.1.2 and 4.6: there is no implicit or hybrid flow here, into which a token could be slipped."""
    client = Client()
    asked = query(client.get("/decorated/")["Location"])
    id_token = sign(claims(iss=hostile.url, sub="anna", nonce=asked["nonce"], amr=["mfa"]), key=KEYS["rsa"])
    slipped = {"state": asked["state"], "id_token": id_token, "access_token": "at", "token_type": "Bearer"}
    before = len(hostile.requests)

    back = client.get("/oidc/callback/", slipped)

    assert (back.status_code, back.context["reasons"]) == (400, ["code: missing"])
    assert not is_signed_in(client)
    assert len(hostile.requests) == before


# ID tokens


def test_an_id_token_of_an_earlier_sign_in_is_not_taken_again(hostile: HostileOP) -> None:
    """OpenID Connect Core 1.0, 3.1.3.7, step 11; ASVS 5.0, 10.5.1."""
    first, second = Client(), Client()
    asked = query(first.get("/decorated/")["Location"])
    issued = sign(claims(iss=hostile.url, sub="anna", nonce=asked["nonce"], amr=["mfa"]), key=KEYS["rsa"])
    callback = hostile.vouch(f"{hostile.url}?{urlencode(asked)}", id_token=issued)
    assert first.get(callback.removeprefix("http://testserver"))["Location"] == "/decorated/"

    back = come_back(second, hostile, id_token=issued)

    assert (back.status_code, back.context["reasons"]) == (400, ["nonce: mismatch"])
    assert not is_signed_in(second)


def logout_token(url: str, nonce: str) -> str:
    event: dict[str, Any] = {"http://schemas.openid.net/event/backchannel-logout": {}}
    return sign(claims(iss=url, sub="anna", jti="1", events=event), key=KEYS["rsa"])


def access_token(url: str, nonce: str) -> str:
    """As RFC 9068 has it, with a nonce that it has no business with."""
    made = claims(iss=url, sub="anna", nonce=nonce, client_id="site", scope="openid", amr=["mfa"])
    return sign(made, key=KEYS["rsa"], header={"typ": "at+jwt"})


def signed_userinfo(url: str, nonce: str) -> str:
    return sign({**ANNA, "iss": url, "aud": "site", "nonce": nonce, "amr": ["mfa"]}, key=KEYS["rsa"])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (logout_token, "events: not an ID token"),
        (access_token, "typ: not an ID token"),
        (signed_userinfo, "exp: missing"),
    ],
)
def test_what_the_op_signs_for_another_purpose_is_no_id_token(
    hostile: HostileOP, make: Callable[[str, str], str], reason: str
) -> None:
    """RFC 8725, 3.11 and 3.12; ASVS 5.0, 9.2.2."""
    client = Client()
    asked = client.get("/decorated/")["Location"]
    callback = hostile.vouch(asked, id_token=make(hostile.url, query(asked)["nonce"]))

    back = client.get(callback.removeprefix("http://testserver"))

    assert (back.status_code, back.context["reasons"]) == (400, [reason])
    assert not is_signed_in(client)


@pytest.mark.parametrize("header", ["jku", "x5u", "jwk", "kid"])
def test_what_a_header_says_about_keys_is_not_followed(hostile: HostileOP, header: str) -> None:
    """RFC 8725, 3.10; ASVS 5.0, 9.1.3: no request goes out to where it points, and no file is opened."""
    client = Client()
    with HostileOP(keys=[KEYS["other_rsa"]]) as elsewhere:
        points: Mapping[str, Any] = {
            "jku": elsewhere.at(JWKS),
            "x5u": elsewhere.at(JWKS),
            "jwk": KEYS["other_rsa"].jwk(kid=ABSENT),
            "kid": elsewhere.at(JWKS),
        }
        asked = client.get("/decorated/")["Location"]
        good = claims(iss=hostile.url, sub="anna", nonce=query(asked)["nonce"], amr=["mfa"])
        forged = sign(good, key=KEYS["other_rsa"], header={header: points[header]})

        back = client.get(hostile.vouch(asked, id_token=forged).removeprefix("http://testserver"))

        assert (back.status_code, back.context["reasons"]) == (400, ["kid: unknown"])
        assert elsewhere.requests == []
    assert not is_signed_in(client)


@pytest.mark.parametrize("kid", ["../../../dev/null", "x' OR '1'='1", "$(id)", "\x00", "k" * 5000])
def test_the_name_of_a_key_is_compared_and_nothing_else(hostile: HostileOP, kid: str) -> None:
    """RFC 8725, 3.10."""
    client = Client()
    asked = client.get("/decorated/")["Location"]
    good = claims(iss=hostile.url, sub="anna", nonce=query(asked)["nonce"])
    odd = sign(good, key=KEYS["rsa"], header={"kid": kid})

    back = client.get(hostile.vouch(asked, id_token=odd).removeprefix("http://testserver"))

    assert back.status_code == 400
    assert back.context["reasons"] in (["kid: unknown"], ["header: malformed"])


# What was asked for, and what came


@pytest.mark.parametrize("acr", ["0", "bronze", "GOLD", "gold silver", "", None])
@pytest.mark.parametrize("essential", [True, False])
def test_another_acr_than_was_asked_for_opens_nothing(
    hostile: HostileOP, settings: Any, acr: str | None, essential: bool
) -> None:
    """OpenID Connect Core 1.0, 3.1.3.7, step 12, and 5.5.1.1, which some OPs answer with another `acr` and no error."""
    require(settings, acr=["gold", "silver"], acr_values=["gold", "silver"], essential=essential)
    client = Client()

    back = come_back(client, hostile, id_token={"acr": acr, "amr": None})

    assert back.status_code == 403
    assert back.context["verdict"] in ("ignored", "proof_missing")
    assert is_signed_in(client), "the sign-in itself was good"
    assert not is_shown(client)

    assert come_back(client, hostile, id_token={"acr": "silver"})["Location"] == "/decorated/"
    assert is_shown(client)


@pytest.mark.parametrize("ago", [None, 331, 86400])
def test_where_max_age_was_sent_an_id_token_has_to_say_a_time_that_is_recent(
    hostile: HostileOP, ago: int | None
) -> None:
    """OpenID Connect Core 1.0, 3.1.2.1 and 3.1.3.7, step 13: otherwise the person is to authenticate again."""
    client = Client()
    said = None if ago is None else clock.now() - ago

    back = come_back(client, hostile, "/sudo/", id_token={"auth_time": said})

    assert back.status_code == 403
    assert not is_shown(client, "/sudo/")
    assert query(client.get(back.context["retry_url"])["Location"])["prompt"] == "login"

    assert come_back(client, hostile, "/sudo/")["Location"] == "/sudo/"
    assert is_shown(client, "/sudo/")


def test_using_a_session_does_not_make_what_was_proved_in_it_fresher(hostile: HostileOP) -> None:
    """ASVS 5.0, 7.3.2; NIST SP 800-63B-4, 2.2.3 and 5.2: the time runs from the authentication."""
    client = Client()
    assert come_back(client, hostile, "/fresh/")["Location"] == "/fresh/"

    shown = []
    for clock.offset in range(0, 401, 50):
        shown.append(is_shown(client, "/fresh/"))
        assert is_shown(client), "which sets no max_age"

    assert shown == [True] * 7 + [False] * 2, "300 seconds, and 30 of leeway"


# Who it is


def test_the_same_subject_of_another_issuer_is_another_account(hostile: HostileOP, settings: Any) -> None:
    """OpenID Connect Core 1.0, 5.7; ASVS 5.0, 6.8.1 and 10.5.2."""
    settings.OIDC_RP_SCOPES = "openid"
    subject = {"sub": "anna"}
    assert come_back(Client(), hostile, userinfo=subject).status_code == 302
    with HostileOP() as another:
        settings.STEPUP = {**settings.STEPUP, "ISSUER": another.url}
        assert come_back(Client(), another, userinfo=subject).status_code == 302

        assert come_back(Client(), another, userinfo=subject).status_code == 302, "and the next time too"
        assert get_user_model().objects.count() == 2
        assert set(Identity.objects.values_list("issuer", "subject")) == {(hostile.url, "anna"), (another.url, "anna")}


# Where secrets go


def test_the_browser_gets_no_token_and_no_secret_and_the_op_gets_them_back_where_they_belong(
    hostile: HostileOP,
) -> None:
    """ASVS 5.0, 10.1.1; RFC 9700, 2.2.1."""
    client = Client()
    challenge = client.get("/decorated/")
    (verifier,) = (pending["pkce"] for pending in client.session["stepup_pending"].values())
    issued = sign(
        claims(iss=hostile.url, sub="anna", nonce=query(challenge["Location"])["nonce"], amr=["mfa"]), key=KEYS["rsa"]
    )
    callback = hostile.vouch(challenge["Location"], id_token=issued, response={"refresh_token": "a-refresh-token"})

    back = client.get(callback.removeprefix("http://testserver"))

    assert is_shown(client)
    secrets = {"at-code-0", "a-refresh-token", issued, verifier, CLIENT_SECRET}
    for response in (challenge, back, client.get("/"), client.get("/decorated/")):
        told = f"{response.serialize_headers()!r} {response.content!r} {response.cookies.output()}"
        assert not [secret for secret in secrets if secret in told]
    kept = repr(dict(client.session))
    assert not [secret for secret in secrets if secret in kept]

    def told_to(secret: str) -> set[str]:
        return {request.path for request in hostile.requests if secret in _everything_in(request)}

    assert told_to("at-code-0") == {USERINFO}
    assert told_to(verifier) == told_to(CLIENT_SECRET) == {TOKEN}
    assert told_to("a-refresh-token") == told_to(issued) == set()


def _everything_in(request: Request) -> str:
    return f"{request.target} {dict(request.headers)} {dict(request.form)}"


@pytest.mark.parametrize("path", ["/oidc/callback/?code=c&state=s", "/oidc/authenticate/?stepup=unknown"])
def test_the_address_of_a_page_of_ours_goes_to_no_other_site(op: RunningProvider, path: str) -> None:
    """RFC 9700, 4.2: a code can stand in it."""
    text = Client().get(path).content.decode()

    assert '<meta name="referrer" content="same-origin">' in text
    assert not re.findall(r'(?:src|href|action)="(?:https?:)?//', text)
