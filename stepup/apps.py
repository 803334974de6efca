"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.signals import request_started
from django.utils.translation import gettext_lazy as _


class StepUpConfig(AppConfig):
    name = "stepup"
    verbose_name = _("Step-up authentication")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from stepup import checks  # which registers them

        request_started.connect(checks.FirstRequest(), weak=False, dispatch_uid="stepup.checks")
