"""`stepup.models`: whose an identity is."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import IntegrityError, transaction

from stepup.models import Identity

pytestmark = pytest.mark.django_db

ISSUER = "https://op.example/"


def test_one_subject_of_one_issuer_is_one_account() -> None:
    anna, ben = (get_user_model().objects.create_user(name) for name in ("anna", "ben"))
    Identity.objects.create(issuer=ISSUER, subject="anna", user=anna)

    for user in (anna, ben):
        with pytest.raises(IntegrityError), transaction.atomic():
            Identity.objects.create(issuer=ISSUER, subject="anna", user=user)

    assert Identity.objects.get().user == anna


@pytest.mark.parametrize(
    ("issuer", "subject"),
    [("https://other.example/", "anna"), ("https://op.example", "anna"), (ISSUER, "Anna"), (ISSUER, "anna ")],
)
def test_issuer_and_subject_are_told_apart_to_the_letter(issuer: str, subject: str) -> None:
    anna, ben = (get_user_model().objects.create_user(name) for name in ("anna", "ben"))
    Identity.objects.create(issuer=ISSUER, subject="anna", user=anna)

    Identity.objects.create(issuer=issuer, subject=subject, user=ben)

    assert Identity.objects.get(issuer=ISSUER, subject="anna").user == anna
    assert Identity.objects.get(issuer=issuer, subject=subject).user == ben


def test_an_account_may_have_identities_at_several_issuers() -> None:
    anna = get_user_model().objects.create_user("anna")
    for number in range(3):
        Identity.objects.create(issuer=f"https://op-{number}.example/", subject="anna", user=anna)

    assert anna.stepup_identities.count() == 3


def test_an_identity_goes_with_its_account() -> None:
    anna = get_user_model().objects.create_user("anna")
    Identity.objects.create(issuer=ISSUER, subject="anna", user=anna)

    anna.delete()

    assert not Identity.objects.exists()


def test_the_longest_subject_of_the_standard_fits() -> None:
    field: Any = Identity._meta.get_field("subject")

    assert field.max_length == 255  # OpenID Connect Core 1.0, 2


def test_an_identity_reads_as_its_subject_and_issuer() -> None:
    assert str(Identity(issuer=ISSUER, subject="auth0|anna")) == "auth0|anna (https://op.example/)"


def test_the_migrations_are_those_of_the_model() -> None:
    call_command("makemigrations", "stepup", check=True, dry_run=True, verbosity=0)
