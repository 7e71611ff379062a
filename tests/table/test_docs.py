"""docs/tables.md says what happens."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from promptmill.table import ALIASES

PAGE = (Path(__file__).parents[2] / "docs" / "tables.md").read_text("utf-8")


def test_samples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    samples = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    test = doctest.DocTestParser().get_doctest(samples, {}, "tables.md", "tables.md", 0)

    results = doctest.DocTestRunner().run(test)

    assert results.attempted > 10
    assert results.failed == 0


def test_every_known_column_is_listed():
    listed = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE))

    assert listed == {name: ", ".join((name, *aliases)) for name, aliases in ALIASES.items()}
