"""Accounts for the people who sign in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User

from stepup.backends import StepUpBackend


class EmployeeBackend(StepUpBackend):
    """Takes the names of an employee from the OP, at the first sign-in and at each later one.

    The hooks are those of mozilla-django-oidc, so a site's existing backend only changes its base class.
    """

    def create_user(self, claims: Mapping[str, Any]) -> User:
        return self.update_user(super().create_user(claims), claims)

    def update_user(self, user: User, claims: Mapping[str, Any]) -> User:
        user.first_name = claims.get("given_name", "")
        user.last_name = claims.get("family_name", "")
        user.save(update_fields=["first_name", "last_name"])
        return user
