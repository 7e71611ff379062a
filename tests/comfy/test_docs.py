from __future__ import annotations

import re
from pathlib import Path

import pytest

from promptmill.driver.testing import faults
from promptmill.driver.testing.fake import FakeComfy

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
SAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.mark.parametrize("sample", SAMPLES)
def test_samples_run(sample, capsys):
    exec(compile(sample, "docs/testing.md", "exec"), {})  # noqa: S102


def test_every_action_is_documented():
    for kind in (faults.WhenRequest, faults.WhenPrompt, faults.WhenMessage):
        for name in vars(kind):
            assert name.startswith("_") or f"`{name}(" in PAGE, name
    for name in vars(FakeComfy):
        if name.startswith("on_"):
            assert f"`fake.{name}()`" in PAGE
