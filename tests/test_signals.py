"""Signals and the log: every step is told, and no secret is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stepup import Requirement, signals
from stepup.verdicts import Verdict
from tests.visitor import Visitor, query, with_query


@pytest.fixture
def heard() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    received: list[tuple[str, dict[str, Any]]] = []
    receivers: list[tuple[Any, Callable[..., None]]] = []
    for name in signals.__all__:

        def receive(*, _name: str = name, **kwargs: Any) -> None:
            received.append((_name, kwargs))

        getattr(signals, name).connect(receive)
        receivers.append((getattr(signals, name), receive))
    yield received
    for signal, receiver in receivers:
        signal.disconnect(receiver)


def test_a_step_up_is_told_step_by_step(visitor: Visitor, heard: list[tuple[str, dict[str, Any]]]) -> None:
    visitor.sign_in()
    visitor.step_up("/decorated/")

    assert [name for name, _ in heard] == ["elevated", "challenged", "elevated"]
    (_, sign_in), (_, challenged), (_, elevated) = heard
    assert sign_in["requirement"] is None
    assert challenged["requirement"].name == "mfa"
    assert [unmet.reason for unmet in challenged["decision"].unmet] == ["missing"]
    assert elevated["user"].email == "anna@harbour.example"
    assert isinstance(elevated["requirement"], Requirement)
    assert "mfa" in elevated["evidence"].proofs["amr"]


def test_a_refusal_is_told_with_verdict_and_reasons(visitor: Visitor, heard: list[tuple[str, dict[str, Any]]]) -> None:
    visitor.sign_in()
    stripped = with_query(visitor.get("/decorated/")["Location"], acr_values=None)
    visitor.come_back(visitor.person.authenticate(stripped, factor=None))

    name, refused = heard[-1]
    assert name == "refused"
    assert refused["verdict"] is Verdict.PROOF_MISSING
    assert refused["reasons"] == ("amr: missing",)
    assert refused["user"].email == "anna@harbour.example"
    assert refused["requirement"].name == "mfa"


def test_a_receiver_that_fails_changes_nothing_for_the_user(visitor: Visitor) -> None:
    def fail(**kwargs: Any) -> None:
        raise RuntimeError("the audit trail is full")

    for name in signals.__all__:
        getattr(signals, name).connect(fail)
    try:
        visitor.sign_in()
        assert visitor.step_up("/decorated/")["Location"] == "/decorated/"
        assert visitor.get("/oidc/callback/").status_code == 400
    finally:
        for name in signals.__all__:
            getattr(signals, name).disconnect(fail)


def test_the_log_has_each_event_with_its_fields(visitor: Visitor, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stepup")
    visitor.sign_in()
    visitor.step_up("/decorated/")
    response = visitor.get("/oidc/callback/?state=forged")

    records: list[Any] = [record for record in caplog.records if record.name == "stepup"]
    assert [record.event for record in records] == ["elevated", "challenged", "elevated", "refused"]
    assert records[1].requirement == "mfa"
    assert (records[3].verdict, records[3].reasons) == ("expired", ("state: unknown",))
    assert records[3].reference == response.context["reference"]
    assert records[3].reference in response.content.decode()


def test_no_token_code_or_secret_is_ever_logged(
    visitor: Visitor, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.OIDC_STORE_ID_TOKEN = settings.OIDC_STORE_ACCESS_TOKEN = True
    caplog.set_level(logging.DEBUG)
    secrets = {settings.OIDC_RP_CLIENT_SECRET}
    for path, changes in [
        ("/decorated/", {}),
        ("/class/", {"code": "stolen-code-0123456789"}),
        ("/sudo/", {"state": "stolen-state-0123456789"}),
        ("/fresh/", {"iss": "https://evil.example/stolen-issuer"}),
    ]:
        challenge = visitor.get(path)
        if challenge.status_code == 302:
            for pending in visitor.session["stepup_pending"].values():
                secrets |= {pending["nonce"], pending["pkce"]}
            callback = with_query(visitor.authenticate(challenge), **changes)
            secrets |= {query(callback)["code"], query(callback)["state"]}
            visitor.come_back(callback)
    secrets |= {visitor.session["oidc_id_token"], visitor.session["oidc_access_token"]}

    # The line that Django's own server writes of a request is the site's, and has the path without the query.
    for record in caplog.records:
        if record.name.startswith("urllib3"):
            continue
        told = record.getMessage() + repr(record.__dict__.get("reasons")) + repr(record.__dict__.get("args"))
        for secret in secrets:
            assert secret not in told, record
