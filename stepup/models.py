"""Which account and which session of this site belong to whom at the OP, and what the OP says has ended there."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

__all__ = ["Identity", "LogoutNotice", "SessionLink"]


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


class SessionLink(models.Model):
    """Which session of this site came about through which session at the OP, for the OP to end it.

    The key of a session is as good as its cookie. It is kept encrypted, and found by a keyed hash of it.
    """

    key_digest = models.CharField(_("digest of the session key"), max_length=64, unique=True)
    #: Empty where the session has been ended. Where it has been lowered, the key of what it has become.
    locked_key = models.TextField(_("encrypted session key"), blank=True)
    issuer = models.CharField(_("issuer"), max_length=255)
    subject = models.CharField(_("subject"), max_length=255)
    #: Empty where the OP names none, and for one too long to be one.
    sid = models.CharField(_("session at the provider"), max_length=255, blank=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", verbose_name=_("user"))
    ended = models.BooleanField(_("ended by the provider"), default=False)
    #: Until when the session lasts if nothing prolongs it, in seconds since the epoch.
    expires = models.BigIntegerField(_("expires"), db_index=True)

    class Meta:
        verbose_name = _("session link")
        verbose_name_plural = _("session links")
        indexes = (
            models.Index(fields=["issuer", "subject"], name="stepup_link_subject"),
            models.Index(fields=["issuer", "sid"], name="stepup_link_sid"),
        )

    def __str__(self) -> str:
        return f"{self.subject} ({self.issuer})"


class LogoutNotice(models.Model):
    """A logout token that was accepted: it is good once, and for sign-ins that were on their way when it came."""

    #: Of issuer and `jti`.
    digest = models.CharField(_("digest"), max_length=64, unique=True)
    issuer = models.CharField(_("issuer"), max_length=255)
    subject = models.CharField(_("subject"), max_length=255, blank=True)
    sid = models.CharField(_("session at the provider"), max_length=255, blank=True)
    #: Both in seconds since the epoch.
    issued_at = models.FloatField(_("issued at"))
    expires = models.BigIntegerField(_("expires"), db_index=True)
    is_done = models.BooleanField(_("carried out"), default=False)

    class Meta:
        verbose_name = _("logout notice")
        verbose_name_plural = _("logout notices")
        indexes = (
            models.Index(fields=["issuer", "subject"], name="stepup_notice_subject"),
            models.Index(fields=["issuer", "sid"], name="stepup_notice_sid"),
        )

    def __str__(self) -> str:
        return f"{self.sid or self.subject} ({self.issuer})"
