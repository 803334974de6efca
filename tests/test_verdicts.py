"""`stepup.verdicts`: what is said of each, and to whom."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.urls import path

from stepup import Decision, Evidence, Unmet, verdicts
from stepup.verdicts import Verdict
from tests.urls import plain

urlpatterns = [path("oidc/authenticate/", plain, name="oidc_authentication_init")]

NOTHING = Evidence(issuer="i", subject="s", proofs={})
PASSWORD = Evidence(issuer="i", subject="s", proofs={"amr": {"pwd": None}})


@pytest.mark.parametrize(
    ("reasons", "received", "verdict"),
    [
        ([], NOTHING, Verdict.SATISFIED),
        (["missing"], NOTHING, Verdict.PROOF_MISSING),
        (["missing"], PASSWORD, Verdict.IGNORED),
        (["missing", "stale"], PASSWORD, Verdict.IGNORED),
        (["stale"], PASSWORD, Verdict.STALE),
        (["time_unknown", "future"], NOTHING, Verdict.STALE),
    ],
)
def test_an_answer_is_judged_by_what_is_unmet_and_by_what_it_says(
    reasons: list[str], received: Evidence, verdict: Verdict
) -> None:
    assert verdicts.judge(Decision(tuple(Unmet("amr", reason) for reason in reasons)), received) is verdict


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.SATISFIED])
def test_each_verdict_has_a_page_that_says_what_happened_and_what_to_do(rf: Any, verdict: Verdict) -> None:
    response = verdicts.page(rf.get("/"), verdict, user=AnonymousUser(), reasons=["amr: missing"], retry_url="/again/")
    text = response.content.decode()

    assert response.status_code in (400, 403, 429, 503)
    assert "no-store" in response["Cache-Control"]
    assert "/again/" in text
    assert "amr: missing" in text
    assert "<script" not in text
    assert "style=" not in text
    assert "onclick" not in text


def test_who_confirmed_as_somebody_else_is_offered_to_sign_out(rf: Any) -> None:
    response = verdicts.page(rf.get("/"), Verdict.WRONG_USER, user=User(pk=1))
    assert 'action="/oidc/logout/"' in response.content.decode()
    assert "csrfmiddlewaretoken" in response.content.decode()


def test_a_site_without_a_sign_out_url_offers_none(rf: Any, settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.test_verdicts"
    assert "<form" not in verdicts.page(rf.get("/"), Verdict.WRONG_USER, user=User(pk=1)).content.decode()


def test_the_page_is_in_the_language_of_the_visitor_where_there_is_one(rf: Any) -> None:
    from django.utils import translation

    with translation.override("de"):
        text = verdicts.page(rf.get("/"), Verdict.EXPIRED, user=AnonymousUser()).content.decode()
    assert '<html lang="de"' in text
