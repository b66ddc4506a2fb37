"""The settings of `calibrate`. Light: nothing heavy is imported."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from sternpost.errors import InputError
from sternpost.trials.run_settings import RunSettings
from sternpost.trials.settings import setting

AIMS = ("safer", "freer", "both")
GATES = ("residual", "sparse", "feature", "cosine", "nullspace")
METHODS = ("system", "hard_refusal", "classifier", "clamp", "diffmean", "cast", "alphasteer")
BUDGETS = "low=0.5/0.5,medium=1/0.5,high=2/1,max=10/5"
FREER = "high"
"""The level that `--aim freer` writes."""


class Budget(NamedTuple):
    """What a level may cost over the baseline, in points."""

    over_refusal: float
    capability: float


@dataclass(frozen=True, kw_only=True)
class CalibrateSettings(RunSettings):
    """Everything that `run` can be told, and what the levels are to reach."""

    features: str | None = setting("features.json of `sternpost features find`: what to write is "
                                   "built from its features.", None)
    aim: str = setting("safer refuses more of what is unsafe; freer answers more of what is safe; "
                       "both.", "safer", choices=AIMS)
    allow_weaken: bool = setting("Allow that refusal falls below the model's own; --aim freer and "
                                 "both need it.", False)
    must_answer: str | None = setting("Prompts that have to be answered: never fitted on, shown "
                                      "row by row, kept in the pack.", None)
    must_refuse: str | None = setting("Prompts that have to be refused, likewise.", None)
    budgets: str = setting("What each level may cost over the baseline, in points of over-refusal "
                           "/ capability.", BUDGETS)
    weaken: float = setting("Points of unsafe refusal that --aim freer may cost.", 1.0)
    kl: float = setting("Nats by which the first token of a reply to neutral prompts may move, "
                        "mean KL divergence.", 0.1)
    trials: int = setting("Writes that are tried.", 60)
    gates: str = setting("Kinds of gate that are fitted, the best is kept; comma-separated.",
                         ",".join(GATES))
    gate_layer: tuple[int, ...] = setting("Block at which gates are fitted, at or below the one "
                                          "that is written; default: the SAE's. Repeatable; the "
                                          "best is kept.", many=int)
    categories: bool = setting("A risk for each hazard category too: the column `category` of the "
                               "unsafe prompts.", False)
    classifier: tuple[str, ...] = setting("Prompt classifier to compare with: hf:ORG/NAME or a "
                                          "folder [#LABEL,... that mean harm], openai:MODEL, "
                                          "file.py:name. Repeatable.", many=str)
    methods: str = setting("Other methods that are tuned on the same prompts with as many trials, "
                           "comma-separated; `all` for all: " + ", ".join(METHODS) + ".", "")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("trials")
        if self.no_gate:
            raise InputError("calibrate looks for what a gate lets through; leave out --no-gate.")
        if self.aim != "safer" and not self.allow_weaken:
            raise InputError(f"--aim {self.aim} lowers refusal below the model's own. Type "
                             "--allow-weaken if that is meant; the pack will say so.")
        if self.values:
            raise InputError("calibrate searches for values; leave out --values.")
        if not (self.weaken >= 0 and self.kl >= 0):
            raise InputError(f"weaken and kl are numbers from 0 up; got {self.weaken!r} and "
                             f"{self.kl!r}.")
        for layer in self.gate_layer:
            if isinstance(layer, bool) or not isinstance(layer, int) or layer < 0:
                raise InputError(f"gate_layer is a block, 0-based; got {layer!r}.")
        if len(set(self.classifier)) != len(self.classifier):
            raise InputError("classifier names one twice: "
                             f"{', '.join(map(str, self.classifier))}.")
        assert self.budget_of  # each of these checks what it reads
        assert self.gate_kinds
        assert self.other_methods is not None

    @property
    def budget_of(self) -> dict[str, Budget]:
        """The budget of each level, weakest level first."""
        out: dict[str, Budget] = {}
        for part in self.budgets.split(","):
            level, equals, costs = part.strip().partition("=")
            numbers = costs.split("/")
            try:
                budget = Budget(*map(float, numbers))
            except (ValueError, TypeError) as error:
                raise InputError(f"budgets are LEVEL=OVER_REFUSAL/CAPABILITY, such as {BUDGETS}; "
                                 f"got {part.strip()!r}.") from error
            if not equals or level not in ("low", "medium", "high", "max") or min(budget) < 0:
                raise InputError(f"budgets name low, medium, high or max, with numbers from 0 up, "
                                 f"such as {BUDGETS}; got {part.strip()!r}.")
            out[level] = budget
        order = ("low", "medium", "high", "max")
        out = {level: out[level] for level in order if level in out}
        spent = [(b.over_refusal, b.capability) for b in out.values()]
        if any(a > b for x, y in pairwise(spent) for a, b in zip(x, y, strict=True)):
            raise InputError(f"A stronger level may cost as much as a weaker one or more; got "
                             f"{self.budgets}.")
        return out

    @property
    def gate_kinds(self) -> tuple[str, ...]:
        """The kinds of gate, in order."""
        return _names(self.gates, GATES, "gates")

    @property
    def other_methods(self) -> tuple[str, ...]:
        """The other methods, in order."""
        if self.methods == "all":
            return METHODS
        return _names(self.methods, METHODS, "methods") if self.methods else ()


def _names(text: str, known: tuple[str, ...], what: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(one.strip() for one in text.split(",")))
    for name in names:
        if name not in known:
            raise InputError(f"{what} are some of {', '.join(known)}; got {name!r}.")
    return names
