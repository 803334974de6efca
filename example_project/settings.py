"""Settings of the example: an ordinary Django site on 127.0.0.1, with SQLite and nothing to install.

The same file serves the site and, in a process of its own, the OP that `manage.py stepup_provider` starts.
"""

import os
from pathlib import Path
from typing import Any

from django.core.management.utils import get_random_secret_key
from django.utils.crypto import salted_hmac

HERE = Path(__file__).resolve().parent

# Where the site and its OP listen, by the environment variable that says so.
PORTS = {
    name: int(os.environ.get(name) or default)
    for name, default in {"STEPUP_DEMO_PORT": 8000, "STEPUP_DEMO_PROVIDER_PORT": 9000}.items()
}
PORT = PORTS["STEPUP_DEMO_PORT"]
PROVIDER_PORT = PORTS["STEPUP_DEMO_PROVIDER_PORT"]
SITE_ORIGIN = f"http://127.0.0.1:{PORT}"
PROVIDER_ORIGIN = f"http://127.0.0.1:{PROVIDER_PORT}"


def secret_key() -> str:
    """A key made for this copy of the example and kept beside it, so that sessions outlive a restart."""
    path = HERE / ".secret-key"
    try:
        with path.open("x", encoding="ascii") as file:
            path.chmod(0o600)
            file.write(get_random_secret_key())
    except FileExistsError:
        pass
    return path.read_text(encoding="ascii")


DEBUG = os.environ.get("STEPUP_DEMO_DEBUG", "1") == "1"
SECRET_KEY = secret_key()
ALLOWED_HOSTS = ["127.0.0.1"]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    # Before stepup, whose pages this app gives its own colours.
    "example_project.apps.ExampleConfig",
    "stepup",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "example_project.middleware.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "stepup.middleware.SessionRenewalMiddleware",
    "stepup.middleware.StepUpMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "example_project.urls"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("STEPUP_DEMO_DATABASE") or HERE / "demo.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_THOUSAND_SEPARATOR = True
STATIC_URL = "static/"

# Browsers send cookies to every port of a host: names of its own keep this site's apart from those of the OP, and of
# whatever else runs on this machine.
SESSION_COOKIE_NAME = "tidewater_session"
CSRF_COOKIE_NAME = "tidewater_csrf"

AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]

# Requests are not worth a line each; what becomes of a step-up is.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {name}: {message}", "style": "{", "datefmt": "%H:%M:%S"}},
    "handlers": {"terminal": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        "stepup": {"handlers": ["terminal"], "level": "INFO"},
        "django.server": {"handlers": ["terminal"], "level": "ERROR", "propagate": False},
    },
}

# ---- Signing in, and stepping up ----

AUTHENTICATION_BACKENDS = ["example_project.backends.EmployeeBackend"]
LOGIN_URL = "oidc_authentication_init"
LOGIN_REDIRECT_URL = "start"
LOGOUT_REDIRECT_URL = "start"

OIDC_RP_CLIENT_ID = "tidewater-intranet"
OIDC_RP_CLIENT_SECRET = salted_hmac(
    "example_project.client", OIDC_RP_CLIENT_ID, SECRET_KEY, algorithm="sha256"
).hexdigest()
OIDC_RP_SIGN_ALGO = "RS256"
OIDC_RP_SCOPES = "openid email profile"
OIDC_TIMEOUT = 5
# Kept to tell the OP, at a step-up and at sign-out, whom it is about.
OIDC_STORE_ID_TOKEN = True

STEPUP = {
    "PROVIDER": "auth0",
    "ISSUER": f"{PROVIDER_ORIGIN}/",
    "CLIENT_IDS": [OIDC_RP_CLIENT_ID],
    "CLIENTS_WITH_MFA": [OIDC_RP_CLIENT_ID],
    "PROTECTED_VIEWS": {"password": "mfa"},
    # Otherwise the next person at this computer signs in without a password.
    "SIGN_OUT_AT_PROVIDER": True,
    # And whoever signs out there, in whatever browser, is signed out here.
    "BACK_CHANNEL_LOGOUT": "end",
}

# ---- The OP of the demo: who can sign in there, and for which site ----

# Anna and Ben can approve on their phone or type a one-time code; Carl has no second factor yet.
STEPUP_PROVIDER: dict[str, Any] = {
    "PORT": PROVIDER_PORT,
    "USERS": [
        {
            "username": "anna",
            "password": "lighthouse",
            "name": "Anna Lindqvist",
            "given_name": "Anna",
            "family_name": "Lindqvist",
            "email": "anna@tidewater.example",
            "totp_secret": "NRUWO2DUNBXXK43FFVQW43TB",
            "push": True,
        },
        {
            "username": "ben",
            "password": "drydock",
            "name": "Ben Okafor",
            "given_name": "Ben",
            "family_name": "Okafor",
            "email": "ben@tidewater.example",
            "totp_secret": "MRZHSZDPMNVS2YTFNYWTCMJR",
            "push": True,
        },
        {
            "username": "carl",
            "password": "mooring",
            "name": "Carl Meyer",
            "given_name": "Carl",
            "family_name": "Meyer",
            "email": "carl@tidewater.example",
        },
    ],
    "CLIENTS": [
        {
            "client_id": OIDC_RP_CLIENT_ID,
            "client_secret": OIDC_RP_CLIENT_SECRET,
            "name": "Tidewater Works",
            "redirect_uris": [f"{SITE_ORIGIN}/oidc/callback/"],
            "post_logout_redirect_uris": [f"{SITE_ORIGIN}/oidc/signed-out/"],
            "backchannel_logout_uri": f"{SITE_ORIGIN}/oidc/backchannel-logout/",
        }
    ],
    "CLIENTS_WITH_MFA": [OIDC_RP_CLIENT_ID],
}
