"""The leakage check: nothing is evaluated on what it was fitted on."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from sternpost.errors import InputError, LeakageError
from sternpost.prompts.fingerprint import marks, marks_of, own_cluster
from sternpost.types import LabelledPrompt

FITTED_ON = ("train", "search", "gate_fit", "gate_calibration")
"""Splits that something was trained, chosen or calibrated on."""


def check_disjoint(splits: Mapping[str, Any], prompts: Sequence[LabelledPrompt]) -> None:
    """Nothing, if no prompt was fitted on; else a LeakageError that counts and names them.

    `splits`: an earlier run's splits.json. A prompt was fitted on if there it has its text, a
    near-duplicate or its cluster.
    """
    found = fitted_on(splits, prompts)
    if not found:
        return
    counts = ", ".join(f"{n} in {name}" for name, n in Counter(found.values()).items())
    first = next(p for p in prompts if p.request.sha256 in found)
    raise LeakageError(
        f"{len(found)} of {len(prompts)} prompts to be evaluated, or near-duplicates or rows of "
        f"their clusters, were fitted on ({counts}); the first is "
        f"{first.request.text[:80]!r}. Take them out, or evaluate on the test split.")


def fitted_on(splits: Mapping[str, Any], prompts: Sequence[LabelledPrompt]) -> dict[str, str]:
    """sha256 of each prompt that was fitted on, to the split where it, a near-duplicate or its
    cluster stands."""
    known = _known(splits)
    found: dict[str, str] = {}
    for prompt in prompts:
        mine = {("sha256", prompt.request.sha256), *marks_of(prompt)}
        if split := next((known[mark] for mark in mine if mark in known), None):
            found[prompt.request.sha256] = split
    return found


def _known(splits: Mapping[str, Any]) -> dict[Hashable, str]:
    known: dict[Hashable, str] = {}
    try:
        for name in FITTED_ON:
            for sha256 in splits[name]:
                known.setdefault(("sha256", sha256), name)
                known.setdefault(own_cluster(sha256), name)
            for record in splits["near"][name] if name != "train" else _train(splits):
                for mark in marks(record):
                    known.setdefault(mark, name)
    except (KeyError, TypeError) as error:
        raise InputError(f"This is no splits.json of a run: {error!r} where each of "
                         f"{', '.join(FITTED_ON)} and near is needed.") from error
    return known


def _train(splits: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return splits["near"].get("train", ())  # of training prompts often only hashes are known
