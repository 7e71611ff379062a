"""The states and the frozen records that pass between the ledger and the rest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class JobState(str, Enum):
    """Where a job stands."""

    PENDING = "pending"
    """Not on any server; may be claimed."""
    SUBMITTED = "submitted"
    """One open attempt is on its way to, on, or back from a server."""
    DONE = "done"
    """Its image set was verified, named and recorded."""
    FAILED = "failed"
    """Its attempts are used up; the last error is recorded."""
    QUARANTINED = "quarantined"
    """Servers died while they worked on it; it is not tried again by itself."""
    CANCELLED = "cancelled"
    """It left the table before it was made, or somebody cancelled it and the recipe says to accept that."""


NEXT_STATES: dict[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset({JobState.SUBMITTED, JobState.CANCELLED}),
    JobState.SUBMITTED: frozenset(
        {JobState.DONE, JobState.PENDING, JobState.FAILED, JobState.QUARANTINED, JobState.CANCELLED}
    ),
    JobState.DONE: frozenset(),
    JobState.FAILED: frozenset({JobState.PENDING}),
    JobState.QUARANTINED: frozenset({JobState.PENDING}),
    JobState.CANCELLED: frozenset({JobState.PENDING}),
}
"""A job moves only along these. Back to pending from a terminal state: by ``retry``, or by an edit of the table."""


class AttemptState(str, Enum):
    """How one submission ended."""

    OPEN = "open"
    """Recorded before it is sent; its end is not known yet."""
    ACCEPTED = "accepted"
    """Its images are the job's images."""
    FAILED = "failed"
    """It ended in an error, or its images were refused."""
    LOST = "lost"
    """The server does not know it (any more), or could not be asked."""
    CANCELLED = "cancelled"
    """It was taken back, by this driver or by somebody at the server."""
    ORPHANED = "orphaned"
    """It ended after its job had been settled otherwise; its images are not used."""
    SUPERSEDED = "superseded"
    """Once accepted; its row was changed and changed back since, and is made anew."""


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """One row × variant, ready to be recorded."""

    row_id: str
    variant: int
    digest: str
    row_number: int
    line: int
    names: tuple[str, ...]
    name_key: str
    inputs: dict[str, Any]
    prompt: str
    negative: str
    seed: int | None
    model_key: str
    stamp: dict[str, Any]
    """What its image carries about itself, see ``table.stamp``."""


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job with the open attempt that the ledger recorded for it."""

    job_id: int
    row_id: str
    row_number: int
    variant: int
    names: tuple[str, ...]
    inputs: dict[str, Any]
    model_key: str
    stamp: dict[str, Any]
    attempt_id: str
    prefix: str


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt of an earlier process whose end is not recorded."""

    server: str
    job: ClaimedJob


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image in its place in the output folder."""

    file: str
    file_key: str
    sha256: str
    width: int
    height: int
    size: int
    thumbnail: str
