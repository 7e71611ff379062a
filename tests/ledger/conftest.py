"""Ledgers on SQLite and on PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from promptmill.driver.ledger import Ledger, PlannedJob


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    return str(request.getfixturevalue("postgresql"))


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = Ledger(ledger_url)
    yield ledger
    ledger.close()


@pytest.fixture
def run_id() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def planned() -> Callable[..., PlannedJob]:
    def make(
        row: int, *, digest: str = "d", variant: int = 1, model: str = "[]", name: str = ""
    ) -> PlannedJob:
        return PlannedJob(
            row_id=f"S{row}",
            variant=variant,
            digest=digest,
            row_number=row,
            line=row + 1,
            names=(name or f"S{row}_{variant}.png",),
            name_key=name or f"s{row}_{variant}.png",
            inputs={"#6.text": "红色马克杯", "#3.seed": 2**64 - 1},
            prompt="红色马克杯",
            negative="",
            seed=2**64 - 1,
            model_key=model,
            stamp={"digest": digest},
        )

    return make
