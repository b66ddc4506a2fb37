"""`run RECIPE --dry-run` of a study: what each stage takes, and what is missing.

    train      as `plan` says it
    others     2 * parameters FLOP a token that is read or written, at a share of the peak; and for
               every token that is written the weights' bytes, once for the rows that are written
               together, at the device's bandwidth
    hours      FLOP / (share * peak) + bytes / bandwidth

Not covered: attention over long texts, judges and attackers behind a service, loading. Overall: an
order of magnitude, of how the stages compare, and whether a device holds them.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from sternpost.assessment.replies import TOGETHER
from sternpost.assessment.subject import REPLY
from sternpost.engines.shapes import Shape, shape_of
from sternpost.errors import ModelError
from sternpost.study.missing import Lack, Looked, look
from sternpost.study.prompts import benchmarks
from sternpost.study.settings import Study
from sternpost.training.plan import HARDWARE, REACHED, TrainPlan, plan_of
from sternpost.trials.find import ATTRIBUTED, FINALISTS, FIRST_PASS, MOST, MULTIPLES
from sternpost.trials.load import folder_of, packed_folder
from sternpost.trials.sweep import RANDOM, STRENGTHS

PROMPT = 100
"""Tokens of a prompt, taken."""
PUBLIC = {"wildguard": 1725, "xstest": 450, "crescendo": 50, "mmlu": 14_042,
          "truthfulqa_mc1": 817, "gsm8k": 1319}
"""Rows of the public files, taken where they are not here."""
READ = {"mmlu": 400, "truthfulqa_mc1": 1500, "truthfulqa_mc2": 2500, "gsm8k": 1000}
"""Tokens of a task's document with its examples and answers, taken; others 500."""
SPLICED = "splice-in"
"""The column of the SAE in the stream's place, nothing clamped: what its reconstruction costs."""
WRITTEN = {"gsm8k": 256}
"""Tokens that are written for a document, at most."""


@dataclass(frozen=True)
class Work:
    """Tokens of a stage."""

    read: int = 0
    written: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.read + other.read, self.written + other.written)

    def times(self, n: float) -> "Work":
        """So much `n` times."""
        return Work(round(n * self.read), round(n * self.written))

    def hours(self, parameters: int, device: str) -> float:
        """About how long a device takes."""
        half, _, bandwidth, _ = HARDWARE[device]
        flop = 2.0 * parameters * (self.read + self.written) / (REACHED * half * 1e12)
        moved = 2.0 * parameters * self.written / TOGETHER / (bandwidth * 1e9)
        return (flop + moved) / 3600


@dataclass(frozen=True)
class StudyPlan:
    """What a study would take, and what it lacks. Nothing was written."""

    model: str
    parameters: int | None
    train: TrainPlan | None
    columns: tuple[str, ...]
    """Of the table, the baseline first."""
    work: Mapping[str, Work]
    """Stage -> tokens."""
    hours: Mapping[str, Mapping[str, float]]
    """Device -> stage -> hours."""
    memory: Mapping[str, int]
    """Bytes, of the training and of what follows; the latter without the rows' own."""
    missing: tuple[Lack, ...]

    def to_pandas(self) -> Any:
        """A row a device, a column a stage."""
        import pandas as pd  # heavy: only for who asks

        return pd.DataFrame([{"device": name, **some} for name, some in self.hours.items()])

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The plan in words."""
        return [f"model      {self.model}" + (f": {self.parameters:,} parameters"
                                              if self.parameters else ", of unknown size"),
                f"columns    {', '.join(self.columns)}", *self._stages(), *self._devices(),
                "missing    " + ("nothing" if not self.missing else "what has a * stops it:"),
                *(f"  {'*' if lack.stops else ' '} {lack.what}" for lack in self.missing)]

    def _stages(self) -> list[str]:
        train = [] if self.train is None else [
            f"  train     {self.train.tokens:,} tokens; {self.train.d_sae:,} features, layer "
            f"{self.train.layers[0]}"]
        rest = [f"  {name:<9} {work.read:,} tokens read, {work.written:,} written"
                for name, work in self.work.items()]
        return ["stages     at most", *train, *rest]

    def _devices(self) -> list[str]:
        memory = "; ".join(f"{name} {value / 1e9:.1f} GB" for name, value in self.memory.items())
        rows = [f"  {device}: " + " + ".join(f"{name} {_hours(n)}" for name, n in some.items())
                + f" = {_hours(sum(some.values()))} hours" + self._short_of(device)
                for device, some in self.hours.items()]
        if not rows:
            return ["time       unknown without the model's config"]
        return [f"memory     {memory}, beside the cache of the rows that run together",
                f"time       estimated: 2 x parameters FLOP a token at {REACHED:g} of the device's "
                f"peak; the weights", "           are read once for each token that "
                f"{TOGETHER} rows write", *rows]

    def _short_of(self, device: str) -> str:
        room = 1e9 * HARDWARE[device][-1]
        need = max(self.memory.values(), default=0)
        return f"; its {room / 1e9:.0f} GB do not hold this" if need > room else ""


def _hours(hours: float) -> str:
    return f"{hours:.1f}" if hours >= 0.05 else "< 0.1"


def plan_study(study: Study) -> StudyPlan:
    """The plan of a study. Raises HookpointError where the model has no such block."""
    shape = known_shape(study)
    parameters = shape.parameters if shape else None
    found = look(study, parameters)
    train = plan_of(study.train, shape) if study.train is not None and shape else None
    work = {"run": _run(study, found), "control": Work(64 * PROMPT // 2),
            "evaluate": _evaluate(study, found)}
    names = columns_of(study)
    hours: dict[str, dict[str, float]] = {} if parameters is None else {
        device: {**({} if train is None else {"train": train.hours[device]}),
                 **{name: some.hours(parameters, device) for name, some in work.items()}}
        for device in HARDWARE}
    return StudyPlan(study.top.model, parameters, train, ("baseline", *names), work, hours,
                     _memory(parameters, train), tuple(found.lacks))


def known_shape(study: Study) -> Shape | None:
    """The shape of the model, from its config where that is here, else as the recipe states it.
    The Hub is not asked."""
    name, said = study.top.model, study.stated
    if folder_of(name, study.top.revision) is not None:
        with suppress(ModelError):
            return shape_of(str(packed_folder(name, "model")), study.top.revision)
    if said is None or said.model != name:
        return None
    return Shape(said.d_model, said.layers, said.parameters, (said.block,) * said.layers)


def columns_of(study: Study) -> list[str]:
    """The steered columns of the table, by name."""
    top = study.top
    topic = [f"{top.topic}-{top.controls_at:g}"] if top.control is not None else []
    spliced = [SPLICED] if study.evaluate.error == "drop" else []
    return [*(f"clamp-{value:g}" for value in top.clamps), *spliced, *topic,
            f"random-{top.controls_at:g}"]


def _memory(parameters: int | None, train: TrainPlan | None) -> dict[str, int]:
    out = {} if train is None else {"training": sum(train.memory.values())}
    if parameters is not None:
        sae = 0 if train is None else 4 * train.parameters["sae"]
        out["the other stages"] = 2 * parameters + sae
    return out


def _run(study: Study, found: Looked) -> Work:
    """As `run --dry-run` counts its replies, at most."""
    settings = study.run
    search = found.prompts.get("search", 2 * study.top.searched)
    test = found.prompts.get("test", 2 * study.top.swept)
    tried = len(settings.feature) or MOST + ATTRIBUTED
    values = len(settings.values) or len(MULTIPLES)
    first = 0 if tried <= FINALISTS else FIRST_PASS * search
    replies = search + tried * first + min(tried, FINALISTS) * search \
        + (values + len(STRENGTHS)) * search + (3 + values + RANDOM) * test
    return Work(PROMPT, settings.max_new_tokens).times(replies)


def _evaluate(study: Study, found: Looked) -> Work:
    """Every column once, and the baseline once for all."""
    settings = study.evaluate
    suites, tasks, _ = benchmarks(study)
    written = settings.max_new_tokens or REPLY
    total = Work()
    for suite in suites:
        n = found.prompts.get(suite.name, min(PUBLIC.get(suite.name, 500), settings.limit or 10**9))
        turn = Work(PROMPT, written)
        if suite.attack:  # a conversation is read again at every turn
            turns = settings.turns + settings.backtracks
            turn = Work(turns * (PROMPT + written) * turns // 2, turns * written)
        total += turn.times(n)
    for task in tasks:
        n = found.documents.get(task, PUBLIC.get(task, 1000))
        n = min(n, settings.limit or n) if task != "mmlu" else n
        total += Work(READ.get(task, 500), WRITTEN.get(task, 0)).times(n)
    return total.times(1 + len(columns_of(study)))
