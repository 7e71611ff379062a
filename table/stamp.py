"""
What a finished image says of the job that it was made for.

The canvas and the driver both write it into the PNG, under the keyword ``promptmill``. So each recognizes the other's
work from the files alone, whatever crashed in between.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .jobs import Job

KEYWORD = "promptmill"


def stamp(job: Job) -> dict[str, Any]:
    """What the image of a job carries."""
    return {
        "id": job.row.id,
        "row": job.row.number,
        "variant": job.variant,
        "seed": job.seed,
        "prompt": job.prompt,
        "negative": job.negative,
        "digest": job.digest,
    }


def read_stamp(path: Path) -> dict[str, Any] | None:
    """What the image at ``path`` carries; None where there is no such file, it is no image, or carries nothing."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            found = json.loads(image.info.get(KEYWORD, "null"))
    except (OSError, ValueError, SyntaxError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def is_done(job: Job, out: Path) -> bool:
    """Whether the job's image is in its place, made from the same values."""
    found = read_stamp(out / job.file)
    return found is not None and found.get("digest") == job.digest
