"""All the SQL. One connection pool, one transition function, short transactions."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ...errors import OutputError, PromptmillError
from . import statements
from .database import LedgerError, open_database
from .records import NEXT_STATES, AttemptState, ClaimedJob, JobState, PlannedJob, StoredImage
from .schema import attempts, images, jobs, runs
from .views import Views, claimed

PLAN_CHUNK = 500


class Ledger(Views):
    """A database of runs. Safe to share between the threads of one process.

    :param url: see :func:`~promptmill.driver.ledger.database.open_database`.
    :raises LedgerError: the database cannot be opened, or a record contradicts what is asked.
    """

    def __init__(self, url: str | sa.URL) -> None:
        self._engine = open_database(url)
        super().__init__(self._engine.execution_options(reading=True))
        self._writer = self._engine.connect()
        self._turn = threading.Lock()
        self._insert = (sqlite if self._engine.dialect.name == "sqlite" else postgresql).insert

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        """A transaction on the one connection that writes; the threads take turns."""
        try:
            with self._turn, self._writer.begin():
                yield self._writer
        except sa.exc.DBAPIError as error:
            raise LedgerError(
                f"the ledger cannot be written: {error.orig}",
                hint="mend that, then type the same command again: it goes on",
            ) from error

    def close(self) -> None:
        """Give the connections back."""
        self._writer.close()
        self._engine.dispose()

    # Runs

    def begin_run(self, run_id: str, table_path: str, table_sha256: str, fingerprint: str) -> int:
        """Record a run or its continuation. Returns the number of this planning, its generation."""
        with self._write() as connection:
            known = connection.execute(sa.select(runs.c.id).where(runs.c.id == run_id)).first()
            values = {"table_path": table_path, "table_sha256": table_sha256, "fingerprint": fingerprint}
            if known is None:
                connection.execute(runs.insert().values(id=run_id, **values))
            generation: int = connection.execute(
                runs.update()
                .where(runs.c.id == run_id)
                .values(generation=runs.c.generation + 1, **values)
                .returning(runs.c.generation)
            ).scalar_one()
            return generation

    def plan(self, run_id: str, generation: int, planned: Iterable[PlannedJob], *, whole: bool) -> None:
        """Bring the run's jobs in line with the table, in one transaction.

        New jobs are added as pending; unchanged ones keep their state; a changed row's earlier job is set
        aside. With ``whole`` (no ``--rows``, no ``--limit``) unfinished jobs of rows that left the table are
        cancelled.

        :raises OutputError: a selected row would take the name of a finished row that is not selected.
        """
        upsert = self._insert(jobs)
        upsert = upsert.on_conflict_do_update(
            index_elements=["run_id", "row_id", "variant", "digest"],
            set_={
                "generation": generation,
                "row_number": upsert.excluded.row_number,
                "line": upsert.excluded.line,
                "stamp": upsert.excluded.stamp,
                "state": sa.case((jobs.c.current, jobs.c.state), else_=JobState.PENDING.value),
                "failures": sa.case((jobs.c.current, jobs.c.failures), else_=0),
                "kills": sa.case((jobs.c.current, jobs.c.kills), else_=0),
                "current": True,
            },
        )
        left_behind = sa.and_(jobs.c.run_id == run_id, jobs.c.generation < generation, jobs.c.current)
        unfinished = jobs.c.state.in_([JobState.PENDING.value, JobState.SUBMITTED.value])
        twin = jobs.alias("twin")
        replaced = (
            sa.exists()
            .where(twin.c.run_id == run_id)
            .where(twin.c.row_id == jobs.c.row_id)
            .where(twin.c.variant == jobs.c.variant)
            .where(twin.c.generation == generation)
        )
        with self._write() as connection:
            for chunk in _chunks(planned, PLAN_CHUNK):
                connection.execute(upsert, [_job_values(run_id, generation, job) for job in chunk])
            anew = sa.select(jobs.c.id).where(
                jobs.c.run_id == run_id,
                jobs.c.generation == generation,
                jobs.c.state == JobState.PENDING.value,
            )
            connection.execute(
                attempts.update()
                .where(attempts.c.state == AttemptState.ACCEPTED.value, attempts.c.job_id.in_(anew))
                .values(state=AttemptState.SUPERSEDED.value)
            )
            cancelled = sa.case((unfinished, JobState.CANCELLED.value), else_=jobs.c.state)
            connection.execute(
                jobs.update().where(left_behind, replaced).values(current=False, state=cancelled)
            )
            if whole:
                connection.execute(
                    jobs.update()
                    .where(left_behind, unfinished)
                    .values(current=False, state=JobState.CANCELLED.value)
                )
                return
            taken = connection.execute(
                sa.select(jobs.c.names, jobs.c.row_id)
                .join(twin, sa.and_(twin.c.name_key == jobs.c.name_key, twin.c.run_id == run_id))
                .where(left_behind, jobs.c.state == JobState.DONE.value, twin.c.generation == generation)
                .limit(1)
            ).first()
            if taken:
                raise OutputError(
                    f"a selected row would take the file name of row {taken.row_id!r}",
                    value=taken.names.split("\n")[0],
                    hint="give both rows names of their own, or run the whole table",
                )

    # Claims and what becomes of them

    def claim(
        self, run_id: str, generation: int, server: str, *, prefer: str | None, avoid: Iterable[str]
    ) -> ClaimedJob | None:
        """Take the next pending job and record its attempt before anything is sent.

        :param prefer: the model key that the server has loaded; its rows come first.
        :param avoid: the model keys that other servers work on; their rows come last.
        """
        attempt_id = str(uuid.uuid4())
        prefix = f"promptmill/{run_id[:8]}/{attempt_id[:2]}/{attempt_id}"
        here = {"in_run": run_id, "in_generation": generation}
        choices = [(statements.claim(), here)]
        if others := sorted(set(avoid)):
            choices.insert(0, (statements.claim(avoid=True), {**here, "others": others}))
        if prefer is not None:
            choices.insert(0, (statements.claim(prefer=True), {**here, "preferred": prefer}))
        with self._write() as connection:
            for statement, parameters in choices:
                row = connection.execute(statement, parameters).first()
                if row is None:
                    continue
                attempt = {"id": attempt_id, "job_id": row.id, "number": row.attempts, "server": server}
                connection.execute(
                    statements.INSERT_ATTEMPT, {**attempt, "prefix": prefix, "state": AttemptState.OPEN.value}
                )
                return claimed(row, attempt_id, prefix)
        return None

    def adopt(self, run_id: str, generation: int) -> None:
        """Count what an earlier process left submitted among this planning's jobs, selected or not."""
        with self._write() as connection:
            connection.execute(
                jobs.update()
                .where(jobs.c.run_id == run_id, jobs.c.current, jobs.c.state == JobState.SUBMITTED.value)
                .values(generation=generation)
            )

    def complete(
        self, run_id: str, job: ClaimedJob, stored: list[StoredImage], seconds: float | None
    ) -> None:
        """Record the images of an attempt as the job's, and the job as done."""
        with self._write() as connection:
            self._move(connection, job.job_id, JobState.DONE, error_code="", error="")
            self._end(connection, job.attempt_id, AttemptState.ACCEPTED, seconds=seconds)
            _insert_images(connection, run_id, job.job_id, job.attempt_id, stored)

    def take_over(self, run_id: str, job_id: int, image: StoredImage) -> None:
        """Record an image that the canvas made of a pending job as the job's, and the job as done."""
        attempt_id = str(uuid.uuid4())
        attempt = {"id": attempt_id, "job_id": job_id, "number": 1, "server": "", "prefix": ""}
        with self._write() as connection:
            self._move(connection, job_id, JobState.SUBMITTED, attempts=1)
            self._move(connection, job_id, JobState.DONE, error_code="", error="")
            connection.execute(statements.INSERT_ATTEMPT, {**attempt, "state": AttemptState.OPEN.value})
            self._end(connection, attempt_id, AttemptState.ACCEPTED)
            _insert_images(connection, run_id, job_id, attempt_id, [image])

    def fail(
        self, job: ClaimedJob, error: PromptmillError, *, limit: int, killed_server: bool = False
    ) -> JobState:
        """Record a failed attempt; the job is tried again until it has failed ``limit`` times.

        A job that took its server down each time is quarantined. Returns the job's new state.
        """
        message = _storable(error.message)
        with self._write() as connection:
            before = connection.execute(
                sa.select(jobs.c.failures, jobs.c.kills).where(jobs.c.id == job.job_id)
            ).one()
            failures, kills = before.failures + 1, before.kills + killed_server
            state = JobState.PENDING
            if failures >= limit:
                state = JobState.QUARANTINED if kills == failures else JobState.FAILED
            counted = {"failures": failures, "kills": kills}
            self._move(connection, job.job_id, state, error_code=error.code, error=message, **counted)
            self._end(connection, job.attempt_id, AttemptState.FAILED, code=error.code, error=message)
        return state

    def release(
        self, job: ClaimedJob, how: AttemptState, reason: str, *, to: JobState = JobState.PENDING
    ) -> None:
        """End an attempt without blame: its job waits again (or is cancelled)."""
        with self._write() as connection:
            self._move(connection, job.job_id, to)
            self._end(connection, job.attempt_id, how, code=how.value, error=reason)

    def end_orphan(self, attempt_id: str, reason: str) -> None:
        """Record that an attempt ended after its job had been settled otherwise."""
        with self._write() as connection:
            self._end(
                connection, attempt_id, AttemptState.ORPHANED, code=AttemptState.ORPHANED.value, error=reason
            )

    def retry(self, run_id: str, generation: int, states: Iterable[JobState]) -> int:
        """Put jobs that ended without images back to pending, as this planning's only jobs. Returns how many."""
        wanted = [state.value for state in states]
        with self._write() as connection:
            return connection.execute(
                jobs.update()
                .where(jobs.c.run_id == run_id, jobs.c.current, jobs.c.state.in_(wanted))
                .values(
                    state=JobState.PENDING.value,
                    generation=generation,
                    failures=0,
                    kills=0,
                    error_code="",
                    error="",
                )
            ).rowcount

    def make_again(self, job_ids: Iterable[int]) -> None:
        """Put done jobs whose images are gone back to pending."""
        with self._write() as connection:
            for job_id in job_ids:
                again = {"state": JobState.PENDING.value, "failures": 0, "kills": 0}
                connection.execute(jobs.update().where(jobs.c.id == job_id).values(**again))
                connection.execute(
                    attempts.update()
                    .where(attempts.c.job_id == job_id, attempts.c.state == AttemptState.ACCEPTED.value)
                    .values(state=AttemptState.SUPERSEDED.value)
                )

    def set_aside(self, run_id: str, file_key: str, new_file: str, new_key: str) -> None:
        """An accepted image of an earlier job was moved: record its new place."""
        with self._write() as connection:
            connection.execute(
                images.update()
                .where(images.c.run_id == run_id, images.c.file_key == file_key)
                .values(file=new_file, file_key=new_key)
            )

    def forget_image(self, run_id: str, file_key: str) -> None:
        """Another image took the place of this one: it is not the run's any more."""
        with self._write() as connection:
            connection.execute(
                images.delete().where(images.c.run_id == run_id, images.c.file_key == file_key)
            )

    @staticmethod
    def _move(connection: sa.Connection, job_id: int, to: JobState, **values: Any) -> None:
        """The only way a claimed job leaves its state."""
        before = [state.value for state, following in NEXT_STATES.items() if to in following]
        new = {f"new_{name}": value for name, value in values.items()}
        moved = connection.execute(
            statements.move(tuple(values)), {"job": job_id, "before": before, "to": to.value, **new}
        )
        if moved.rowcount != 1:
            raise LedgerError(f"job {job_id} cannot become {to.value} now")

    @staticmethod
    def _end(
        connection: sa.Connection,
        attempt_id: str,
        state: AttemptState,
        *,
        seconds: float | None = None,
        code: str = "",
        error: str = "",
    ) -> None:
        connection.execute(
            statements.END_ATTEMPT,
            {
                "attempt": attempt_id,
                "to": state.value,
                "took": seconds,
                "code": code,
                "message": _storable(error),
            },
        )


def _job_values(run_id: str, generation: int, job: PlannedJob) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "row_id": job.row_id,
        "variant": job.variant,
        "digest": job.digest,
        "generation": generation,
        "current": True,
        "row_number": job.row_number,
        "line": job.line,
        "names": "\n".join(job.names),
        "name_key": job.name_key,
        "inputs": json.dumps(job.inputs, ensure_ascii=False),
        "prompt": job.prompt,
        "negative": job.negative,
        "seed": None if job.seed is None else str(job.seed),
        "model_key": job.model_key,
        "stamp": json.dumps(job.stamp),
        "state": JobState.PENDING.value,
    }


def _insert_images(
    connection: sa.Connection, run_id: str, job_id: int, attempt_id: str, stored: list[StoredImage]
) -> None:
    connection.execute(
        images.insert(),
        [
            {
                "run_id": run_id,
                "job_id": job_id,
                "attempt_id": attempt_id,
                "ordinal": ordinal,
                **asdict(image),
            }
            for ordinal, image in enumerate(stored, start=1)
        ],
    )


def _storable(text: str) -> str:
    """Without what no database takes: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _chunks(items: Iterable[PlannedJob], size: int) -> Iterator[list[PlannedJob]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
