"""Cases that run with ComfyUI's Python, all of a session in one process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def measure(
    request: pytest.FixtureRequest, in_comfyui: Callable[..., dict[str, Any]]
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What rows_in_comfyui.py found for a case (the tests' parameter ``case``)."""
    tests = [
        item
        for item in request.session.items
        if "measure" in getattr(item, "fixturenames", ()) and item.path.parent == Path(__file__).parent
    ]
    cases = [test.callspec.params["case"] for test in tests]
    results = in_comfyui(Path(__file__).with_name("rows_in_comfyui.py"), cases)
    return lambda case: results[json.dumps(case)]
