"""The live table of a run on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..ledger.records import JobState
from ..runner import Board, Observer, RunEvent
from .output import Output

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

LOUD = frozenset({"failed", "quarantined", "cancelled", "retry", "server", "note"})


class LiveRun(Observer):
    """Shows a run: a live table when stderr is a terminal, otherwise a line per event."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._board: Board | None = None
        self._live: Live | None = None
        self._animated = sys.stderr.isatty() and not output.json

    def begin(self, board: Board) -> None:
        """Start the live table."""
        self._board = board
        if self._animated:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(self._table(), console=Console(stderr=True), auto_refresh=False)
            self._live.start()

    def event(self, event: RunEvent) -> None:
        """Say what happened."""
        if self._output.json:
            self._output.result(
                "", {"event": event.kind, **{k: v for k, v in asdict(event).items() if k != "kind"}}
            )
            return
        if self._animated and event.kind not in LOUD:
            return
        subject = f"row {event.row} ({event.id}) v{event.variant}" if event.row else event.server
        detail = ", ".join(event.files) or event.message
        line = f"{event.kind}: {detail}" if event.kind == "note" else f"{event.kind}: {subject}  {detail}"
        if self._live:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            self._output.talk(line)

    def tick(self) -> None:
        """Redraw the table."""
        if self._live:
            self._live.update(self._table(), refresh=True)

    def end(self) -> None:
        """Leave the last state of the table on the terminal."""
        if self._live:
            self.tick()
            self._live.stop()

    def _table(self) -> Table:
        from rich.table import Table

        board = self._board
        assert board is not None
        counts = board.counts
        bad = counts[JobState.FAILED] + counts[JobState.QUARANTINED]
        left = board.seconds_left()
        eta = "-" if left is None else _duration(left)
        title = (
            f"{counts[JobState.DONE]} done, {bad} failed, {board.remaining()} to go   "
            f"{board.rate():.1f} rows/min   {eta} left"
        )
        table = Table(title=title, title_justify="left", expand=False)
        for heading in ("server", "state", "in flight", "done", "failed", "now"):
            table.add_column(heading)
        for line in list(board.servers.values()):
            state = f"{line.state.value} {line.reason}".strip()
            cells = (line.url, state, str(line.in_flight), str(line.done), str(line.failed), line.progress)
            table.add_row(*cells)
        return table


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
