"""The site's settings. What differs from run to run comes from the environment of its processes."""

from __future__ import annotations

import os

from tests.e2e.load import LEEWAY, RENEW_AFTER

SECRET_KEY = "a-key-for-tests-only-which-is-long-enough-for-django"
ALLOWED_HOSTS = ["127.0.0.1"]
DEBUG = False
USE_TZ = True
USE_I18N = False
ROOT_URLCONF = "tests.e2e.load.site"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": "127.0.0.1",
        "PORT": os.environ["LOAD_POSTGRES_PORT"],
        "CONN_MAX_AGE": 60,
    }
}
# The OP's documents are shared through what the sessions are in, too.
CACHES = {
    "database": {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "shared_cache"}},
    "redis": {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{os.environ['LOAD_REDIS_PORT']}",
        }
    },
}[os.environ["LOAD_SESSIONS"]]
SESSION_ENGINE = {
    "database": "django.contrib.sessions.backends.db",
    "redis": "django.contrib.sessions.backends.cache",
}[os.environ["LOAD_SESSIONS"]]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "stepup",
]
MIDDLEWARE = [
    "tests.e2e.load.busy.BusyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "stepup.middleware.SessionRenewalMiddleware",
    "stepup.middleware.StepUpMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
AUTHENTICATION_BACKENDS = ["stepup.backends.StepUpBackend"]
STATIC_URL = "static/"
LOGIN_URL = "oidc_authentication_init"
LOGIN_REDIRECT_URL = "/whoami/"
LOGOUT_REDIRECT_URL = "/whoami/"

OIDC_RP_CLIENT_ID = "site"
OIDC_RP_CLIENT_SECRET = "a-client-secret-that-is-long-enough"
OIDC_RP_SIGN_ALGO = "RS256"
OIDC_RP_SCOPES = "openid email profile"
OIDC_AUTHENTICATE_CLASS = "tests.e2e.load.asking.Asking"
OIDC_RENEW_ID_TOKEN_EXPIRY_SECONDS = RENEW_AFTER
# An OP that shares two cores with everything else here may take its time.
OIDC_TIMEOUT = 60

STEPUP = {
    "PROVIDER": "auth0",
    "ISSUER": os.environ["LOAD_ISSUER"],
    "LEEWAY": LEEWAY,
    "MAX_ATTEMPTS": 100,  # one simulated person does in a minute what others do in a month
    "KEEP_REFRESH_TOKEN": True,
    "PROTECTED_VIEWS": {"salary": "mfa"},
}
