"""The matrix: every Python with every Django that Django itself supports on it. `nox -l` lists the sessions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = True

SUPPORTED = {
    "3.10": ["5.2"],
    "3.11": ["5.2"],
    "3.12": ["5.2", "6.0", "6.1"],
    "3.13": ["5.2", "6.0", "6.1"],
    "3.14": ["5.2", "6.0", "6.1"],
}


def _offer_all_pyenv_interpreters() -> None:
    """pyenv's shims refuse a version that is installed but not selected, so select all that matter."""
    if pyenv := shutil.which("pyenv"):
        listed = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True, check=False).stdout
        wanted = [version for version in listed.split() if re.fullmatch(r"3\.1[0-4]\.\d+", version)]
        if wanted:
            os.environ["PYENV_VERSION"] = ":".join(wanted)


def _exists(python: str) -> bool:
    found = shutil.which(f"python{python}")
    return found is not None and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0


_offer_all_pyenv_interpreters()
# Python 3.14 is supported, but many machines have none yet. The others are not left out, wherever this runs.
MATRIX = [
    (python, django)
    for python, djangos in SUPPORTED.items()
    for django in djangos
    if python != "3.14" or _exists(python)
]


#: What depends little on versions and takes half of the time: not between the ends of the matrix.
AT_THE_ENDS = ("fuzz", "kit_plugin", "packaging", "personalities", "property", "provider_op")


@nox.session
@nox.parametrize(("python", "django"), MATRIX, ids=[f"python{python}-django{django}" for python, django in MATRIX])
def tests(session: nox.Session, django: str) -> None:
    """The test suite, without the browser."""
    session.install("-e", ".[test]", f"django~={django}.0")
    is_end = (session.python, django) in (MATRIX[0], MATRIX[-1])
    left_out = () if is_end else tuple(f"--ignore=tests/test_{name}.py" for name in AT_THE_ENDS)
    session.run("python", "-m", "pytest", "-q", "--numprocesses", "auto", *left_out, *session.posargs)
