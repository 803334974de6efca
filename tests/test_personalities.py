"""Each personality of the shipped OP against a whole site: what it is answered, and that nothing else has changed."""

from __future__ import annotations

import re
import textwrap
import threading
import time
import unittest
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests
from django.contrib.auth import get_user_model
from django.urls import path

from stepup.decorators import mfa_required
from stepup.models import Identity
from stepup.testing.provider import (
    WELL_BEHAVED,
    Client,
    Configuration,
    ProviderError,
    RunningProvider,
    from_site,
    launch,
)
from stepup.testing.provider.configuration import ConfigurationError
from stepup.testing.provider.personalities import (
    ANOTHER_APPLICATION,
    PERSONALITIES,
    Misanswering,
    what_it_does,
)
from tests import urls as site_urls
from tests.urls import SECRET
from tests.visitor import CALLBACK, Visitor

PAGE = Path(__file__).resolve().parent.parent / "docs" / "howto" / "personalities.rst"

#: What the site waits for an OP that is slow, in seconds, and what it may need for itself besides.
TIMEOUT = 0.4
SLACK = 2.0

STATUSES = {
    "satisfied": 302,
    "invalid": 400,
    "expired": 400,
    "ignored": 403,
    "no_account": 403,
    "proof_missing": 403,
    "stale": 403,
    "unmet": 403,
    "wrong_user": 403,
    "unavailable": 503,
}

#: Verdicts on an answer that was genuine, but did not prove what was asked for: whoever had not signed in now has.
GENUINE = {"satisfied", "ignored", "proof_missing", "stale"}


@dataclass(frozen=True)
class Answer:
    """What the site says: the verdict, and the reason on the page."""

    verdict: str
    reason: str = ""

    def __str__(self) -> str:
        return f"``{self.verdict}``: {self.reason}" if self.reason else f"``{self.verdict}``"


@dataclass(frozen=True)
class Expected:
    """What a step-up of somebody who is signed in is answered, and what it is where nobody is, if that differs."""

    step_up: Answer
    otherwise: Answer | None = None
    #: The page that is asked for, and settings under which it is.
    page: str = "/decorated/"
    #: Why a refresh token renews nothing, where that is what the personality is about.
    renewal: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Where it is a logout token that is odd: why it is refused, or that it is not.
    logout: str = ""

    @property
    def sign_in(self) -> Answer:
        return self.otherwise or self.step_up

    def __str__(self) -> str:
        if self.logout:
            return self.logout
        told = [str(self.step_up)]
        if self.sign_in != self.step_up:
            told.append(f"at a sign-in {self.sign_in}")
        if self.renewal:
            told.append(f"at a renewal ``renewal_failed``: {self.renewal}")
        return "; ".join(told)


def answer(verdict: str, reason: str = "", **more: Any) -> Expected:
    return Expected(Answer(verdict, reason), **more)


def refused(reason: str, **more: Any) -> Expected:
    return answer("invalid", reason, **more)


SATISFIED = Answer("satisfied")

EXPECTED: dict[str, Expected] = {
    WELL_BEHAVED: answer("satisfied"),
    "wrong_audience": refused("aud: mismatch"),
    "no_audience": refused("aud: missing"),
    "extra_audience": refused("aud: mismatch"),
    "no_authorized_party": refused("azp: missing", settings={"CLIENT_IDS": ["site", ANOTHER_APPLICATION]}),
    "other_authorized_party": refused("azp: mismatch"),
    "issuer_with_trailing_slash": refused("iss: mismatch"),
    "issuer_prefix": refused("iss: mismatch"),
    "issuer_suffix": refused("iss: mismatch"),
    "issuer_as_list": refused("iss: mismatch"),
    "no_issuer": refused("iss: missing"),
    "other_subject": answer("wrong_user", "sub: mismatch", otherwise=Answer("invalid", "sub: mismatch in userinfo")),
    "no_subject": refused("sub: missing"),
    "empty_subject": refused("sub: malformed"),
    "long_subject": refused("sub: malformed"),
    "subject_as_number": refused("sub: malformed"),
    "userinfo_of_another_subject": Expected(SATISFIED, Answer("invalid", "sub: mismatch in userinfo")),
    "userinfo_without_subject": Expected(SATISFIED, Answer("invalid", "sub: mismatch in userinfo")),
    "email_not_verified": Expected(SATISFIED, Answer("no_account", "account: unverified e-mail")),
    "expired": refused("exp: expired"),
    "no_expiry": refused("exp: missing"),
    "no_issue_time": refused("iat: missing"),
    "future_iat": refused("iat: in the future"),
    "future_nbf": refused("nbf: in the future"),
    "future_auth_time": refused("auth_time: in the future"),
    "stale_auth_time": answer("stale", "auth_time: stale", page="/sudo/"),
    "no_auth_time": answer("stale", "auth_time: time_unknown", page="/sudo/"),
    "times_as_strings": refused("exp: malformed"),
    "times_as_floats": answer("satisfied", page="/sudo/"),
    "infinite_expiry": refused("payload: malformed"),
    "wrong_nonce": refused("nonce: mismatch"),
    "no_nonce": refused("nonce: missing"),
    "wrong_at_hash": refused("at_hash: mismatch"),
    "ignores_acr_values": answer("proof_missing", "amr: missing"),
    "answers_acr_zero": answer("ignored", "amr: missing"),
    "amr_as_string": answer("proof_missing", "amr: missing"),
    "amr_not_quite": answer("proof_missing", "amr: missing"),
    "amr_in_capitals": answer("ignored", "amr: missing"),
    "amr_nested": answer("proof_missing", "amr: missing"),
    "amr_as_object": answer("proof_missing", "amr: missing"),
    "amr_null": answer("proof_missing", "amr: missing"),
    "amr_of_ten_thousand": answer("proof_missing", "amr: missing"),
    "alg_none": refused("signature: missing"),
    "alg_none_capitalized": refused("signature: missing"),
    "alg_none_in_capitals": refused("alg: not allowed"),
    "empty_signature": refused("signature: missing"),
    "wrong_signature": refused("signature: mismatch"),
    "hs256_with_public_key_pem": refused("alg: not allowed"),
    "hs256_with_public_key_der": refused("alg: not allowed"),
    "hs256_with_public_key_jwk": refused("alg: not allowed"),
    "other_algorithm": refused("alg: not allowed"),
    "other_key_same_kid": refused("signature: mismatch"),
    "unknown_kid": refused("kid: unknown"),
    "no_kid": answer("satisfied"),
    "no_kid_among_several": answer("satisfied"),
    "two_keys_one_kid": answer("satisfied"),
    "rotated_keys": answer("satisfied"),
    "no_keys": refused("kid: unknown"),
    "key_for_encryption": refused("kid: unknown"),
    "key_not_for_verifying": refused("kid: unknown"),
    "key_of_other_algorithm": refused("kid: unknown"),
    "small_rsa_key": refused("kid: unknown"),
    "oct_key_in_jwks": refused("alg: not allowed"),
    "header_jwk": refused("signature: mismatch"),
    "header_jku": refused("kid: unknown"),
    "header_x5c": refused("signature: mismatch"),
    "crit_header": refused("crit: not supported"),
    "b64_false": refused("crit: not supported"),
    "access_token_as_id_token": refused("typ: not an ID token"),
    "logout_token_as_id_token": refused("typ: not an ID token"),
    "untyped_logout_token_as_id_token": refused("events: not an ID token"),
    "duplicate_members": refused("payload: malformed"),
    "bad_base64": refused("signature: malformed"),
    "encrypted_token": refused("id_token: encrypted"),
    "long_token": refused("id_token: too large"),
    "huge_token": answer("unavailable", "token: response too large"),
    "token_as_object": refused("id_token: missing"),
    "no_id_token": refused("id_token: missing"),
    "no_access_token": answer("unavailable", "token: no access_token"),
    "wrong_response_issuer": refused("iss: mismatch"),
    "no_response_issuer": refused("iss: missing"),
    "doubled_code": refused("response: duplicate parameter"),
    "doubled_state": refused("response: duplicate parameter"),
    "wrong_state": answer("expired", "state: unknown"),
    "no_code": refused("code: missing"),
    "answers_server_error": answer("unavailable", "error: server_error"),
    "answers_unmet": answer("unmet", "error: unmet_authentication_requirements"),
    "answers_made_up_error": refused("error: other"),
    "refuses_codes": refused("token request refused: invalid_grant"),
    "refresh_of_other_subject": answer("satisfied", renewal="sub: another in a renewal"),
    "refresh_of_other_session": answer("satisfied", renewal="sid: another in a renewal"),
    "refresh_with_later_auth_time": answer("satisfied", renewal="auth_time: mismatch in a renewal"),
    "refresh_with_other_nonce": answer("satisfied", renewal="nonce: mismatch in a renewal"),
    "refresh_with_authorized_party": answer("satisfied", renewal="azp: mismatch in a renewal"),
    "refresh_without_id_token": answer("satisfied"),
    "refresh_without_rotation": answer("satisfied"),
    "refresh_server_error": answer("satisfied", renewal="token: status 500"),
    "refuses_refresh_tokens": answer("satisfied", renewal="token request refused: invalid_grant"),
    "metadata_of_another_issuer": answer("unavailable", "metadata: issuer mismatch"),
    "metadata_without_endpoints": answer("unavailable", "metadata: no authorization_endpoint"),
    "keys_that_are_none": answer("unavailable", "jwks: not usable"),
}

#: What becomes of logout tokens; see `test_logout`. The answers to authentication requests are good.
LOGOUTS = {
    "logout_for_another": "aud: mismatch",
    "logout_of_another_issuer": "iss: mismatch",
    "logout_alg_none": "signature: missing",
    "logout_wrong_signature": "signature: mismatch",
    "logout_unknown_kid": "kid: unknown",
    "logout_rotated_keys": "accepted",
    "logout_with_nonce": "nonce: not a logout token",
    "logout_without_events": "events: missing",
    "logout_with_another_event": "events: not a logout token",
    "logout_event_null": "events: not a logout token",
    "logout_without_jti": "jti: missing",
    "logout_replayed": "jti: used",
    "logout_old": "iat: too old",
    "logout_future_iat": "iat: in the future",
    "logout_without_iat": "iat: missing",
    "logout_expired": "exp: expired",
    "logout_without_expiry": "accepted",
    "logout_of_nobody": "sub: missing",
    "logout_sid_as_number": "sid: malformed",
    "logout_without_type": "accepted",
    "logout_of_another_type": "typ: not a logout token",
    "logout_is_id_token": "events: missing",
}
EXPECTED |= {name: answer("satisfied", logout=reason) for name, reason in LOGOUTS.items()}

#: What becomes of the endpoints that misbehave as HTTP: the reason is said after the endpoint's name.
ENDPOINT_REASONS = {
    "slow": "timeout",
    "dripping": "timeout",
    "half_body": "ProtocolError",
    "html": "not JSON",
    "server_error": "status 500",
    "not_json": "not JSON",
    "huge": "response too large",
    "redirecting": "status 307",
}
ENDPOINTS = ("token", "jwks", "userinfo", "metadata", "par")
for _endpoint in ENDPOINTS:
    for _kind, _reason in ENDPOINT_REASONS.items():
        _unavailable = Answer("unavailable", f"{_endpoint}: {_reason}")
        EXPECTED[f"{_endpoint}_{_kind}"] = Expected(
            # Somebody who is signed in is known: userinfo is not asked for.
            SATISFIED if _endpoint == "userinfo" else _unavailable,
            _unavailable,
            settings={"PUSHED_REQUESTS": True} if _endpoint == "par" else {},
        )

#: Those that are found out before the code is worth a request.
FOUND_OUT_EARLY = {
    "wrong_response_issuer", "no_response_issuer", "doubled_code", "doubled_state", "wrong_state", "no_code",
    "answers_server_error", "answers_unmet", "answers_made_up_error",
}  # fmt: skip


def test_every_personality_is_expected_to_do_something() -> None:
    assert EXPECTED.keys() == PERSONALITIES.keys()


def use(settings: Any, **changes: Any) -> None:
    """Change settings of the site, and have it forget what it knows of the OP."""
    # Userinfo is asked for, though the ID token would do, so that what it says matters.
    settings.STEPUP = {**settings.STEPUP, "USERINFO": "always", "CACHE": None, **changes}


def misbehave(op: RunningProvider, settings: Any, name: str) -> None:
    op.behave(name)
    use(settings, **EXPECTED[name].settings)
    if PERSONALITIES[name].patience_needed:
        settings.OIDC_TIMEOUT = TIMEOUT


def walk(visitor: Visitor, page: str) -> Any:
    """Open a page, and go as far as the OP and the site let somebody who proves all that they are asked for."""
    challenge = visitor.get(page)
    if challenge.status_code != 302:
        return challenge
    return visitor.come_back(visitor.authenticate(challenge))


def answered(response: Any) -> Answer:
    if response.status_code == 302:
        return SATISFIED
    (reason,) = response.context["reasons"]
    return Answer(response.context["verdict"], reason)


def signed_in(visitor: Visitor) -> str | None:
    pk = visitor.session.get("_auth_user_id")
    return None if pk is None else Identity.objects.get(user_id=pk).subject


def kept(visitor: Visitor) -> dict[str, Any]:
    """What is on the session, apart from the requests that were started and the attempts that were in vain."""
    passing = ("stepup_pending", "stepup_attempts")
    return {name: value for name, value in visitor.session.items() if name not in passing}


def is_shown(visitor: Visitor, page: str) -> bool:
    response = visitor.get(page)
    return bool(response.status_code == 200 and response.content.decode() == SECRET)


def check_answer(response: Any, expected: Answer, caplog: pytest.LogCaptureFixture) -> None:
    assert answered(response) == expected
    assert response.status_code == STATUSES[expected.verdict]
    if expected != SATISFIED:
        assert f"Step-up refused: {expected.verdict} ({expected.reason})" in caplog.text
        assert "no-store" in response.headers["Cache-Control"]


def check_requests(op: RunningProvider, name: str) -> None:
    paths = [request.path for request in op.requests()]
    assert "/elsewhere" not in paths, "redirects are not followed, and keys come from nowhere else"
    if name in FOUND_OUT_EARLY:
        assert "/oauth/token" not in paths


@pytest.mark.parametrize("name", PERSONALITIES)
def test_a_step_up_of_somebody_who_is_signed_in(
    op: RunningProvider, settings: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = EXPECTED[name]
    use(settings)
    visitor = Visitor("anna")
    visitor.sign_in()
    before, key = kept(visitor), visitor.session.session_key
    op.reset()
    misbehave(op, settings, name)

    started = time.monotonic()
    response = walk(visitor, expected.page)
    took = time.monotonic() - started

    check_answer(response, expected.step_up, caplog)
    check_requests(op, name)
    assert took < TIMEOUT + SLACK
    assert signed_in(visitor) == "stepup|anna"
    assert get_user_model().objects.count() == 1
    if expected.step_up.verdict not in GENUINE:
        assert (kept(visitor), visitor.session.session_key) == (before, key)
    op.behave(WELL_BEHAVED)
    assert is_shown(visitor, expected.page) is (expected.step_up == SATISFIED)

    # And the next try is good, once the OP is.
    if expected.step_up != SATISFIED:
        op.reset()
        use(settings, **expected.settings)
        assert walk(visitor, expected.page).status_code == 302
        assert is_shown(visitor, expected.page)
    assert signed_in(visitor) == "stepup|anna"


@pytest.mark.parametrize("name", PERSONALITIES)
def test_a_sign_in_by_way_of_a_protected_page(
    op: RunningProvider, settings: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = EXPECTED[name]
    misbehave(op, settings, name)
    visitor = Visitor("anna")

    started = time.monotonic()
    response = walk(visitor, expected.page)
    took = time.monotonic() - started

    check_answer(response, expected.sign_in, caplog)
    check_requests(op, name)
    assert took < TIMEOUT + SLACK
    if expected.sign_in.verdict in GENUINE:
        assert signed_in(visitor) == "stepup|anna"
    else:
        assert kept(visitor) == {}
        assert get_user_model().objects.count() == 0
    op.behave(WELL_BEHAVED)
    assert is_shown(visitor, expected.page) is (expected.sign_in == SATISFIED)


def test_many_unknown_key_names_are_few_requests(op: RunningProvider, settings: Any) -> None:
    op.behave("unknown_kid")
    use(settings)
    visitor = Visitor("anna")

    reasons = {answered(walk(visitor, "/oidc/authenticate/")).reason for _ in range(20)}

    assert reasons == {"kid: unknown"}
    asked = [request for request in op.requests() if request.path == "/.well-known/jwks.json"]
    assert len(asked) == 2, "one for the keys, and one for newer ones"


def test_keys_that_are_known_are_good_while_the_endpoint_is_not(op: RunningProvider, settings: Any) -> None:
    use(settings)
    visitor = Visitor("anna")
    visitor.sign_in()
    op.behave("jwks_slow")

    assert answered(walk(visitor, "/decorated/")) == SATISFIED


@pytest.mark.parametrize("name", [name for name in PERSONALITIES if re.search("alg|header|key|kid|signature", name)])
def test_no_personality_breaks_down_where_there_is_no_key_pair(op: RunningProvider, settings: Any, name: str) -> None:
    op.behave(name)
    use(settings)
    settings.OIDC_RP_CLIENT_ID, settings.OIDC_RP_SIGN_ALGO = "site-hs256", "HS256"

    assert "token: status 500" not in answered(walk(Visitor("anna"), "/decorated/")).reason


# The OP's side


CLIENT = Client("site", "a secret", (CALLBACK,))


def test_a_provider_can_have_its_personality_from_the_start() -> None:
    configuration = Configuration(purpose="tests", clients=(CLIENT,), personality="metadata_html")
    with launch(configuration) as provider:
        assert "<h1>Back soon" in metadata(provider)
        provider.behave(WELL_BEHAVED)
        assert '"issuer"' in metadata(provider)
        provider.reset()
        assert "<h1>Back soon" in metadata(provider), "as at the start"


def metadata(provider: RunningProvider) -> str:
    return requests.get(f"{provider.issuer}.well-known/openid-configuration", timeout=5).text


def test_a_reset_ends_a_personality(op: RunningProvider) -> None:
    op.behave("metadata_html")
    op.reset()
    assert '"issuer"' in metadata(op)


@pytest.mark.parametrize("name", ["metadata_slow", "metadata_dripping"])
def test_whoever_waits_need_not_wait_any_longer_once_it_is_over(op: RunningProvider, name: str) -> None:
    op.behave(name)
    threading.Timer(0.3, op.reset).start()
    before = time.monotonic()
    assert '"issuer"' in metadata(op).strip()
    assert 0.2 < time.monotonic() - before < 3


def test_a_name_that_is_not_known_is_an_error(op: RunningProvider) -> None:
    with pytest.raises(ProviderError, match="there is no personality 'charming'"):
        op.behave("charming")
    with pytest.raises(ProviderError, match="there is no personality 'charming'"):
        launch(Configuration(purpose="tests", clients=(CLIENT,), personality="charming"))


def test_the_provider_knows_what_people_really_did(op: RunningProvider, settings: Any) -> None:
    use(settings)
    op.behave("amr_not_quite")
    before = time.time()
    challenge = Visitor("anna").get("/decorated/")
    Visitor("anna").authenticate(challenge)
    op.behave("answers_acr_zero")
    Visitor("ben").authenticate(challenge)

    first, second = op.authentications()
    assert (first.client_id, first.subject, first.second_factor) == ("site", "stepup|anna", True)
    assert first.state
    assert first.state in challenge["Location"]
    assert before - 1 <= first.auth_time <= time.time()
    assert (second.subject, second.second_factor) == ("stepup|ben", False)


def test_the_setting_and_the_command_line_name_a_personality() -> None:
    site: dict[str, Any] = {
        "client_id": "site", "client_secret": "a secret", "sign_algo": "RS256", "callback_path": "/callback/"
    }  # fmt: skip
    assert from_site({}, **site).personality == WELL_BEHAVED
    assert from_site({"PERSONALITY": "expired"}, **site).personality == "expired"
    assert from_site({"PERSONALITY": "expired"}, **site, personality="no_kid").personality == "no_kid"
    with pytest.raises(ConfigurationError, match="personality is a string"):
        from_site({"PERSONALITY": 1}, **site)


# The documentation


def documented() -> list[list[str]]:
    """The rows of the tables of the page, as lists of cells."""
    rows = re.findall(r"^   \* - (.*(?:\n(?:     .*))*)", PAGE.read_text(), re.MULTILINE)
    return [[" ".join(cell.split()) for cell in re.split(r"\n     - ", row)] for row in rows]


def rows() -> list[list[str]]:
    """The rows that should be there: one for each personality, but one for all endpoints that do the same."""
    single = [
        [f"``{name}``", what_it_does(name), str(EXPECTED[name])]
        for name, kind in PERSONALITIES.items()
        if not issubclass(kind, Misanswering)
    ]
    shared = [
        [
            ", ".join(f"``{endpoint}_{kind}``" for endpoint in ENDPOINTS),
            what_it_does(f"token_{kind}").replace("token endpoint", "endpoint"),
            f"``unavailable``: {reason}",
        ]
        for kind, reason in ENDPOINT_REASONS.items()
    ]
    return single + shared


def test_the_example_of_the_page_works(settings: Any, db: None) -> None:
    (example,) = re.findall(r"# test_misbehaving\.py\n(?:(?:    .*)?\n)*", PAGE.read_text())
    urls = ModuleType("urls")
    urls.urlpatterns = [*site_urls.urlpatterns, path("salary/", mfa_required(site_urls.plain))]  # type: ignore[attr-defined]
    settings.ROOT_URLCONF = urls
    namespace: dict[str, Any] = {}
    exec(compile(textwrap.dedent(f"    {example}"), str(PAGE), "exec"), namespace)  # noqa: S102 - our own documentation

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(namespace["MisbehavingProviderTests"]).run(result)

    assert (result.testsRun, result.errors, result.failures) == (1, [], [])


def test_the_page_says_of_every_personality_what_it_does_and_what_the_package_answers() -> None:
    heads = [["name", "what it does", "what the package answers"]] * 3
    assert sorted(documented()) == sorted(rows() + heads)
