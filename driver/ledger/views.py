"""What can be asked of a ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from ...files import SUPERSEDED
from .records import AttemptState, ClaimedJob, JobState, OpenAttempt
from .schema import attempts, images, jobs, runs
from .statements import CLAIM_COLUMNS


class Views:
    """The questions; asking takes no lock that a writer waits for."""

    def __init__(self, reader: sa.Engine) -> None:
        self._reader = reader

    def run(self, run_id: str) -> sa.RowMapping | None:
        """What is recorded of a run: table_path, table_sha256, fingerprint, generation."""
        with self._reader.connect() as connection:
            return connection.execute(sa.select(runs).where(runs.c.id == run_id)).mappings().first()

    def open_attempts(self, run_id: str) -> list[tuple[OpenAttempt, bool]]:
        """Attempts of an earlier process, each with whether its job still waits for it."""
        query = (
            sa.select(
                *CLAIM_COLUMNS,
                jobs.c.state,
                attempts.c.id.label("attempt_id"),
                attempts.c.prefix,
                attempts.c.server,
            )
            .join(attempts, attempts.c.job_id == jobs.c.id)
            .where(jobs.c.run_id == run_id, attempts.c.state == AttemptState.OPEN.value)
            .order_by(attempts.c.created_at)
        )
        with self._reader.connect() as connection:
            return [
                (
                    OpenAttempt(row.server, claimed(row, row.attempt_id, row.prefix)),
                    row.state == JobState.SUBMITTED.value,
                )
                for row in connection.execute(query)
            ]

    def has_images(self, run_id: str) -> bool:
        """Whether the run has recorded any image."""
        with self._reader.connect() as connection:
            return (
                connection.execute(sa.select(images.c.id).where(images.c.run_id == run_id).limit(1)).first()
                is not None
            )

    def image_at(self, run_id: str, file_key: str) -> sa.RowMapping | None:
        """The recorded image under this key: its ``file`` and ``sha256``."""
        query = sa.select(images.c.file, images.c.sha256).where(
            images.c.run_id == run_id, images.c.file_key == file_key
        )
        with self._reader.connect() as connection:
            return connection.execute(query).mappings().first()

    def changed_rows(self, run_id: str) -> set[tuple[str, int]]:
        """Rows and variants that have an image in its place from before they changed."""
        with self._reader.connect() as connection:
            found = connection.execute(
                _earlier_images(run_id).with_only_columns(jobs.c.row_id, jobs.c.variant)
            )
            return {(row_id, variant) for row_id, variant in found}

    def earlier_images(self, run_id: str, row_id: str, variant: int) -> list[str]:
        """The files that a row still has in their places from before it changed."""
        query = _earlier_images(run_id).where(jobs.c.row_id == row_id, jobs.c.variant == variant)
        with self._reader.connect() as connection:
            return [row.file for row in connection.execute(query)]

    def files_in_place(self, run_id: str, generation: int) -> Iterator[tuple[int, str, int]]:
        """The job, the file and its size in bytes of every accepted image of this planning."""
        query = (
            sa.select(images.c.job_id, images.c.file, images.c.size)
            .join(jobs, images.c.job_id == jobs.c.id)
            .where(
                jobs.c.run_id == run_id,
                jobs.c.generation == generation,
                jobs.c.state == JobState.DONE.value,
                sa.not_(images.c.file.startswith(f"{SUPERSEDED}/")),
            )
        )
        with self._reader.connect() as connection:
            found = connection.execution_options(yield_per=1000).execute(query)
            yield from ((job_id, file, size) for job_id, file, size in found)

    def pending(self, run_id: str, generation: int) -> list[sa.RowMapping]:
        """Id, row_id, variant, file and stamp of the jobs of this planning that wait and make one image."""
        columns = jobs.c.id, jobs.c.row_id, jobs.c.variant, jobs.c.names.label("file"), jobs.c.stamp
        query = sa.select(*columns).where(
            jobs.c.run_id == run_id,
            jobs.c.generation == generation,
            jobs.c.state == JobState.PENDING.value,
            sa.not_(jobs.c.names.contains("\n")),
        )
        with self._reader.connect() as connection:
            return list(connection.execute(query).mappings())

    def counts(self, run_id: str, generation: int | None = None) -> dict[JobState, int]:
        """Current jobs by state, of the whole run or of one planning."""
        query = (
            sa.select(jobs.c.state, sa.func.count())
            .where(jobs.c.run_id == run_id, jobs.c.current)
            .group_by(jobs.c.state)
        )
        if generation is not None:
            query = query.where(jobs.c.generation == generation)
        with self._reader.connect() as connection:
            found = {JobState(state): count for state, count in connection.execute(query)}
        return {state: found.get(state, 0) for state in JobState}

    def entries(self, run_id: str) -> Iterator[sa.RowMapping]:
        """A line per image, and per current job without one, in table order."""
        accepted = sa.and_(attempts.c.job_id == jobs.c.id, attempts.c.state == AttemptState.ACCEPTED.value)
        of_attempt = images.c.attempt_id == attempts.c.id
        query = (
            sa.select(
                jobs.c.row_id,
                jobs.c.row_number,
                jobs.c.variant,
                jobs.c.prompt,
                jobs.c.negative,
                jobs.c.seed,
                jobs.c.state,
                jobs.c.attempts,
                jobs.c.error,
                attempts.c.server,
                attempts.c.seconds,
                images.c.ordinal,
                images.c.file,
                images.c.sha256,
                images.c.width,
                images.c.height,
                images.c.thumbnail,
            )
            .select_from(jobs.outerjoin(attempts, accepted).outerjoin(images, of_attempt))
            .where(jobs.c.run_id == run_id, jobs.c.current)
            .order_by(jobs.c.row_number, jobs.c.variant, images.c.ordinal)
        )
        with self._reader.connect() as connection:
            yield from connection.execution_options(yield_per=1000).execute(query).mappings()

    def attempts(self, run_id: str, row_id: str | None = None) -> list[sa.RowMapping]:
        """Every attempt of a run (or of one row) in the order they were made."""
        query = (
            sa.select(jobs.c.row_id, jobs.c.variant, jobs.c.names, attempts)
            .join(attempts, attempts.c.job_id == jobs.c.id)
            .where(jobs.c.run_id == run_id)
            .order_by(attempts.c.created_at, attempts.c.number)
        )
        if row_id is not None:
            query = query.where(jobs.c.row_id == row_id)
        with self._reader.connect() as connection:
            return list(connection.execute(query).mappings())


def _earlier_images(run_id: str) -> sa.Select[tuple[str]]:
    twin = jobs.alias("twin")
    changed = (
        sa.exists()
        .where(twin.c.run_id == run_id, twin.c.current)
        .where(twin.c.row_id == jobs.c.row_id, twin.c.variant == jobs.c.variant)
    )
    return (
        sa.select(images.c.file)
        .join(jobs, images.c.job_id == jobs.c.id)
        .where(jobs.c.run_id == run_id, sa.not_(jobs.c.current), changed)
        .where(sa.not_(images.c.file.startswith(f"{SUPERSEDED}/")))
    )


def claimed(row: Any, attempt_id: str, prefix: str) -> ClaimedJob:
    """The record of a row of ``CLAIM_COLUMNS``."""
    return ClaimedJob(
        job_id=row.id,
        row_id=row.row_id,
        row_number=row.row_number,
        variant=row.variant,
        names=tuple(row.names.split("\n")),
        inputs=json.loads(row.inputs),
        model_key=row.model_key,
        stamp=json.loads(row.stamp),
        attempt_id=attempt_id,
        prefix=prefix,
    )
