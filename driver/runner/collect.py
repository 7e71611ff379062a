"""From "the server says it has ended" to verified, named, recorded images."""

from __future__ import annotations

import errno
import hashlib
import json
import threading
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ...errors import PromptmillError
from ...files import put_in_place, set_aside, stage
from ...table import name_key, read_stamp
from .. import images
from ..comfy import ComfyClient, ExecutionError, ImageMissing, ImageRef, JobState, Lookup
from ..ledger import ClaimedJob, Ledger, StoredImage
from ..recipe import Recipe
from ..report import THUMBNAIL_SIZE, save_thumbnail
from ..workflow import Graph, Target

if TYPE_CHECKING:
    from PIL.Image import Image


class ExecutionFailed(PromptmillError):
    """A node raised an exception."""

    code = "execution"

    def __init__(self, error: ExecutionError | None) -> None:
        self.kind = error.kind if error else "other"
        text = (
            f"{error.node_type} #{error.node_id}: {error.exception_type}: {error.message}" if error else None
        )
        super().__init__(text)


class DiskTrouble(PromptmillError):
    """The output folder cannot be written."""

    code = "disk"
    exit_code = 1


class End(Enum):
    """What collecting an attempt came to."""

    ACCEPTED = "accepted"
    """Its images are in place and recorded."""
    NOT_YET = "not yet"
    """The server still has it queued or running."""
    REFUSED = "refused"
    """It failed, or its images are not good."""
    CANCELLED = "cancelled"
    """It was interrupted at the server."""
    UNKNOWN = "unknown"
    """The server does not know it, and its files are nowhere."""


@dataclass(frozen=True)
class Outcome:
    """The end of collecting one attempt, with what goes with it."""

    end: End
    files: tuple[str, ...] = ()
    seconds: float | None = None
    error: PromptmillError | None = None
    running: bool = False


@dataclass(frozen=True)
class Told:
    """What the websocket said of an attempt up to its end; seconds by this machine's clock."""

    outputs: tuple[ImageRef, ...]
    seconds: float


@dataclass(frozen=True)
class Collector:
    """Collects attempts into one output folder. Safe to call from several threads."""

    out: Path
    run_id: str
    ledger: Ledger
    graph: Graph
    recipe: Recipe
    counted: bool
    """Whether the workflow tells for certain how many images a job makes."""
    resumed: bool
    """Whether the run had images before this call."""
    changed: set[tuple[str, int]]
    """(row id, variant) of rows that have an image from before they changed."""
    _moving: threading.Lock = field(default_factory=threading.Lock)

    def values(self, job: ClaimedJob) -> dict[Target, Any]:
        """The job's recorded inputs under their targets."""
        return {Target.parse(address): value for address, value in job.inputs.items()}

    def collect(self, client: ComfyClient, job: ClaimedJob, told: Told | None = None) -> Outcome:
        """Ask the server about an attempt and, when it has ended, bring its images home.

        What was ``told`` saves the question when it accounts for every image, each under this attempt's own
        prefix; whether they are good is judged all the same.

        :raises ServerGone: the server cannot be asked now.
        :raises DiskTrouble: the output folder or the ledger cannot be written.
        """
        if told is not None and self._is_complete(told, job):
            found = Lookup(JobState.DONE, told.outputs, seconds=told.seconds)
        else:
            found = client.lookup(job.attempt_id)
        if found.state in (JobState.PENDING, JobState.RUNNING):
            return Outcome(End.NOT_YET, running=found.state is JobState.RUNNING)
        if found.state is JobState.CANCELLED:
            return Outcome(End.CANCELLED)
        if found.state is JobState.FAILED:
            return Outcome(End.REFUSED, error=ExecutionFailed(found.error))
        try:
            if found.state is JobState.DONE:
                return self._keep(job, self._fetched(client, job, found), found.seconds)
            return self._recovered(client, job)
        except (images.ImageRefused, ImageMissing) as error:
            return Outcome(End.REFUSED, error=error)
        except OSError as error:
            raise DiskTrouble(
                "no space is left for the images" if error.errno == errno.ENOSPC else str(error),
                where=str(self.out),
                hint="mend that, then type the same command again: it goes on",
            ) from error

    def take_over(self, generation: int) -> int:
        """Accept the images that the canvas made of pending jobs into the same folder. Returns how many."""
        taken = 0
        for job in self.ledger.pending(self.run_id, generation):
            name: str = job["file"]
            found = read_stamp(self.out / name)
            if found is None or found.get("digest") != json.loads(job["stamp"]).get("digest"):
                continue
            data = (self.out / name).read_bytes()
            try:
                picture = images.decode(data, expected_size=None, allow_blank=self.recipe.allow_blank)
            except images.ImageRefused:
                continue
            image = self._stored(name, data, picture)
            recorded = self.ledger.image_at(self.run_id, image.file_key)
            if recorded and recorded["sha256"] == image.sha256:  # this run's own, which is to be made again
                continue
            self.ledger.forget_image(self.run_id, image.file_key)
            if (job["row_id"], job["variant"]) in self.changed:
                self._set_earlier_aside(job["row_id"], job["variant"])
            self.ledger.take_over(self.run_id, job["id"], image)
            taken += 1
        return taken

    def _stored(self, name: str, data: bytes, picture: Image) -> StoredImage:
        digest = hashlib.sha256(data).hexdigest()
        small = max(picture.size) <= THUMBNAIL_SIZE
        thumbnail = "" if small else save_thumbnail(picture, self.out, digest)
        return StoredImage(name, name_key(name), digest, picture.width, picture.height, len(data), thumbnail)

    def _is_complete(self, told: Told, job: ClaimedJob) -> bool:
        folder, _, stem = job.prefix.rpartition("/")
        own = all(
            image.type == "output"
            and image.subfolder.replace("\\", "/") == folder
            and image.filename.startswith(stem)
            for image in told.outputs
        )
        return self.counted and own and len(told.outputs) == len(job.names)

    def _fetched(self, client: ComfyClient, job: ClaimedJob, found: Lookup) -> list[bytes]:
        saved = [image for image in found.outputs if image.type == "output"]
        if not saved:
            raise images.ImageRefused(
                "the workflow ended without saving an image",
                hint="a node before the saver may have blocked it",
            )
        if len(saved) < len(job.names):
            raise images.ImageRefused(
                f"the workflow saved too few images, expected {len(job.names)}", value=len(saved)
            )
        return [client.fetch(image) for image in saved]

    def _recovered(self, client: ComfyClient, job: ClaimedJob) -> Outcome:
        """The server forgot the attempt: its file may be in place already, or still on the server's disk."""
        if not self.counted:
            return Outcome(End.UNKNOWN)
        finals = [self.out / name for name in job.names]
        if all(images.made_by(final, job.prefix) for final in finals):
            return self._keep(job, [final.read_bytes() for final in finals], None)
        folder, _, stem = job.prefix.rpartition("/")
        guesses = [
            ImageRef(f"{stem}_{number:05}_.png", folder, "output", "")
            for number in range(1, len(job.names) + 1)
        ]
        try:
            return self._keep(job, [client.fetch(guess) for guess in guesses], None)
        except (images.ImageRefused, ImageMissing):
            return Outcome(End.UNKNOWN)

    def _keep(self, job: ClaimedJob, files: list[bytes], seconds: float | None) -> Outcome:
        size = self.graph.expected_size(self.values(job))
        decoded = [
            images.decode(data, expected_size=size, allow_blank=self.recipe.allow_blank) for data in files
        ]
        parts = []
        try:
            for data in files:
                parts.append(stage(self.out / job.names[0], data))
            if (job.row_id, job.variant) in self.changed:
                self._set_earlier_aside(job.row_id, job.variant)
            stored = []
            for number, (data, picture, part) in enumerate(zip(files, decoded, parts, strict=True)):
                name = self._name(job, number)
                record = self._stored(name, data, picture)
                (self.out / name).parent.mkdir(parents=True, exist_ok=True)
                self._make_way(job, name)
                put_in_place(part, self.out / name)
                stored.append(record)
        finally:
            for part in parts:
                part.unlink(missing_ok=True)
        self.ledger.complete(self.run_id, job, stored, seconds)
        return Outcome(End.ACCEPTED, tuple(image.file for image in stored), seconds)

    def _name(self, job: ClaimedJob, number: int) -> str:
        if number < len(job.names):
            return job.names[number]
        last = PurePosixPath(job.names[-1])
        name = last.with_name(f"{last.stem}_{number + 1}{last.suffix}").as_posix()
        if (self.out / name).exists() and not images.made_by(self.out / name, job.prefix):
            name = last.with_name(f"{last.stem}_{number + 1}_{job.attempt_id[:8]}{last.suffix}").as_posix()
        return name

    def _make_way(self, job: ClaimedJob, name: str) -> None:
        """Keep aside what stands in the way of an image, on the disk or in the ledger."""
        with self._moving:
            key = name_key(name)
            recorded = self.ledger.image_at(self.run_id, key) if self.resumed else None
            standing = recorded["file"] if recorded else name
            if images.made_by(self.out / standing, job.prefix):
                return
            if recorded or (self.out / standing).exists():
                moved = set_aside(self.out, standing)
                self.ledger.set_aside(self.run_id, key, moved, name_key(moved))

    def _set_earlier_aside(self, row_id: str, variant: int) -> None:
        with self._moving:
            for file in self.ledger.earlier_images(self.run_id, row_id, variant):
                moved = set_aside(self.out, file)
                self.ledger.set_aside(self.run_id, name_key(file), moved, name_key(moved))
