"""The prompts that a pack is confirmed on: given, or drawn anew; never those that it was made from.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from sternpost.errors import InputError, LeakageError
from sternpost.packs.pack import Pack
from sternpost.packs.settings import FILES, ConfirmSettings
from sternpost.prompts import PromptFile, check_disjoint, read_prompts
from sternpost.prompts.leakage import FITTED_ON
from sternpost.prompts.rows import labelled
from sternpost.prompts.splits import check_one_kind_each
from sternpost.prompts.tables import Row
from sternpost.trials.load import SHIPPED, packed_folder, trained_on, weight_hashes
from sternpost.types import Kind, LabelledPrompt

Files = Mapping[Kind, PromptFile]


def given_files(settings: ConfirmSettings) -> Files:
    """The prompt files that were named, read."""
    kinds: tuple[Kind, ...] = FILES
    return {kind: read_prompts(spec, kind) for kind in kinds
            if (spec := getattr(settings, kind)) is not None}


def prompts_of(settings: ConfirmSettings, pack: Pack,
               files: Files) -> tuple[list[LabelledPrompt], list[str]]:
    """The prompts, and what there is to note of them. Raises LeakageError where the pack was made
    from one of them, or its model trained on it."""
    notes = [warning for file in files.values() for warning in file.warnings]
    maker = shipped(pack)
    train = [] if maker is None else trained_on(maker)
    if settings.seed is None:
        prompts = [p for file in files.values() for p in file.prompts]
    elif maker is None:
        raise InputError(f"--seed draws prompts from the corpus of {', '.join(SHIPPED)}, and this "
                         f"pack is for {pack.source}. Give --unsafe F and --safe F.")
    else:
        prompts, more = _drawn(maker, settings.seed, pack, train)
        notes += more
    check_one_kind_each(prompts)
    check_disjoint(pack.files.splits, prompts)
    known = set(train)
    if seen := [p for p in prompts if p.request.sha256 in known]:
        raise LeakageError(f"{len(seen)} of {len(prompts)} prompts stand in the model's own "
                           f"training data, e.g. {seen[0].request.text[:80]!r}. Take them out.")
    return prompts, notes


def shipped(pack: Pack) -> str | None:
    """Which of the models that come with sternpost the pack is for, by its files; None for
    another."""
    wanted = pack.files.body["model"]["files"]
    return next((name for name in SHIPPED
                 if weight_hashes(packed_folder(name, "model")) == wanted), None)


def _drawn(maker: str, seed: int, pack: Pack,
           train: Sequence[str]) -> tuple[list[LabelledPrompt], list[str]]:
    """Fresh prompts of the model's own corpus, and, where there are not enough new ones, a note."""
    draw = importlib.import_module(SHIPPED[maker]).confirm_prompts
    splits, notes = pack.files.splits, []
    fitted = {*train, *(mark for name in FITTED_ON for mark in splits[name]),
              *(record[key] for name in FITTED_ON for record in splits["near"].get(name, ())
                for key in ("key", "cluster") if key in record)}
    try:
        rows = draw(seed, {*fitted, *splits["test"]})
    except InputError:
        rows = draw(seed, fitted)
        seen = set(splits["test"])
        prompts = _labelled(rows)
        again = sum(p.request.sha256 in seen for p in prompts)
        notes = [f"{again} of {len(prompts)} prompts stand in the pack's own test split: the corpus"
                 " has too few others."]
    return _labelled(rows), notes


def _labelled(rows: Mapping[Kind, Sequence[Mapping[str, Any]]]) -> list[LabelledPrompt]:
    return [labelled("drawn prompts", Row(f"row {at}", row), "prompt", kind)
            for kind, some in rows.items() for at, row in enumerate(some, start=1)]
