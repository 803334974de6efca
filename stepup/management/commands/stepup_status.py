"""`manage.py stepup_status`: what the site's URLs require, and whether that is still as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from stepup import conf, inventory
from stepup.conf import Settings
from stepup.inventory import Entry, Recorded
from stepup.middleware import StepUpMiddleware

NONE_SEEN = "none seen"


class Command(BaseCommand):
    help = (
        "Lists what each URL of this site requires, and where that is said. With --check it compares that with a list "
        "that was committed, and fails where they differ."
    )
    # It is to show what is wrong, and so has to work where something is.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--format", choices=("table", "json"), default="table", help="For people, or for programs.")
        parser.add_argument("--unprotected", action="store_true", help="Only the URLs on which no protection is seen.")
        parser.add_argument("--url-conf", help="Another URL conf than ROOT_URLCONF, as a dotted path.")
        either = parser.add_mutually_exclusive_group()
        either.add_argument("--check", metavar="FILE", help="Fail where the site differs from this list.")
        either.add_argument("--write", metavar="FILE", help="Write the list, or bring it up to date.")

    def handle(self, *args: Any, **options: Any) -> None:
        settings = conf.best_effort()
        try:
            found = list(inventory.entries(settings, options["url_conf"]))
        except (ImportError, ImproperlyConfigured, AttributeError) as error:
            raise CommandError(f"The URL conf cannot be read: {error}") from error
        if options["check"] or options["write"]:
            if problems := conf.problems():
                raise CommandError("\n".join(f"stepup.{problem.id}: {problem.message}" for problem in problems))
            if options["check"]:
                self._check(Path(options["check"]), found)
            else:
                self._write(Path(options["write"]), found)
        elif options["format"] == "json":
            json.dump(_plain(settings, found, options["unprotected"]), self.stdout, indent=2)
            self.stdout.write("")
        else:
            self._table(settings, found, options["unprotected"])

    def _check(self, path: Path, found: list[Entry]) -> None:
        recorded = _read(path)
        if differences := inventory.compare(found, recorded):
            update = f"To update the list: manage.py stepup_status --write {path}"
            raise CommandError("\n".join([f"The site differs from {path}:", *differences, update]))
        self.stdout.write(f"All is as {path} says ({len(recorded)} URL names).")

    def _write(self, path: Path, found: list[Entry]) -> None:
        recorded = _read(path) if path.exists() else {}
        try:
            path.write_text(inventory.render(found, recorded), encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error}") from error
        written = _read(path)
        self.stdout.write(f"{path} has {len(written)} URL names.")
        for left in inventory.compare(found, written):
            self.stdout.write(self.style.WARNING(left))

    def _table(self, settings: Settings, found: list[Entry], only_unprotected: bool) -> None:
        rows = [
            (
                entry.name or "(no name)",
                "part of signing in" if entry.is_own else entry.requirement if entry.doors else NONE_SEEN,
                ", ".join(dict.fromkeys(map(str, entry.doors))),
                entry.route,
            )
            for entry in _chosen(found, only_unprotected)
        ]
        header = ("URL name", "requirement", "from", "route")
        widths = [max(len(row[column]) for row in (header, *rows)) for column in range(3)]
        for number, row in enumerate((header, *rows)):
            line = "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]))
            self.stdout.write(self.style.MIGRATE_HEADING(line) if number == 0 else line)
        protected = sum(1 for entry in found if entry.doors)
        self.stdout.write(f"\n{protected} of {len(found)} URLs are protected.")
        for heading, lines in _remarks(settings, found).items():
            if lines:
                self.stdout.write("\n" + self.style.WARNING(heading))
                for line in lines:
                    self.stdout.write(f"  {line}")


def _chosen(found: list[Entry], only_unprotected: bool) -> list[Entry]:
    return [entry for entry in found if not (only_unprotected and (entry.doors or entry.is_own))]


def _remarks(settings: Settings, found: list[Entry]) -> dict[str, list[str]]:
    """What to look at, under a heading each."""
    off = []
    if not settings.enforced:
        off.append("Everywhere: CLIENTS_WITH_MFA leaves out this site's client id.")
    if settings.protected_views and not settings.installed(StepUpMiddleware):
        off.append("PROTECTED_VIEWS: StepUpMiddleware is not installed.")
    return {
        "Mistakes in the settings, while which no protected page opens:": [
            f"stepup.{problem.id}: {problem.message}" for problem in conf.problems()
        ],
        "Step-up is off:": off,
        "Only reported, and not enforced:": sorted(settings.report_only),
        "In PROTECTED_VIEWS, and no URL has that name:": inventory.unmatched(settings.protected_views, found),
        "These look sensitive, and no protection is seen:": [
            f"{entry.key} ({', '.join(words)})" for entry in found if (words := entry.looks_sensitive)
        ],
    }


def _plain(settings: Settings, found: list[Entry], only_unprotected: bool) -> dict[str, Any]:
    return {
        "version": 1,
        "enforced": settings.enforced,
        "middleware": settings.installed(StepUpMiddleware) is not None,
        "report_only": sorted(settings.report_only),
        "problems": [{"id": f"stepup.{problem.id}", "message": problem.message} for problem in conf.problems()],
        "unmatched": inventory.unmatched(settings.protected_views, found),
        "urls": [
            {
                "name": entry.name,
                "route": entry.route,
                "view": entry.view,
                "requirement": entry.requirement if entry.doors else None,
                "doors": [
                    {"kind": door.kind, "requirement": door.requirement, "entry": door.detail or None}
                    for door in entry.doors
                ],
                "sign_in": entry.is_own,
                "looks_sensitive": list(entry.looks_sensitive),
            }
            for entry in _chosen(found, only_unprotected)
        ],
    }


def _read(path: Path) -> dict[str, Recorded]:
    try:
        return inventory.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from error
