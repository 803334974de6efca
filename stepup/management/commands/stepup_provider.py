"""`manage.py stepup_provider`: an OpenID Provider for the development of this site."""

from __future__ import annotations

import signal
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import NoReverseMatch, reverse

from stepup import conf
from stepup.testing.provider import (
    WELL_BEHAVED,
    Configuration,
    ConfigurationError,
    ProviderError,
    from_site,
    launch,
)


class Command(BaseCommand):
    help = (
        "Runs a small OpenID Provider for the development of this site, in a process of its own. "
        "STEPUP_PROVIDER in the settings says who can sign in; without it there are three people."
    )
    # The site's checks may need a provider, which is what this starts.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, help="The port to listen on. 0 takes a free one.")
        parser.add_argument("--host", help="The loopback address to listen on.")
        parser.add_argument("--personality", help="How to misbehave, to see what the site makes of it.")
        parser.add_argument("--list-personalities", action="store_true", help="Say which there are, and end.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["list_personalities"]:
            self._list_personalities()
            return
        if not settings.DEBUG:
            raise CommandError("This provider is for development: its passwords are published. It needs DEBUG.")
        # A polite end asked for from outside stops the provider as well.
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            self._run(_configuration(options["host"], options["port"], options["personality"]))
        except (ConfigurationError, ProviderError) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            self.stdout.write("")
        finally:
            signal.signal(signal.SIGTERM, before)

    def _list_personalities(self) -> None:
        try:
            from stepup.testing.provider.personalities import PERSONALITIES, what_it_does
        except ImportError as error:
            raise CommandError(f"It needs the packages of django-stepup[provider] ({error}).") from error
        for name in PERSONALITIES:
            self.stdout.write(f"{name}: {what_it_does(name)}")

    def _run(self, configuration: Configuration) -> None:
        with launch(configuration) as provider:
            self.stdout.write(f"Harbour ID is at {provider.issuer} (quit with Ctrl-C). People:")
            if configuration.personality != WELL_BEHAVED:
                self.stderr.write(f"It misbehaves on purpose: {configuration.personality}.")
            for user in configuration.users:
                self.stdout.write(f"  {user.username}  password {user.password}")
            # Where the output is a pipe, as under a process manager, it would be held back otherwise.
            self.stdout.flush()
            status = provider.wait()
        raise ProviderError(f"the provider has ended with status {status}")


def _configuration(host: str | None, port: int | None, personality: str | None) -> Configuration:
    # Not the settings in force: those want an issuer, which may only become known when this runs.
    site = conf.best_effort()
    try:
        callback_path = reverse(site.callback_url_name)
    except NoReverseMatch:
        callback_path = None
    return from_site(
        site.development_provider,
        client_id=site.client_id,
        client_secret=site.client_secret,
        sign_algo=site.algorithms[0],
        callback_path=callback_path,
        host=host,
        port=port,
        personality=personality,
    )
