from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from promptmill.driver.report import Entry

MakeEntry = Callable[..., Entry]


@pytest.fixture(scope="session")
def make_entry() -> MakeEntry:
    def make(number: int = 1, **changes: Any) -> Entry:
        values: dict[str, Any] = {
            "id": f"MUG-{number:03}", "row": number, "variant": 1, "index": 1, "file": f"mug_{number}.png",
            "sha256": "ab" * 32, "prompt": f"a red mug, number {number}", "negative": "blurry", "seed": number,
            "width": 1024, "height": 768, "server": "http://127.0.0.1:8188", "seconds": 1.5, "attempts": 1,
            "status": "done", "error": "", "thumbnail": "",
        }  # fmt: skip
        return Entry(**{**values, **changes})

    return make
