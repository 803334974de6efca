"""The Django app."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_out
from django.core.signals import request_started
from django.utils.translation import gettext_lazy as _


class StepUpConfig(AppConfig):
    name = "stepup"
    verbose_name = _("Step-up authentication")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from stepup import checks  # which registers them

        request_started.connect(checks.FirstRequest(), weak=False, dispatch_uid="stepup.checks")
        user_logged_out.connect(_forget, dispatch_uid="stepup.links")


def _forget(request: Any, **kwargs: object) -> None:
    """A session that was ended here is none that the OP can end, wherever and however it was."""
    from stepup import conf

    store = getattr(request, "session", None)
    if store is not None and conf.best_effort().back_channel_logout is not None:
        from stepup import links

        links.forget(store.session_key)
