"""Which account of this site belongs to which subject of which issuer."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

__all__ = ["Identity"]


class Identity(models.Model):
    """An account's identity at an OP.

    Only `iss` and `sub` together identify a user for ever; an e-mail address is passed on, mistyped and taken over
    (OpenID Connect Core 1.0, 5.7). The address finds an account once, and this row finds it from then on.
    """

    issuer = models.CharField(_("issuer"), max_length=255)
    subject = models.CharField(_("subject"), max_length=255)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="stepup_identities", verbose_name=_("user")
    )
    created = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("identity")
        verbose_name_plural = _("identities")
        constraints = (models.UniqueConstraint(fields=["issuer", "subject"], name="stepup_identity_unique"),)

    def __str__(self) -> str:
        return f"{self.subject} ({self.issuer})"
