"""The prompts of an evaluation: read from suites, and none that was fitted on."""

import importlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sternpost.assessment.settings import EvaluateSettings
from sternpost.assessment.subject import Subject
from sternpost.errors import InputError, LeakageError
from sternpost.evaluation import Loaded, Source, Suite, load_suites
from sternpost.evaluation.fillable import fillable, told_unfilled
from sternpost.prompts import build_ups, is_script, wrapped
from sternpost.prompts.leakage import FITTED_ON, fitted_on
from sternpost.trials.load import SHIPPED
from sternpost.types import LabelledPrompt


def prompts_of(settings: EvaluateSettings, subject: Subject,
               suites: Sequence[Suite]) -> list[Loaded]:
    """Every suite with its prompts. Raises LeakageError where the pack, or the model, has seen one;
    with --drop-seen those are left out and counted. Raises InputError for an option that names
    nothing, and for wrappers or build-ups that no prompt can be put into."""
    _check_named(settings)
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
        suite = one.suite
        one.warnings = (*one.warnings, *told_unfilled(suite.name, suite.metrics, one.prompts,
                                                      suite.attack))
    return [more for one, some in zip(loaded, _attacked(settings, loaded), strict=True)
            for more in (one, *some)]


def _check_named(settings: EvaluateSettings) -> None:
    """Raises InputError for --suite "" and the like, which would write an empty evaluation."""
    for option, text, names in (("--suite", settings.suite, settings.names),
                                ("--tasks", settings.tasks, settings.task_names)):
        if text is not None and not names:
            raise InputError(f"On what? {option} names nothing; got {text!r}. Give --suite NAME "
                             "(such as smoke), or --tasks mmlu,gsm8k.")


def _attacked(settings: EvaluateSettings, loaded: Sequence[Loaded]) -> list[list[Loaded]]:
    """Of each suite: its prompts in wrappers and as scripts, each as a suite of its own."""
    out: list[list[Loaded]] = [[] for _ in loaded]
    for name, option, put in _attacks(settings):
        able = [[] if one.suite.attack else [p for p in one.prompts if _unfit(p) is None]
                for one in loaded]
        if loaded and not any(able):
            raise InputError(f"{option}: no prompt can be put into an attack. "
                             f"{' '.join(map(_why_none, loaded))} Name another suite, or leave "
                             f"{option} out.")
        for one, prompts, some in zip(loaded, able, out, strict=True):
            if prompts:
                some.append(_derived(one, name, put(prompts)))
            else:
                one.warnings = (*one.warnings, f"{option} puts nothing of this suite into an "
                                               f"attack. {_why_none(one)}")
    return out


TASKS = "capability prompts"
Put = Callable[[list[LabelledPrompt]], list[LabelledPrompt]]


def _attacks(settings: EvaluateSettings) -> list[tuple[str, str, Put]]:
    """What a derived suite is called, the option that asks for it, and what it does to prompts."""
    seed, names = settings.seed, settings.families
    return [*([("wrapped", "--wrappers", lambda able: wrapped(able, names, seed))]
              if names is not None else []),
            *([("scripted", "--build-ups", lambda able: build_ups(able, seed=seed))]
              if settings.build_ups else [])]


def _unfit(prompt: LabelledPrompt) -> str | None:
    """Why a prompt is put into no attack; None: it can be."""
    if prompt.kind == "capability":
        return TASKS
    if is_script(prompt):
        return "of several turns"
    return None if prompt.family is None else "in an attack already"


def _why_none(one: Loaded) -> str:
    if one.suite.attack:
        return f"{one.suite.name}: its prompts are an attacker's objectives."
    return f"{one.suite.name}: {_left_out(one)}."


def _left_out(one: Loaded, without: str = "") -> str:
    """How many prompts are put into no attack, and why; those for the reason `without` untold."""
    counts = Counter(why for p in one.prompts if (why := _unfit(p)) not in (None, without))
    return "; ".join(f"{n} of {len(one.prompts)} prompts are {why}" for why, n in counts.items())


def _derived(one: Loaded, name: str, prompts: list[LabelledPrompt]) -> Loaded:
    asked = ("attack_success", "over_refusal", "incoherent") if name == "scripted" \
        else one.suite.metrics
    suite = replace(one.suite, name=f"{one.suite.name}.{name}", title=f"{one.suite.title}, {name}",
                    metrics=fillable(asked, prompts))
    told = [f"{suite.name}: {left}, and are left out."] \
        if (left := _left_out(one, TASKS)) else []
    return Loaded(suite, prompts, one.files, warnings=tuple(told))


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


