"""The streams that a calibration's gates read: of each part of the prompts, at each layer asked
for, read once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from sternpost.gates.coverage import UNNAMED
from sternpost.prompts import is_script
from sternpost.trials.bench import Bench, own_replies
from sternpost.types import Completion, Hookpoint, LabelledPrompt, Transcript


@dataclass(frozen=True)
class Read:
    """Prompts, and the stream where their last user message ends."""

    prompts: Sequence[LabelledPrompt]
    h: Tensor

    @property
    def harmful(self) -> np.ndarray:
        """[row]: unsafe prompts."""
        return np.array([p.kind == "unsafe" for p in self.prompts], dtype=bool)

    @property
    def clusters(self) -> np.ndarray:
        """[row]"""
        return np.array([p.cluster or p.request.sha256 for p in self.prompts])

    def column(self, name: str) -> np.ndarray:
        """[row]: source, family or category, with a name where there is none."""
        return np.array([getattr(p, name) or UNNAMED for p in self.prompts])

    def some(self, keep: Sequence[bool] | np.ndarray) -> "Read":
        """Some of the rows."""
        rows = np.flatnonzero(np.asarray(keep)).tolist()
        return Read([self.prompts[at] for at in rows], self.h[rows])

    @property
    def benign(self) -> "Read":
        """The rows that are not unsafe."""
        return self.some(~self.harmful)


def kinds_of(prompts: Sequence[LabelledPrompt]) -> list[str]:
    """The kind of each benign prompt: its source."""
    return [p.source or "unnamed" for p in prompts]


def read_t_inst(bench: Bench, prompts: Sequence[LabelledPrompt], at: Hookpoint, key: str,
                own: Sequence[Completion] | None = None, every: bool = False) -> Read:
    """The stream at each prompt's t_inst; merely offensive prompts are left out, unless `every`
    one is asked for. Scripts are answered for it, where `own` does not bring the replies."""
    counted = [row for row, p in enumerate(prompts) if every or p.harm_kind != "offensive"]
    mine = [prompts[row] for row in counted]
    if own is not None:
        texts = [Transcript(ids=own[row].prompt_ids) for row in counted]
    else:
        scripts = [p for p in mine if is_script(p)]
        said = {p.request.sha256: Transcript(ids=c.prompt_ids) for p, c in zip(
            scripts, own_replies(bench.engine, scripts, bench.sampling, bench.folder, f"own-{key}"),
            strict=True)}
        texts = [said.get(p.request.sha256) or Transcript(messages=p.request.messages)
                 for p in mine]
    return Read(mine, bench.engine.at_t_inst(texts, at))


Part = tuple[Sequence[LabelledPrompt], Sequence[Completion] | None]
"""Prompts, and the model's own replies where they are at hand."""


@dataclass
class Reads:
    """The parts of a calibration's prompts, read where they are asked for."""

    bench: Bench
    parts: Mapping[str, Part]
    """search, gate_fit, gate_calibration, tasks"""
    known: dict[str, dict[str, Read]] = field(default_factory=dict)

    def at(self, place: Hookpoint) -> dict[str, Read]:
        """Every part at this hookpoint."""
        key = str(place)
        if key not in self.known:
            self.known[key] = {name: read_t_inst(self.bench, prompts, place, name, own)
                               for name, (prompts, own) in self.parts.items()}
        return self.known[key]
