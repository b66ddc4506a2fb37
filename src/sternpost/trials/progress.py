"""What a person sees while a job runs: one line a stage, a bar inside it."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


class Watch:
    """Prints stages and bars to a console, and keeps how long each stage took."""

    def __init__(self, console: Console | None = None,
                 explained: Mapping[str, str] | None = None) -> None:
        self.console = console or Console(stderr=True, quiet=True)
        self.explained = explained or {}
        self.seconds: dict[str, float] = {}
        self._progress: Progress | None = None

    @contextmanager
    def stage(self, name: str, says: str) -> Iterator[None]:
        """Announces a stage in words and times it under `name`."""
        self.console.print(f"[bold]{says}[/bold]", highlight=False)
        if name in self.explained:
            self.console.print(Padding(self.explained[name], (0, 0, 0, 2)), style="dim")
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 3)

    def note(self, text: str) -> None:
        """One line below a stage."""
        self.console.print(f"  {text}", highlight=False, markup=False)

    def bar(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """`items`, with a bar that moves as they are taken."""
        with Progress(TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(),
                      TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
                      console=self.console, transient=True) as progress:
            self._progress = progress
            task = progress.add_task(what, total=total, note="")
            try:
                for item in items:
                    yield item
                    progress.advance(task)
            finally:
                self._progress = None

    def tell(self, note: str) -> None:
        """A short note beside the bar that is shown now."""
        if self._progress is not None and self._progress.task_ids:
            self._progress.update(self._progress.task_ids[-1], note=note)
