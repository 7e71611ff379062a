"""The ledger's promises, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from promptmill.driver.ledger import (
    AttemptState,
    ClaimedJob,
    JobState,
    Ledger,
    LedgerError,
    PlannedJob,
    StoredImage,
)
from promptmill.driver.ledger.database import open_database
from promptmill.driver.ledger.records import NEXT_STATES
from promptmill.driver.ledger.schema import metadata
from promptmill.errors import OutputError, PromptmillError

SERVER = "http://127.0.0.1:8188"
Make = Callable[..., PlannedJob]


def plan(ledger: Ledger, run_id: str, *jobs: PlannedJob, whole: bool = True) -> int:
    generation = ledger.begin_run(run_id, "/t.csv", "sha", "print")
    ledger.plan(run_id, generation, jobs, whole=whole)
    return generation


def claim(ledger: Ledger, run_id: str, generation: int = 1, **given: Any) -> ClaimedJob | None:
    return ledger.claim(
        run_id,
        generation,
        given.get("server", SERVER),
        prefer=given.get("prefer"),
        avoid=given.get("avoid", ()),
    )


def image(job: ClaimedJob) -> StoredImage:
    return StoredImage(job.names[0], job.names[0].casefold(), "0" * 64, 64, 64, 100, "t.jpg")


def test_a_claimed_job_comes_back_as_it_was_planned(ledger: Ledger, run_id: str, planned: Make) -> None:
    plan(ledger, run_id, planned(1))

    job = claim(ledger, run_id)

    assert job is not None
    assert job.inputs == {"#6.text": "红色马克杯", "#3.seed": 2**64 - 1}
    assert job.prefix.endswith(job.attempt_id)
    assert claim(ledger, run_id) is None
    ((attempt, wanted),) = ledger.open_attempts(run_id)
    assert (attempt.job, attempt.server, wanted) == (job, SERVER, True)


def test_concurrent_claims_never_give_a_job_twice(ledger: Ledger, run_id: str, planned: Make) -> None:
    plan(ledger, run_id, *(planned(row) for row in range(1, 61)))
    claimed: list[int] = []

    def work() -> None:
        while job := claim(ledger, run_id):
            claimed.append(job.job_id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(claimed) == len(set(claimed)) == 60


def test_claims_prefer_the_loaded_model_and_avoid_the_others(
    ledger: Ledger, run_id: str, planned: Make
) -> None:
    plan(
        ledger,
        run_id,
        planned(1, model="a"),
        planned(2, model="b"),
        planned(3, model="b"),
        planned(4, model="c"),
    )

    order = [
        claim(ledger, run_id, prefer="b", avoid={"a"}),
        claim(ledger, run_id, prefer="b", avoid={"a"}),
        claim(ledger, run_id, prefer="b", avoid={"a"}),
        claim(ledger, run_id, prefer="b", avoid={"a"}),
    ]

    assert [job.row_number for job in order if job] == [2, 3, 4, 1]


def test_a_failed_job_goes_to_the_end_and_fails_at_the_limit(
    ledger: Ledger, run_id: str, planned: Make
) -> None:
    plan(ledger, run_id, planned(1), planned(2))
    first = claim(ledger, run_id)
    assert first is not None

    assert ledger.fail(first, PromptmillError("bad"), limit=2) is JobState.PENDING
    second = claim(ledger, run_id)
    again = claim(ledger, run_id)
    assert second is not None
    assert again is not None
    assert (second.row_number, again.row_number) == (2, 1)
    assert ledger.fail(again, PromptmillError("bad"), limit=2) is JobState.FAILED
    assert ledger.retry(run_id, 2, [JobState.FAILED]) == 1
    assert ledger.counts(run_id)[JobState.PENDING] == 1


def test_a_job_that_only_killed_servers_is_quarantined(ledger: Ledger, run_id: str, planned: Make) -> None:
    plan(ledger, run_id, planned(1))

    states = []
    for _ in range(2):
        job = claim(ledger, run_id)
        assert job is not None
        states.append(ledger.fail(job, PromptmillError("dead"), limit=2, killed_server=True))

    assert states == [JobState.PENDING, JobState.QUARANTINED]


def test_a_settled_job_cannot_be_settled_again(ledger: Ledger, run_id: str, planned: Make) -> None:
    plan(ledger, run_id, planned(1))
    job = claim(ledger, run_id)
    assert job is not None
    ledger.complete(run_id, job, [image(job)], 1.5)

    with pytest.raises(LedgerError):
        ledger.complete(run_id, job, [image(job)], 1.5)
    with pytest.raises(LedgerError):
        ledger.fail(job, PromptmillError("late"), limit=1)
    with pytest.raises(LedgerError):
        ledger.release(job, AttemptState.LOST, "late")

    (entry,) = ledger.entries(run_id)
    assert (entry["state"], entry["file"], entry["seconds"], entry["seed"]) == (
        "done",
        "S1_1.png",
        1.5,
        str(2**64 - 1),
    )


def test_a_file_belongs_to_one_image(ledger: Ledger, run_id: str, planned: Make) -> None:
    plan(ledger, run_id, planned(1), planned(2))
    one, two = claim(ledger, run_id), claim(ledger, run_id)
    assert one is not None
    assert two is not None
    ledger.complete(run_id, one, [image(one)], None)

    with pytest.raises(LedgerError, match=r"(?i)unique"):
        ledger.complete(run_id, two, [image(one)], None)

    assert ledger.counts(run_id)[JobState.SUBMITTED] == 1, "the whole transaction was taken back"


def test_planning_again_keeps_what_is_done_and_replaces_what_changed(
    ledger: Ledger, run_id: str, planned: Make
) -> None:
    plan(ledger, run_id, planned(1), planned(2), planned(3))
    for _ in range(2):
        job = claim(ledger, run_id)
        assert job is not None
        ledger.complete(run_id, job, [image(job)], None)

    generation = plan(ledger, run_id, planned(1), planned(2, digest="new"))

    assert generation == 2
    counts = ledger.counts(run_id)
    assert (counts[JobState.DONE], counts[JobState.PENDING]) == (1, 1), "row 3 left the table unmade"


def test_a_selection_leaves_the_other_rows_alone(ledger: Ledger, run_id: str, planned: Make) -> None:
    plan(ledger, run_id, planned(1), planned(2), planned(3))

    generation = plan(ledger, run_id, planned(2), whole=False)

    job = claim(ledger, run_id, generation)
    assert job is not None
    assert job.row_number == 2
    assert claim(ledger, run_id, generation) is None
    assert ledger.counts(run_id)[JobState.PENDING] == 2


def test_a_selected_row_may_not_take_the_name_of_a_finished_one(
    ledger: Ledger, run_id: str, planned: Make
) -> None:
    plan(ledger, run_id, planned(1))
    job = claim(ledger, run_id)
    assert job is not None
    ledger.complete(run_id, job, [image(job)], None)

    with pytest.raises(OutputError, match="S1"):
        plan(ledger, run_id, planned(2, name="s1_1.png"), whole=False)

    assert ledger.counts(run_id)[JobState.PENDING] == 0


def test_migrations_and_schema_are_the_same(ledger_url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = open_database(ledger_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_a_ledger_of_a_newer_version_is_refused(ledger_url: str, ledger: Ledger) -> None:
    engine = open_database(ledger_url)
    with engine.begin() as connection:
        before = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    try:
        with pytest.raises(LedgerError, match="newer"):
            Ledger(ledger_url)
    finally:
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = :v"), {"v": before})
        engine.dispose()


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "sqlite:////nowhere/at/all/ledger.sqlite"])
def test_an_unusable_url_is_an_error_with_a_hint(url: str) -> None:
    with pytest.raises(LedgerError) as caught:
        Ledger(url)

    assert "--database" in caught.value.hint


def test_a_password_is_never_shown() -> None:
    with pytest.raises(LedgerError) as caught:
        Ledger("postgresql://user:secret@127.0.0.1:9/none")

    assert "secret" not in str(caught.value)


def test_every_state_but_done_can_be_left() -> None:
    assert [state for state, following in NEXT_STATES.items() if not following] == [JobState.DONE]
