"""What may be written, as a search space, and what each write does to rows when the gate is open.

    safer   each of a few features absent or clamped at a multiple of its high activation; features
            that see harm ablated or not
    freer   the first few of the features by which it refuses what is safe, clamped at or below 0;
            the direction of refusal subtracted, in residual norms

A row's reply under a write does not depend on the gate's threshold, so a write is measured once,
wide open, and every threshold is then a look into a table.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from torch import Tensor

from sternpost.errors import MissingExtra
from sternpost.files import canonical_json, sha256_text
from sternpost.policy import Level
from sternpost.sae import SAE
from sternpost.store import Sample
from sternpost.trials.bench import Bench, Trial
from sternpost.trials.find import clamp_value
from sternpost.types import Add, Clamp, Edit, LabelledPrompt, Plan

RAISED = (0.0, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
"""Multiples of the high activation; 0: the feature is left alone."""
MEMBERS = (0, 1, 2, 4, 8)
"""How many features are lowered."""
LOWERED = (0.0, -0.125, -0.25, -0.5, -1.0)
"""To which multiple of what each is on refused safe prompts; 0 ablates."""
SUBTRACTED = (0.0, -0.25, -0.5, -0.75, -1.0, -1.5)
"""Residual norms."""
POSITIONS = ("tail+response", "tail", "t_inst+tail+response")
TOGETHER = 12
"""Trials that are proposed, and measured, together."""
Choice = Mapping[str, Any]
"""A point of a space: a choice for each name."""


@dataclass(frozen=True)
class Space:
    """Names with their choices, and what a point of it writes."""

    choices: dict[str, tuple[Any, ...]]
    edits: Callable[[Choice], tuple[Edit, ...]]
    first: tuple[Choice, ...] = ()
    """Points that are tried before any other."""

    def level(self, choice: Choice) -> Level:
        """What the point writes, without a word on when."""
        return Level(self.edits(choice), positions=choice["positions"])


def safer_space(sae: SAE, raised: Sequence[int], lowered: Sequence[int],
                first: Sequence[Choice] = ()) -> Space:
    """Raised refusal features together with lowered harm features."""
    choices: dict[str, tuple[Any, ...]] = {
        **{f"raise {f}": RAISED for f in raised}, **{f"ablate {f}": (False, True) for f in lowered},
        "positions": POSITIONS}

    def edits(choice: Choice) -> tuple[Edit, ...]:
        up = [Clamp(f, clamp_value(sae, f, m)) for f in raised if (m := choice[f"raise {f}"])]
        return (*up, *(Clamp(f, 0.0) for f in lowered if choice[f"ablate {f}"]))

    nothing = {name: values[0] for name, values in choices.items()}
    together = [(some, m) for n, multiples in ((1, (2.0, 2.5)), (2, (1.5, 2.0)), (3, (1.0, 1.5)))
                for some in combinations(raised[:3], n) for m in multiples]
    return Space(choices, edits, (*({**nothing, **one} for one in first), *(
        {**nothing, **{f"raise {f}": m for f in some}} for some, m in together)))


def freer_space(refusing: Mapping[int, float], direction: Tensor) -> Space:
    """Lowered refusal features, and the direction of refusal subtracted. `refusing`: features,
    those that refuse most first, and what each is where a safe prompt is refused."""
    known = tuple(n for n in MEMBERS if n <= len(refusing))
    choices: dict[str, tuple[Any, ...]] = {
        "features": known, "to": LOWERED, "add": SUBTRACTED if bool(direction.any()) else (0.0,),
        "positions": POSITIONS}

    def edits(choice: Choice) -> tuple[Edit, ...]:
        down = [Clamp(f, float(f"{choice['to'] * unit:.4g}"))
                for f, unit in list(refusing.items())[:choice["features"]]]
        return (*down, *([Add(direction, choice["add"])] if choice["add"] else []))

    nothing = {name: values[0] for name, values in choices.items()}
    lower = [{**nothing, "features": n, "to": to} for n in known[-2:] for to in LOWERED[:4] if n]
    added = [{**nothing, "add": x} for x in choices["add"][1:]]
    return Space(choices, edits, (*lower, *added))


def proposals(space: Space, n: int, seed: int) -> "Iterator[Asked]":
    """`n` points in batches, each answered with its worth before the next is asked for."""
    try:
        import optuna  # heavy, and an extra
    except ImportError as error:
        raise MissingExtra("sternpost calibrate", "calibrate") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=max(10, n // 5), constant_liar=True))
    for choice in space.first[:n]:
        study.enqueue_trial(dict(choice))
    for start in range(0, n, TOGETHER):
        asked = [study.ask() for _ in range(min(TOGETHER, n - start))]
        choices = [{name: trial.suggest_categorical(name, values)
                    for name, values in space.choices.items()} for trial in asked]
        batch = Asked(choices)
        yield batch
        for trial, worth in zip(asked, batch.worth, strict=True):
            study.tell(trial, worth)


@dataclass
class Asked:
    """Points that were asked about; whoever measures them says what they are worth."""

    choices: Sequence[Choice]
    worth: Sequence[float] = ()


class Open:
    """Replies under writes with the gate wide open, measured once each."""

    def __init__(self, bench: Bench, sae: SAE, directions: Sequence[Tensor] = ()) -> None:
        self.bench, self.sae, self.directions = bench, sae, directions

    def key(self, level: Level) -> str:
        """A write's name."""
        return sha256_text(canonical_json(level.as_dict(self.directions)))[:16]

    def lines(self, levels: Sequence[Level], prompts: Sequence[LabelledPrompt], part: str,
              what: str) -> list[dict[str, Sample]]:
        """Of each write, the line of each prompt by its sha256. A write of nothing has none."""
        out: list[dict[str, Sample]] = [{} for _ in levels]
        places = sorted({level.positions for level in levels if level.edits})
        for place in places:
            mine = [at for at, level in enumerate(levels)
                    if level.edits and level.positions == place]
            trials = [Trial(f"open-{part}-{self.key(levels[at])}", "open", Plan(
                self.sae, levels[at].edits, "threshold", place, cap=levels[at].cap))
                for at in mine]
            for at, lines in zip(mine, self.bench.several(trials, prompts, what), strict=True):
                out[at] = {line["prompt_sha256"]: line for line in lines}
        return out


@dataclass(frozen=True)
class Table:
    """Development rows: what the model does by itself, and the gate's risk."""

    prompts: Sequence[LabelledPrompt]
    risk: np.ndarray
    hit: np.ndarray
    """Refused; of capability rows: right."""
    incoherent: np.ndarray
    neutral: np.ndarray
    """Rows whose first token should hardly move."""

    def of(self, kind: str) -> np.ndarray:
        """[row]: whether it is of the kind."""
        return np.array([p.kind == kind for p in self.prompts], dtype=bool)

    def some(self, keep: np.ndarray) -> "Table":
        """Some of the rows."""
        rows = np.flatnonzero(keep).tolist()
        return Table([self.prompts[at] for at in rows], self.risk[rows], self.hit[rows],
                     self.incoherent[rows], self.neutral[rows])


@dataclass(frozen=True)
class Measured:
    """A write on the rows of a table; rows that were not measured stay as they are."""

    level: Level
    hit: np.ndarray
    incoherent: np.ndarray
    known: np.ndarray
    """[row]: measured."""
    kl: np.ndarray
    """[row]: nats by which the first token moves; 0 where it was not asked."""


def measured(table: Table, level: Level, lines: Mapping[str, Sample],
             kl: Mapping[str, float] | None = None) -> Measured:
    """The write, row by row."""
    hit, incoherent = table.hit.copy(), table.incoherent.copy()
    known = np.zeros(len(table.prompts), dtype=bool)
    moved = np.zeros(len(table.prompts))
    for at, prompt in enumerate(table.prompts):
        line = lines.get(prompt.request.sha256)
        if line is not None:
            hit[at], incoherent[at] = line["hit"], line["verdict"] == "incoherent"
            known[at] = True
        moved[at] = (kl or {}).get(prompt.request.sha256, 0.0)
    return Measured(level, hit, incoherent, known, moved)
