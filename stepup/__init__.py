"""Step-up authentication for Django: pages that open only after multi-factor authentication at the OpenID Provider.

The names here need no Django; the doors are in `stepup.decorators`, `stepup.mixins` and `stepup.middleware`.
"""

from stepup._version import __version__
from stepup.assurance import Decision, Evidence, Requirement, Unmet, evaluate

__all__ = ["Decision", "Evidence", "Requirement", "Unmet", "__version__", "evaluate"]
