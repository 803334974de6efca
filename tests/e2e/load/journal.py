"""Lines of JSON that several processes append to, and of which a killed one leaves none half written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

#: One thing that happened. Times are seconds since the epoch, of the one clock of this machine.
Entry = dict[str, Any]


class Journal:
    """A file that is only appended to. `O_APPEND` and one `write` for each line keep the lines of processes apart."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, **entry: Any) -> None:
        os.write(self._file, json.dumps(entry, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)

    def read(self) -> list[Entry]:
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]
