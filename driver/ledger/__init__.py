"""The record of runs, jobs, attempts and images: what was asked, what was tried, what was kept."""

from .database import LedgerError
from .records import AttemptState, ClaimedJob, JobState, OpenAttempt, PlannedJob, StoredImage
from .store import Ledger

__all__ = [
    "AttemptState",
    "ClaimedJob",
    "JobState",
    "Ledger",
    "LedgerError",
    "OpenAttempt",
    "PlannedJob",
    "StoredImage",
]
