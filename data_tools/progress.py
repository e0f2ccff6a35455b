"""What a person sees while a stage works: files, clips, hours, failures, time left. All of it goes to stderr."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from t2v.data.manifest import ClipRow


class Progress:
    """A bar on a terminal, and one line of totals at the end; silent when quiet."""

    def __init__(self, name: str, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._name = name
        self._files = self._clips = self._failed = 0
        self._seconds = 0.0
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("files, {task.fields[totals]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        self._bar = Bar(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self._task = self._bar.add_task(name, total=None, totals=self.totals)

    @property
    def totals(self) -> str:
        """Clips, hours and failures so far."""
        return f"{self._clips} clips, {self._seconds / 3600:.2f} h, {self._failed} failed"

    def start(self, num_files: int, done: list[list[ClipRow]]) -> None:
        """Begin with what an earlier run has done."""
        for rows in done:
            self._count(rows)
        self._bar.update(self._task, total=num_files, completed=self._files, totals=self.totals)

    def add(self, rows: list[ClipRow]) -> None:
        """One more file is done, with these rows."""
        self._count(rows)
        self._bar.update(self._task, completed=self._files, totals=self.totals)

    def note(self, text: str) -> None:
        """Print one line."""
        self.console.print(" ".join(text.split()), markup=False)

    def _count(self, rows: list[ClipRow]) -> None:
        good = [row for row in rows if row.is_usable]
        self._files += 1
        self._clips += len(good)
        self._seconds += sum(row.end - row.start for row in good)
        self._failed += any(row.error is not None for row in rows)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if kind is None:
            self.note(f"{self._name}: {self._files} files, {self.totals}")
