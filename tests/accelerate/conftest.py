"""Cases that run with ComfyUI's Python, all of a session in one process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def measure(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What accelerated_in_comfyui.py found for a case (the tests' parameter ``case``)."""
    tests = [item for item in request.session.items if item.path.parent == Path(__file__).parent]
    cases = dict.fromkeys(json.dumps(test.callspec.params["case"]) for test in tests)
    path = tmp_path_factory.mktemp("path")
    (path / "promptmill").symlink_to(ROOT, target_is_directory=True)
    outside: Any = request.config.pluginmanager.get_plugin(str(ROOT / "tests" / "conftest.py"))
    process = subprocess.run(
        [outside.comfyui_python(), Path(__file__).with_name("accelerated_in_comfyui.py")],
        input=f"[{','.join(cases)}]",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=outside.comfyui_home(),
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(path), str(outside.comfyui_home())]),
            "OMP_NUM_THREADS": "1",
        },
    )
    results = dict(zip(cases, map(json.loads, process.stdout.splitlines()), strict=True))
    return lambda case: results[json.dumps(case)]
