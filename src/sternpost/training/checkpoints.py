"""Checkpoints of a training of several layers: all of one step, or none.

    training/step-500/layers.0/checkpoint.safetensors, ...      the trainers, in the recipe's order
    training/step-500/source-0.json                             where each process's walk stands
    training/latest.json                                        which step counts; written last
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sternpost.errors import OutputError
from sternpost.files import read_json, remove_folder, write_json
from sternpost.sae.train import Trainer
from sternpost.training.team import Team

TRAINING = "stages/training"
LATEST = f"{TRAINING}/latest.json"
"""In a run's folder."""


class Checkpoints:
    """The checkpoints below one folder."""

    def __init__(self, folder: Path, team: Team) -> None:
        self.folder, self.team = folder, team

    @property
    def latest(self) -> int | None:
        """The step that counts."""
        file = self.folder / "latest.json"
        return read_json(file)["step"] if file.is_file() else None

    def mark(self) -> dict[str, Any] | None:
        """Where this process's walk stood then; None where there is no checkpoint."""
        if (step := self.latest) is None:
            return None
        return read_json(self._at(step) / f"source-{self.team.process}.json")["mark"]

    def load(self, trainers: Sequence[Trainer]) -> None:
        """Puts the trainers where they left off, if they did. Raises OutputError where what was
        kept is of other settings."""
        if (step := self.latest) is None:
            return
        for number, trainer in enumerate(trainers):
            place = self._at(step) / f"layers.{number}"
            if not trainer.load(place):
                raise OutputError(
                    f"{place} was written under other settings than {trainer.settings}, so this "
                    "training cannot go on from it. Give the same settings (bf16 = \"auto\" is "
                    "what the processor has: say on or off), or --force to begin anew.")

    def save(self, trainers: Sequence[Trainer], mark: Mapping[str, Any]) -> None:
        """Keeps this step; what was kept before goes once all of it is there."""
        step, before = trainers[0].step, self.latest
        write_json(self._at(step) / f"source-{self.team.process}.json", {"mark": dict(mark)})
        if self.team.leads:
            for number, trainer in enumerate(trainers):
                trainer.save(self._at(step) / f"layers.{number}")
        self.team.wait()
        if self.team.leads:
            write_json(self.folder / "latest.json", {"step": step})
            if before is not None and before != step:
                remove_folder(self._at(before))
        self.team.wait()

    def _at(self, step: int) -> Path:
        return self.folder / f"step-{step}"
