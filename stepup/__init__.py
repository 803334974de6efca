"""Step-up authentication for Django: pages that open only after multi-factor authentication at the OpenID Provider.

The values here need no Django; the doors are in `stepup.decorators`, `stepup.mixins` and `stepup.middleware`. What
needs Django is loaded when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

from stepup._version import __version__
from stepup.assurance import Decision, Evidence, Requirement, Unmet, evaluate

if TYPE_CHECKING:
    from stepup.statements import arecord, record

__all__ = ["Decision", "Evidence", "Requirement", "Unmet", "__version__", "arecord", "evaluate", "record"]


def __getattr__(name: str) -> Any:
    if name in ("arecord", "record"):
        from stepup import statements

        return getattr(statements, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
