"""The fake as a process of its own, to be killed: ``python -m promptmill.driver.testing``."""

from __future__ import annotations

import argparse
import contextlib
import threading
from pathlib import Path

from .catalogue import object_info
from .fake import FakeComfy


def main() -> None:
    """Serve until killed; the address is printed once it answers."""
    parser = argparse.ArgumentParser(prog="python -m promptmill.driver.testing", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--output-dir", type=Path)
    parser.add_argument("--seconds-per-job", type=float, default=0.0)
    parser.add_argument("--model", action="append", help="a checkpoint it offers; repeat for several")
    options = parser.parse_args()
    classes = object_info(options.model) if options.model else None
    with FakeComfy(
        options.port,
        output_dir=options.output_dir,
        seconds_per_job=options.seconds_per_job,
        object_info=classes,
    ) as fake:
        print(fake.url, flush=True)  # noqa: T201 - the result
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
