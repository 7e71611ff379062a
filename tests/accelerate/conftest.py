"""Cases that run with ComfyUI's Python, all of a module in one process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="module")
def measure(
    request: pytest.FixtureRequest, in_comfyui: Callable[..., dict[str, Any]]
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What the script that a module names in SCRIPT found for a case (the tests' parameter ``case``)."""
    tests = [item for item in request.session.items if item.path == request.path]
    cases = [test.callspec.params["case"] for test in tests]
    results = in_comfyui(request.path.with_name(request.module.SCRIPT), cases)
    return lambda case: results[json.dumps(case)]
