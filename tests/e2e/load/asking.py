"""How the site asks its OP: for a refresh token where the browser wants to be remembered."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from stepup.views import AuthenticationRequestView
from tests.e2e.load import REMEMBER


class Asking(AuthenticationRequestView):
    """The sign-ins of the others are renewed through the browser."""

    def get_extra_params(self, request: HttpRequest) -> dict[str, Any]:
        asked = super().get_extra_params(request)
        return asked | {"scope": "openid email profile offline_access"} if REMEMBER in request.COOKIES else asked
