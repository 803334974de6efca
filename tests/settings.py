"""Django settings of the test site."""

from __future__ import annotations

SECRET_KEY = "a-key-for-tests-only-which-is-long-enough-for-django"
ALLOWED_HOSTS = ["testserver", "127.0.0.1", "localhost"]
DEBUG = False
USE_TZ = True
ROOT_URLCONF = "tests.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "stepup",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "stepup.middleware.StepUpMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTHENTICATION_BACKENDS = ["stepup.backends.StepUpBackend", "django.contrib.auth.backends.ModelBackend"]
STATIC_URL = "static/"
LOGIN_URL = "oidc_authentication_init"
LOGIN_REDIRECT_URL = "/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

OIDC_RP_CLIENT_ID = "site"
OIDC_RP_CLIENT_SECRET = "a-client-secret-that-is-long-enough-for-hs512-and-then-some-more"
OIDC_RP_SIGN_ALGO = "RS256"
OIDC_RP_SCOPES = "openid email profile"

STEPUP = {
    "PROVIDER": "auth0",
    # Where a test needs the OP to answer, a fixture sets the issuer of the one that it has started.
    "ISSUER": "https://op.example/",
    "REQUIREMENTS": {"sudo": {"max_age": 300}},
    "PROTECTED_VIEWS": {"by-name": "mfa", "payroll:*": "mfa"},
}
