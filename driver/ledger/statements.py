"""The statements that every job runs, built once: building one costs more than running it."""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa

from .records import JobState
from .schema import attempts, jobs

CLAIM_COLUMNS = (
    jobs.c.id,
    jobs.c.row_id,
    jobs.c.row_number,
    jobs.c.variant,
    jobs.c.names,
    jobs.c.inputs,
    jobs.c.model_key,
    jobs.c.stamp,
)

INSERT_ATTEMPT = attempts.insert()
END_ATTEMPT = (
    attempts.update()
    .where(attempts.c.id == sa.bindparam("attempt"))
    .values(
        state=sa.bindparam("to"),
        ended_at=sa.func.now(),
        seconds=sa.bindparam("took"),
        error_code=sa.bindparam("code"),
        error=sa.bindparam("message"),
    )
)


@cache
def claim(*, prefer: bool = False, avoid: bool = False) -> Any:
    """Take the next pending job, in one statement."""
    chosen = (
        sa.select(jobs.c.id)
        .where(
            jobs.c.run_id == sa.bindparam("in_run"),
            jobs.c.generation == sa.bindparam("in_generation"),
            jobs.c.state == JobState.PENDING.value,
        )
        .order_by(jobs.c.model_key, jobs.c.failures, jobs.c.row_number, jobs.c.variant)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if prefer:
        chosen = chosen.where(jobs.c.model_key == sa.bindparam("preferred"))
    if avoid:
        chosen = chosen.where(jobs.c.model_key.not_in(sa.bindparam("others", expanding=True)))
    return (
        jobs.update()
        .where(jobs.c.id == chosen.scalar_subquery())
        .values(state=JobState.SUBMITTED.value, attempts=jobs.c.attempts + 1)
        .returning(*CLAIM_COLUMNS, jobs.c.attempts)
    )


@cache
def move(columns: tuple[str, ...]) -> Any:
    """Bring a job from one of some states to another, and set columns beside it."""
    return (
        jobs.update()
        .where(jobs.c.id == sa.bindparam("job"), jobs.c.state.in_(sa.bindparam("before", expanding=True)))
        .values(state=sa.bindparam("to"), **{name: sa.bindparam(f"new_{name}") for name in columns})
    )
