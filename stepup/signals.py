"""What happens during step-ups, for audit trails and alarms.

Receivers are called with `send_robust`: one that fails is logged by Django, and changes nothing for the user.
"""

from __future__ import annotations

from django.dispatch import Signal

__all__ = ["challenged", "elevated", "refused", "reported"]

#: A requirement was not met. Sent with `request`, `requirement` (Requirement) and `decision` (Decision).
challenged = Signal()

#: A requirement was not met that `STEPUP["REPORT_ONLY"]` names, and the request went on. Sent with `request`,
#: `requirement` (Requirement) and `decision` (Decision, with the reasons).
reported = Signal()

#: An answer of the OP was accepted and its evidence recorded, or else what the site itself states. Sent with `request`,
#: `user`, `requirement` (Requirement, or None where signing in was all that was asked, and for statements), `evidence`
#: (Evidence) and `by` ("provider" or "site").
elevated = Signal()

#: A step-up or sign-in came to nothing. Sent with `request`, `user` (who is signed in now, perhaps nobody),
#: `requirement` (Requirement or None), `verdict` (stepup.verdicts.Verdict) and `reasons` (tuple of str).
refused = Signal()
