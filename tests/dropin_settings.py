"""The settings of a site that used mozilla-django-oidc before, and of which step-up has become a part.

The OP's address is in the environment, since it is another in each run.
"""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, MIDDLEWARE

_OP = os.environ["DROPIN_OP"]

ROOT_URLCONF = "tests.dropin_urls"
INSTALLED_APPS = [*INSTALLED_APPS, "mozilla_django_oidc"]
MIDDLEWARE = [*MIDDLEWARE, "mozilla_django_oidc.middleware.SessionRefresh"]
AUTHENTICATION_BACKENDS = ["tests.dropin_backends.SiteBackend"]

OIDC_OP_AUTHORIZATION_ENDPOINT = f"{_OP}authorize"
OIDC_OP_TOKEN_ENDPOINT = f"{_OP}oauth/token"
OIDC_OP_USER_ENDPOINT = f"{_OP}userinfo"
OIDC_OP_JWKS_ENDPOINT = f"{_OP}.well-known/jwks.json"
OIDC_AUTHENTICATE_CLASS = "tests.dropin_views.SiteAuthenticationRequestView"
OIDC_CALLBACK_CLASS = "tests.dropin_views.SiteCallbackView"
OIDC_AUTH_REQUEST_EXTRA_PARAMS = {"site": "dropin"}
OIDC_USE_PKCE = True
LOGOUT_REDIRECT_URL = "/"
OIDC_OP_LOGOUT_URL_METHOD = "tests.dropin_views.sign_out_url"

STEPUP = {"PROVIDER": "auth0", "ISSUER": _OP}
