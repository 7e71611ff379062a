"""Results go to stdout, talk to stderr; with --json one object per line."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from ...errors import Problems, PromptmillError


class Output:
    """Where a command's words go."""

    def __init__(self, *, json: bool = False) -> None:
        self.json = json

    def result(self, text: str, record: Mapping[str, Any]) -> None:
        """A result: its text for people, its record for programs."""
        unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        sys.stdout.write((json.dumps(record, ensure_ascii=not unicode) if self.json else text) + "\n")
        sys.stdout.flush()

    def talk(self, text: str) -> None:
        """A remark for the person at the terminal."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def error(self, error: PromptmillError) -> None:
        """What went wrong: every problem with its hint."""
        if not self.json:
            self.talk(f"error: {error}")
            return
        for problem in error if isinstance(error, Problems) else [error]:
            self.result("", problem.as_dict())
        if isinstance(error, Problems):
            self.result("", {"error": error.code, "total": error.total})
