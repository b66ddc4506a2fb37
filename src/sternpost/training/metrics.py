"""The course of a training, a line at a time: JSON lines, and TensorBoard's files where wanted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sternpost.errors import MissingExtra
from sternpost.files import append_jsonl, read_jsonl, write_jsonl
from sternpost.sae.settings import Progress
from sternpost.training.recipe import Recipe
from sternpost.training.team import Team

LINES = 500
"""Lines a training, about."""
FILE = "metrics.jsonl"


class Metrics:
    """Writes what the trainers tell, if this process leads."""

    def __init__(self, folder: Path, recipe: Recipe, team: Team) -> None:
        self.file, self.recipe, self.leads = folder / FILE, recipe, team.leads
        self.each = max(1, recipe.steps // LINES)
        self.board: Any = None
        self._writer = _writer() if recipe.tensorboard and team.leads else None

    def begin(self, step: int) -> None:
        """Drops what an interrupted training wrote after its last checkpoint."""
        if not self.leads:
            return
        if self._writer is not None:
            self.board = self._writer(str(self.file.parent / "tensorboard"), purge_step=step + 1)
        lines = read_jsonl(self.file) if self.file.is_file() else []
        write_jsonl(self.file, [line for line in lines if line["step"] <= step])

    def note(self, found: Sequence[Progress], tokens_per_s: float) -> None:
        """What a step showed, of each layer."""
        step = found[0].step
        if not self.leads or (step % self.each and step != self.recipe.steps):
            return
        for layer, one in zip(self.recipe.layers, found, strict=True):
            values = {"fvu": one.fvu, "l0": one.l0, "dead_fraction": one.dead_fraction,
                      "loss": one.loss}
            append_jsonl(self.file, {"step": step, "tokens": step * self.recipe.batch,
                                     "layer": layer, **values,
                                     "tokens_per_s": round(tokens_per_s, 1)})
            if self.board is not None:
                for name, value in values.items():
                    self.board.add_scalar(f"layers.{layer}/{name}", value, step)

    def close(self) -> None:
        """Ends TensorBoard's file."""
        if self.board is not None:
            self.board.close()


def _writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra("Writing for TensorBoard", "tensorboard") from error
    return SummaryWriter
