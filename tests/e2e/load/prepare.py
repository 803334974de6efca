"""Makes the tables of the site, in a process of its own: `python -m tests.e2e.load.prepare`."""

from __future__ import annotations

import django
from django.core.management import call_command
from django.db import connection


def main() -> None:
    django.setup()
    call_command("migrate", verbosity=0)
    call_command("createcachetable", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE posts (id text NOT NULL, author text NOT NULL)")


if __name__ == "__main__":
    main()
