"""The prompts of an evaluation: read from suites, and none that was fitted on."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sternpost.assessment.settings import EvaluateSettings
from sternpost.assessment.subject import Subject
from sternpost.errors import LeakageError
from sternpost.evaluation import Loaded, Source, Suite, load_suites
from sternpost.prompts import build_ups, wrapped
from sternpost.prompts.leakage import FITTED_ON, fitted_on
from sternpost.trials.load import SHIPPED
from sternpost.trials.multi_turn import is_script
from sternpost.types import LabelledPrompt


def prompts_of(settings: EvaluateSettings, subject: Subject,
               suites: Sequence[Suite]) -> list[Loaded]:
    """Every suite with its prompts. Raises LeakageError where the pack, or the model, has seen one;
    with --drop-seen those are left out and counted."""
    source = Source(settings.folder, settings.hub, lambda name: _drawn(name, settings, subject))
    loaded = load_suites(suites, source, settings.limit, settings.seed)
    for one in loaded:
        seen = _seen(subject, one.prompts)
        if seen and not settings.drop_seen:
            raise LeakageError(_message(subject, one, seen))
        one.leaked = len(seen)
        one.prompts = [p for p in one.prompts if p.request.sha256 not in seen]
        if not one.prompts:
            raise LeakageError(f"Suite {one.suite.name}: all of its {len(seen)} prompts were "
                               "fitted on. Evaluate on another.")
    return [more for one in loaded for more in (one, *_attacked(settings, one))]


def _attacked(settings: EvaluateSettings, one: Loaded) -> list[Loaded]:
    """The suite's prompts in wrappers and as scripts, each as a suite of its own."""
    able = [p for p in one.prompts if p.kind != "capability" and not is_script(p)]
    out: list[Loaded] = []
    if one.suite.attack or not able:
        return out
    if settings.families is not None:
        out.append(_derived(one, "wrapped", wrapped(able, settings.families, settings.seed),
                            one.suite.metrics))
    if settings.build_ups:
        out.append(_derived(one, "scripted", build_ups(able, seed=settings.seed),
                            ("attack_success", "over_refusal", "incoherent")))
    return out


def _derived(one: Loaded, name: str, prompts: list[LabelledPrompt],
             metrics: tuple[str, ...]) -> Loaded:
    suite = replace(one.suite, name=f"{one.suite.name}.{name}", title=f"{one.suite.title}, {name}",
                    metrics=tuple(m for m in metrics if m not in ("capability",)))
    return Loaded(suite, prompts, one.files)


def _seen(subject: Subject, prompts: Sequence[LabelledPrompt]) -> dict[str, str]:
    """sha256 of the prompts that were fitted on, to the split."""
    known = {p.request.sha256: "the model's training" for p in prompts
             if p.request.sha256 in subject.train}
    return {**known, **({} if subject.splits is None else fitted_on(subject.splits, prompts))}


def _message(subject: Subject, loaded: Loaded, seen: Mapping[str, str]) -> str:
    what = "the pack" if subject.pack is not None else "the SAE or the model"
    first = next(p for p in loaded.prompts if p.request.sha256 in seen)
    return (f"Suite {loaded.suite.name}: {len(seen)} of {len(loaded.prompts)} prompts, or "
            f"near-duplicates or rows of their clusters, are known to {what} "
            f"({', '.join(sorted(set(seen.values())))}); the first is "
            f"{first.request.text[:80]!r}. Evaluate on prompts that are not, or type --drop-seen: "
            "they are left out and counted.")


def _drawn(name: str, settings: EvaluateSettings,
           subject: Subject) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Fresh prompts of a shipped model's corpus, none that anything was fitted on."""
    taken = set(subject.train)
    if subject.splits is not None:
        near = subject.splits["near"]
        taken |= {mark for split in FITTED_ON for mark in subject.splits[split]}
        taken |= {record[key] for split in FITTED_ON for record in near.get(split, ())
                  for key in ("key", "cluster") if key in record}
    return importlib.import_module(SHIPPED[name]).smoke_prompts(settings.seed, taken)


