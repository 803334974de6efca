"""The authentication backend of a site that used mozilla-django-oidc before, with all of its hooks in use."""

from __future__ import annotations

from typing import Any

from stepup.backends import StepUpBackend


class SiteBackend(StepUpBackend):
    """Written for mozilla-django-oidc's backend; only the name of the base class has changed."""

    def get_userinfo(self, access_token: str, id_token: str, payload: dict[str, Any]) -> dict[str, Any]:
        userinfo = super().get_userinfo(access_token, id_token, payload)
        userinfo["department"] = "payroll" if payload["sub"].endswith("anna") else "other"
        return userinfo

    def verify_claims(self, claims: dict[str, Any]) -> bool:
        return bool(super().verify_claims(claims) and claims["email"].endswith("@harbour.example"))

    def filter_users_by_claims(self, claims: dict[str, Any]) -> Any:
        return super().filter_users_by_claims(claims).exclude(username__startswith="robot-")

    def get_username(self, claims: dict[str, Any]) -> str:
        return str(claims["email"].partition("@")[0])

    def create_user(self, claims: dict[str, Any]) -> Any:
        return self.update_user(super().create_user(claims), claims)

    def update_user(self, user: Any, claims: dict[str, Any]) -> Any:
        user.first_name = claims.get("name", "")
        user.last_name = claims["department"]
        user.save()
        return user


def username_from_email(email: str) -> str:
    """For `OIDC_USERNAME_ALGO`, in the older of its two forms."""
    return f"by-mail-{email.partition('@')[0]}"


def username_from_claims(email: str, claims: dict[str, Any]) -> str:
    """For `OIDC_USERNAME_ALGO`, in the newer of its two forms."""
    return f"by-claims-{claims['sub'].partition('|')[2]}"
