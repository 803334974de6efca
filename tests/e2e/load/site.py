"""The site: a page that is open to all, three that are not, and a journal of what each worker has shown to whom."""

from __future__ import annotations

import logging
import os
import time
import traceback
from pathlib import Path
from typing import Any

from django.core.signals import got_request_exception
from django.db import connection
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.urls import include, path
from django.views.decorators.http import require_POST

from stepup import session
from stepup.decorators import mfa_required
from stepup.signals import elevated, refused
from tests.e2e.load import RECENT_MAX_AGE
from tests.e2e.load.busy import request_id
from tests.e2e.load.journal import Journal

journal = Journal(Path(os.environ["LOAD_SITE_JOURNAL"]))


#: What is written down of the log.
RENEWALS = {"renewed", "renewal_failed", "sign_in_required"}


def write(request: HttpRequest, what: str, **more: Any) -> None:
    journal.write(what=what, at=time.time(), pid=os.getpid(), request=request.headers.get("X-Request-Id", ""), **more)


def seen(request: HttpRequest) -> dict[str, Any]:
    """Who is signed in, and what this session has proved about them."""
    evidence = session.evidence(request)
    return {
        "user": getattr(request.user, "email", None),
        "subject": evidence.subject if evidence else None,
        "amr": dict(evidence.proofs.get("amr", {})) if evidence else {},
    }


def whoami(request: HttpRequest) -> HttpResponse:
    get_token(request)  # for the forms of this page
    return JsonResponse({"page": "whoami", **seen(request)})


def protected(request: HttpRequest, page: str) -> HttpResponse:
    shown = seen(request)
    write(request, "shown", page=page, **shown)
    return JsonResponse({"page": page, **shown})


def salary(request: HttpRequest) -> HttpResponse:
    return protected(request, "salary")


@mfa_required(max_age=RECENT_MAX_AGE)
def recent(request: HttpRequest) -> HttpResponse:
    return protected(request, "recent")


@require_POST
@mfa_required
def post(request: HttpRequest) -> HttpResponse:
    shown = seen(request)
    with connection.cursor() as cursor:
        # No constraint: what is stored twice shall be seen twice.
        cursor.execute("INSERT INTO posts (id, author) VALUES (%s, %s)", [request.POST["id"], shown["user"]])
    write(request, "shown", page="posted", **shown)
    return JsonResponse({"page": "posted", "id": request.POST["id"], **shown})


urlpatterns = [
    path("whoami/", whoami, name="whoami"),
    path("salary/", salary, name="salary"),
    path("recent/", recent, name="recent"),
    path("posts/", post, name="posts"),
    path("oidc/", include("stepup.urls")),
]


class Renewals(logging.Handler):
    """Writes down how renewals went."""

    def emit(self, record: logging.LogRecord) -> None:
        if (event := getattr(record, "event", "")) in RENEWALS:
            said = {name: getattr(record, name, "") for name in ("by", "reason")}
            journal.write(what=event, at=time.time(), pid=os.getpid(), request=request_id(), **said)


logging.getLogger("stepup").addHandler(Renewals())
logging.getLogger("stepup").setLevel(logging.INFO)


@receiver(elevated)
def note_elevated(request: HttpRequest, user: Any, evidence: Any, requirement: Any, **_: Any) -> None:
    write(
        request,
        "elevated",
        user=user.email,
        subject=evidence.subject,
        requirement=requirement.name if requirement else "",
        amr=dict(evidence.proofs.get("amr", {})),
    )


@receiver(refused)
def note_refused(request: HttpRequest, verdict: Any, reasons: Any, **_: Any) -> None:
    write(request, "refused", verdict=verdict.value, reasons=list(reasons))


@receiver(got_request_exception)
def note_exception(request: HttpRequest, **_: Any) -> None:
    write(request, "exception", path=request.path, traceback=traceback.format_exc())
