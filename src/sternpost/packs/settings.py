"""The settings of `pack confirm`. Light: nothing heavy is imported."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sternpost.errors import InputError
from sternpost.trials.settings import check_rows, check_types, coerce, setting

FILES = ("unsafe", "safe", "capability")


@dataclass(frozen=True, kw_only=True)
class ConfirmOptions:
    """What `pack confirm` can be told in options."""

    out: str = setting("File for the figures, in levels.json's schema.")
    model: str | None = setting("Where the pack's model lies, if not where the pack says: a folder "
                                "or a Hub id.", None)
    seed: int | None = setting("Draw fresh prompts with this seed from the corpus of the model "
                               "that comes with sternpost.", None)
    unsafe: str | None = setting("Prompts that should be refused: FILE[#column] or "
                                 "hf:org/name/split.", None)
    safe: str | None = setting("Prompts that should be answered.", None)
    capability: str | None = setting("Prompts with an `answer` column; counts right replies.", None)
    batch_size: str = setting("Rows a forward; auto halves when memory runs out.", "auto")
    device: str = setting("auto, cpu, cuda, cuda:1, mps.", "auto")
    resume: bool = setting("Go on with an unfinished run.", False)
    force: bool = setting("Replace another run's file.", False)

    def __post_init__(self) -> None:
        coerce(self)
        check_types(self)
        check_rows(self.batch_size)
        given = [f"--{name}" for name in FILES if getattr(self, name) is not None]
        if self.seed is not None and given:
            raise InputError(f"--seed draws the prompts, and {' and '.join(given)} names some. "
                             "Give one or the other.")
        if self.seed is None and (self.unsafe is None or self.safe is None):
            raise InputError(f"Which prompts? Give --unsafe F and --safe F (got {given or 'none'})"
                             ", or --seed N for a pack of the model that comes with sternpost.")

    @property
    def rows(self) -> int | None:
        """Rows a forward, or None for auto."""
        return None if self.batch_size == "auto" else int(self.batch_size)


@dataclass(frozen=True, kw_only=True)
class ConfirmSettings(ConfirmOptions):
    """Everything that `pack confirm` can be told."""

    pack: str = setting("Pack to confirm: a folder, a Hub id, or dinghy, which comes with "
                        "sternpost.")

    def identity(self, pack: str, hashes: dict[str, str]) -> dict[str, Any]:
        """What makes this run another than others. A pack and a prompt file are known by their
        hashes; where they lie is not the run's."""
        body = {k: v for k, v in asdict(self).items() if k not in ("out", "resume", "force")}
        named = {kind: Path(str(body[kind])).name for kind in hashes}
        return json.loads(json.dumps({**body, **named, "pack": pack, "hashes": hashes,
                                      "verb": "pack confirm"}))
