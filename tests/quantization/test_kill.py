"""Given a conversion that is killed anywhere, expect the same command to end in the same file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")


@pytest.mark.parametrize(
    ("model", "form", "seeds"), [("ernie", "fp8", range(10)), ("unknown", "int8", range(10, 20))]
)
def test_killed_at_a_random_byte_it_goes_on(request, write, model, form, seeds):
    source = write(request.getfixturevalue(model))

    told = subprocess.run(
        [
            sys.executable,
            Path(__file__).with_name("kill_converting.py"),
            source,
            source.with_name("target.safetensors"),
            form,
            *map(str, seeds),
        ],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    found = [json.loads(line) for line in told.stdout.splitlines()]
    assert [seed["wrong"] for seed in found] == [[]] * 10
    assert sum(seed["deaths"] for seed in found) >= 10
