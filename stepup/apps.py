"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class StepUpConfig(AppConfig):
    name = "stepup"
    verbose_name = _("Step-up authentication")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from stepup import checks  # noqa: F401 - registers them
