"""What an evaluation measures: a model, how it is steered, and what it must not be tested on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sternpost.assessment.replies import Condition
from sternpost.assessment.settings import EvaluateSettings
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import InputError
from sternpost.files import read_json
from sternpost.packs.pack import Pack, engine_for, load_pack
from sternpost.packs.prompts import shipped
from sternpost.sae import SAE
from sternpost.trials.load import load_engine, sae_from_option, trained_on
from sternpost.types import Add, Clamp, Plan

REPLY = 128
"""Tokens of a reply, at most, where neither a pack nor the user says."""


@dataclass(frozen=True)
class Subject:
    """What is evaluated, before the model is loaded."""

    settings: EvaluateSettings
    pack: Pack | None
    splits: Mapping[str, Any] | None
    """splits.json of what was fitted, where it is known."""

    @cached_property
    def train(self) -> frozenset[str]:
        """sha256 of the model's own training prompts, where they are known."""
        maker = self.settings.model if self.pack is None else shipped(self.pack)
        return frozenset(trained_on(maker) if maker else ())

    @cached_property
    def sae(self) -> SAE | None:
        """The SAE whose features are clamped, if any."""
        return None if self.settings.sae is None else sae_from_option(self.settings.sae)

    @property
    def model(self) -> str:
        """The model's name."""
        if self.settings.model is not None:
            return self.settings.model
        assert self.pack is not None
        return self.pack.source

    @property
    def max_new_tokens(self) -> int:
        """Longest reply, in tokens."""
        kept = REPLY if self.pack is None else self.pack.files.body["max_new_tokens"]
        return self.settings.max_new_tokens or kept

    @property
    def about(self) -> dict[str, Any]:
        """What is steered with, as results.json says it; the plan's part is added later."""
        pack = None if self.pack is None else {
            "source": self.settings.pack, "sha256": self.pack.files.sha256,
            "level": self.settings.level}
        return {"pack": pack, "sae": self.settings.sae,
                "clamp": [{"feature": f, "value": v} for f, v in self.settings.clamps]}

    def load(self) -> tuple[TransformersEngine, Plan | None, list[str]]:
        """The engine, the plan, and what there is to warn of."""
        if self.pack is not None:
            engine = engine_for(self.pack, self.settings.model, self.settings.device,
                                self.settings.rows, self.settings.dtype)
            plan = self.pack.at(self.settings.level)
            engine.check(plan)
            return engine, (plan if plan.edits else None), []
        engine, warnings = load_engine(replace(self.settings, model=self.model))
        if self.sae is None:
            return engine, None, warnings
        plan = Plan(self.sae, tuple(
            Clamp(feature, value) for feature, value in self.settings.clamps),
            self.settings.mode, self.settings.positions, self.settings.error)  # type: ignore[arg-type]
        engine.check(plan)
        return engine, plan, warnings


def subject_of(settings: EvaluateSettings) -> Subject:
    """What the settings name. Raises InputError, PackError."""
    if settings.pack is not None:
        pack = load_pack(settings.pack)
        if settings.level not in pack.levels:
            raise InputError(f"This pack has the levels {', '.join(pack.levels)}; got "
                             f"{settings.level!r}.")
        return Subject(settings, pack, pack.files.splits)
    assert settings.model is not None
    beside = Path(settings.sae or ".").parent / "splits.json" if settings.sae else None
    splits = read_json(beside) if beside is not None and beside.is_file() else None
    return Subject(settings, None, splits)


def conditions_of(plan: Plan | None) -> tuple[Condition, Condition]:
    """Baseline and steered."""
    edits = () if plan is None else tuple(described(edit) for edit in plan.edits)
    return Condition("baseline", None), Condition("steered", plan, edits)


def described(edit: Any) -> dict[str, Any]:
    """An edit as samples.jsonl says it."""
    body: dict[str, Any] = {"edit": type(edit).__name__}
    if isinstance(edit, Add):
        known = edit.feature_or_direction if isinstance(edit.feature_or_direction, int) else None
        return body | {"feature": known, "value": edit.value, "unit": edit.unit}
    for name in ("feature", "value", "factor"):
        if hasattr(edit, name):
            body[name] = getattr(edit, name)
    return body
