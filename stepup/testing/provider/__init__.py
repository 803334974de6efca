"""A small OpenID Provider, "Harbour ID": for demos, for the development of a site, and for tests.

It keeps everything in memory, runs in a process of its own, and refuses to run for anything else. Starting it needs
the packages of `django-stepup[provider]`; importing this module does not.
"""

from stepup.testing.provider.action import MULTI_FACTOR
from stepup.testing.provider.configuration import (
    DEFAULT_USERS,
    WELL_BEHAVED,
    Client,
    Configuration,
    ConfigurationError,
    User,
    from_site,
)
from stepup.testing.provider.launcher import (
    AuthenticationRecord,
    ProviderError,
    RequestRecord,
    RunningProvider,
    launch,
)

__all__ = [
    "DEFAULT_USERS",
    "MULTI_FACTOR",
    "WELL_BEHAVED",
    "AuthenticationRecord",
    "Client",
    "Configuration",
    "ConfigurationError",
    "ProviderError",
    "RequestRecord",
    "RunningProvider",
    "User",
    "from_site",
    "launch",
]
