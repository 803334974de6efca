"""Sphinx settings. `make docs` builds the pages; a warning is an error."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import django
from django.conf import settings

# Autodoc imports the modules, and some of them need a Django that has been set up.
settings.configure(
    SECRET_KEY="for building the documentation",  # noqa: S106 - nothing is signed with it
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "stepup"],
    USE_TZ=True,
)
django.setup()

from stepup import __version__  # noqa: E402 - after Django
from stepup.testing import plugin  # noqa: E402

# Autodoc knows functions, and not what pytest makes of them.
for name, fixture in list(vars(plugin).items()):
    if name.startswith("stepup_"):
        setattr(plugin, name, fixture.__wrapped__)

project = "django-stepup"
author = "the django-stepup contributors"
copyright = "2026, the django-stepup contributors"
version = release = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
nitpicky = True
# Other projects' documentation is not fetched, so that the build needs no network: only our own names have to be found.
nitpick_ignore_regex = [(r"py:.*", r"(?!stepup\.).*|stepup\.(decorators\.View|gate\.Aged|testing\.site\.Changes)")]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"django-stepup {release}"
html_static_path = ["_static"]
html_show_sourcelink = False
