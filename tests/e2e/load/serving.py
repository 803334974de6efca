"""How gunicorn serves it: some workers, each with some threads. gunicorn reads the names of this module."""

from __future__ import annotations

import os

wsgi_app = "tests.e2e.load.wsgi:application"
bind = f"127.0.0.1:{os.environ['LOAD_SITE_PORT']}"
workers = 3
worker_class = "gthread"
threads = 8
backlog = 1024
# Before the workers are forked or in each of them: a site may be served in either way.
preload_app = os.environ["LOAD_PRELOAD"] == "1"
# Only the test ends workers here, so that each lost connection is of its doing.
timeout = 300
graceful_timeout = 10
control_socket_disable = True
