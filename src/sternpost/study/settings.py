"""The settings of a study: a recipe with a table for each stage. Light: nothing heavy is imported.

    model, out, clamps, ...     what all stages share, and what the study itself is told
    [train]                     of `train`: the SAE
    [run]                       of `run`: the search and the sweep
    [evaluate]                  of `eval`: the benchmarks, once for each column of the table

A table may name what the top names, and wins. What the stages hand to one another (the SAE, the
feature, the folders) the study sets itself.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from sternpost.assessment.settings import EvaluateSettings
from sternpost.errors import InputError
from sternpost.training.recipe import Recipe
from sternpost.trials.run_settings import RunSettings
from sternpost.trials.settings import Settings, setting, settings_from

TABLES = ("train", "run", "evaluate")
SHARED = ("model", "seed", "device", "dtype", "revision", "batch_size", "system", "chat_template",
          "chat_template_kwargs")
"""Settings of the top that every table takes."""
STARTS = ("out", "dry_run", "resume", "force")
OURS = {"train": STARTS, "run": STARTS,
        "evaluate": (*STARTS, "pack", "level", "sae", "clamp")}
"""Of each table what the study sets itself."""
STEERING = ("positions", "error", "mode")
"""Settings of [run] that [evaluate] takes over."""


@dataclass(frozen=True, kw_only=True)
class StudySettings(Settings):
    """What stands at the top of a study's recipe."""

    PLACE: ClassVar[tuple[str, ...]] = (*Settings.PLACE, "data", "hub")
    model: str = setting("Model: a folder or a Hub id.")
    out: str = setting("Folder for the stages and the table.")
    clamps: tuple[float, ...] = setting("Clamp values at which the found feature is evaluated, "
                                        "activation units.", many=float)
    prompts: str | None = setting("Suite whose prompts are searched and swept, where [run] names "
                                  "no unsafe and safe: a name, or a TOML file.", None)
    searched: int = setting("Unsafe prompts of it that are searched on, and as many safe ones.",
                            250)
    swept: int = setting("Unsafe prompts of it that the sweep is tested on, and as many safe ones.",
                         250)
    control: str | None = setting("Prompts of a harmless topic and of others, told apart by the "
                                  "column `category`: the feature of the topic is clamped as a "
                                  "control.", None)
    topic: str = setting("The category of that topic.", "philosophy")
    control_clamp: float | None = setting("Clamp value of the controls; default: the highest of "
                                          "clamps.", None)
    data: str | None = setting("Folder of benchmark files; default: STERNPOST_DATA.", None)
    hub: bool = setting("Fetch from the Hub what the data folder has not.", False)
    seed: int = setting("Seed of every stage.", 0)
    dry_run: bool = setting("Check everything, print the plan, write nothing.", False)

    def __post_init__(self) -> None:
        self.check("searched", "swept")
        for value in (*self.clamps, *filter(None, [self.control_clamp])):
            if isinstance(value, bool) or not isinstance(value, int | float) \
                    or value != value or abs(value) == float("inf"):
                raise InputError(f"clamps are finite numbers in activation units; got {value!r}.")
        if not self.clamps:
            raise InputError("At which values is the feature clamped? Give clamps = [10, 12].")
        if len(set(self.clamps)) < len(self.clamps):
            raise InputError(f"clamps names a value twice: {list(self.clamps)}.")

    @property
    def folder(self) -> Path:
        """Where the study goes."""
        return Path(self.out)

    @property
    def controls_at(self) -> float:
        """Clamp value of the controls."""
        return max(self.clamps) if self.control_clamp is None else self.control_clamp


@dataclass(frozen=True, kw_only=True)
class Stated:
    """How large the recipe's model is, for a plan where its config is not at hand."""

    model: str = setting("The model that this is said of.")
    d_model: int = setting("Its width.")
    layers: int = setting("Its blocks.")
    parameters: int = setting("Its parameters.")
    block: int = setting("Those of a block.")


@dataclass(frozen=True)
class Study:
    """A study, checked as far as its recipe goes."""

    top: StudySettings
    train: Recipe | None
    """None where [run] names an SAE."""
    run: RunSettings
    evaluate: EvaluateSettings
    """Of a column: all but its feature and its folder."""
    own_prompts: bool
    """Whether [run] names its prompts; else they come from the suite `prompts`."""
    stated: Stated | None = None
    """What the recipe says of its model's size."""

    def identity(self) -> dict[str, Any]:
        """What makes this study another than others, by stage."""
        top = self.top.identity()
        of_run = ("prompts", "searched", "swept", "seed")
        of_control = ("control", "topic")
        run = self.run.identity() | {"prompts": [top[name] for name in of_run]}
        body = {"verb": "study", "train": self.train and self.train.identity(), "run": run,
                "control": [top[name] for name in of_control],
                "evaluate": {k: v for k, v in self.evaluate.identity().items() if k != "data"},
                "columns": [list(self.top.clamps), self.top.controls_at]}
        return json.loads(json.dumps(body))

    def column(self, name: str, feature: int | None, value: float | None) -> EvaluateSettings:
        """The evaluation of one column of the table; without a feature the SAE is spliced in."""
        clamp = () if feature is None else (f"{feature}={value!r}",)
        return replace(self.evaluate, clamp=clamp, resume=True,
                       out=str(self.top.folder / "eval" / name))


def is_study(recipe: Mapping[str, Any]) -> bool:
    """Whether a recipe is a study's: it has a stage's table."""
    return any(isinstance(recipe.get(name), Mapping) for name in TABLES)


def study_from(recipe: Mapping[str, Any], where: str) -> Study:
    """The study that a recipe describes; `where`: the recipe's path, beside which its files are
    looked for. Unknown and missing keys are refused by name."""
    top = settings_from(StudySettings, {k: v for k, v in recipe.items()
                                        if k not in (*TABLES, "size")}, where)
    tables = {name: _table(recipe, name, where) for name in TABLES}
    beside = Path(where).parent
    top = replace(top, prompts=_found(top.prompts, beside), control=_found(top.control, beside))
    shared = {name: getattr(top, name) for name in SHARED}
    train = None if "sae" in tables["run"] else settings_from(Recipe, {
        **shared, **tables["train"], "out": str(top.folder / "train"), "resume": True},
        f"{where} [train]")
    if train is not None and len(train.layers) != 1:
        raise InputError(f"{where} [train]: a study is of one layer; got {list(train.layers)}.")
    run = _run(top, train, {**shared, **tables["run"]}, f"{where} [run]")
    evaluate = settings_from(EvaluateSettings, {
        **shared, **{name: getattr(run, name) for name in STEERING}, "data": top.data,
        "hub": top.hub, **tables["evaluate"], "out": str(top.folder / "eval"), "clamp": ("0=0",),
        "sae": str(top.folder / "run" / "sae")}, f"{where} [evaluate]")
    stated = settings_from(Stated, recipe["size"], f"{where} [size]") if "size" in recipe else None
    return Study(top, train, run, evaluate, "unsafe" in tables["run"], stated)


def _table(recipe: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    table = recipe.get(name)
    if table is None and name == "train":
        return {}
    if not isinstance(table, Mapping):
        raise InputError(f"{where}: a study has the tables {', '.join(TABLES)}; "
                         + (f"[{name}] is missing." if table is None else
                            f"{name} is {table!r}. Change one of its settings: --set "
                            f"{name}.NAME=VALUE."))
    body = {key.replace("-", "_"): value for key, value in table.items()}
    for key in OURS[name]:
        if key in body:
            raise InputError(f"{where} [{name}]: {key} is set by the study itself. Leave it out"
                             + ("; the study's own stands at the top." if key in STARTS else "."))
    return body


def _run(top: StudySettings, train: Recipe | None, body: dict[str, Any],
         where: str) -> RunSettings:
    named = [kind for kind in ("unsafe", "safe") if kind in body]
    if len(named) == 1 or not (named or top.prompts):
        raise InputError(f"{where}: which prompts? Give unsafe and safe, or at the top a suite, "
                         f"prompts = \"FILE.toml\"; got {named or 'neither'}.")
    ours: dict[str, Any] = {} if train is None else {
        "sae": str(top.folder / "train" / f"layers.{train.layers[0]}"), "layer": train.layers[0]}
    if not named:
        ours |= {kind: str(top.folder / "prompts" / f"{kind}.jsonl") for kind in ("unsafe", "safe")}
    missing = [value for value in top.clamps if body.get("values") and value not in body["values"]]
    if missing:
        raise InputError(f"{where}: values sweeps {body['values']} and not {missing}, at which the "
                         "feature is evaluated (clamps). Add them, or leave values out.")
    return settings_from(RunSettings, {**body, **ours, "out": str(top.folder / "run"),
                                       "resume": True}, where)


def _found(path: str | None, beside: Path) -> str | None:
    """A file as it is named, else beside the recipe."""
    if path is None or Path(path).exists() or Path(path).is_absolute():
        return path
    return str(beside / path) if (beside / path).exists() else path


def of_top(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the command line that are the study's own; others are refused, with the --set
    that does the same."""
    known = {spec.name for spec in fields(StudySettings)}
    for key, value in options.items():
        if key not in known:
            raise InputError(f"--{key.replace('_', '-')} is no option of a study. Change the "
                             f"recipe's table: --set run.{key}={value!r}")
    return dict(options)
