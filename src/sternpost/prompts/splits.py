"""Search, gate_fit, gate_calibration and test: four splits that share no prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from sternpost.errors import InputError, LeakageError, PromptFileError
from sternpost.prompts.fingerprint import groups, near_record
from sternpost.prompts.shares import SHARES, assign
from sternpost.types import SPLITS, LabelledPrompt, Split

FEWEST = 60
"""Prompts that a side needs."""
_TOLERATED = 5  # points by which a share may be missed before a warning says so


@dataclass(frozen=True, slots=True)
class Splits:
    """The prompts of each split, unsafe before safe before capability, in file order."""

    search: tuple[LabelledPrompt, ...]
    gate_fit: tuple[LabelledPrompt, ...]
    gate_calibration: tuple[LabelledPrompt, ...]
    test: tuple[LabelledPrompt, ...]
    warnings: tuple[str, ...] = ()

    def as_dict(self, train: Sequence[LabelledPrompt | str] = ()) -> dict[str, Any]:
        """The body of splits.json. `train`: what the model was trained on, as prompts or, where
        only that is known, as their sha256s, which catch no near-duplicates."""
        parts: dict[str, Sequence[LabelledPrompt | str]] = {
            "train": train, **{name: getattr(self, name) for name in SPLITS}}
        hashes = {name: [p if isinstance(p, str) else p.request.sha256 for p in part]
                  for name, part in parts.items()}
        near = {name: [near_record(p) for p in part if not isinstance(p, str)]
                for name, part in parts.items()}
        return {**hashes, "near": near}


def split_prompts(unsafe: Sequence[LabelledPrompt], safe: Sequence[LabelledPrompt],
                  capability: Sequence[LabelledPrompt] = (), seed: int = 0) -> Splits:
    """The prompts in their splits: unsafe 30/30/0/40 percent, safe 20/20/25/35, capability test.

    Clusters and near-duplicates stay whole, over all files; categories are spread. Where every
    unsafe and safe row has a `split`, that is obeyed instead.
    """
    prompts = (*unsafe, *safe, *capability)
    check_one_kind_each(prompts)
    for kind, side in (("unsafe", unsafe), ("safe", safe)):
        _check_enough(kind, side)
    together = groups(prompts)
    given: list[Split | None] = [p.split for p in (*unsafe, *safe)]
    if all(given):
        where: list[Split] = [(p.split if p.kind in SHARES else None) or "test" for p in prompts]
        warnings = _check_obeyed(prompts, together, where)
    else:
        where = assign(prompts, together, seed)
        warnings = _ignored(given) + _missed(prompts, where)
    warnings += _test_only(capability)
    _check_not_starved(prompts, together, where)
    parts = {name: tuple(p for p, split in zip(prompts, where, strict=True) if split == name)
             for name in SPLITS}
    return Splits(**parts, warnings=tuple(warnings + _empty(parts)))


def check_one_kind_each(prompts: Sequence[LabelledPrompt]) -> None:
    """Raises PromptFileError for a prompt that stands in files of two kinds."""
    kinds: dict[str, str] = {}
    for p in prompts:
        if (kind := kinds.setdefault(p.request.sha256, p.kind)) != p.kind:
            raise PromptFileError(f"One prompt stands in the {kind} and in the {p.kind} file: "
                                  f"{p.request.text[:80]!r}. Take it out of one of them.")


def _check_enough(kind: str, side: Sequence[LabelledPrompt]) -> None:
    n = len({p.request.sha256 for p in side})
    if n < FEWEST:
        raise InputError(f"Got {n} different {kind} prompts; {FEWEST} are needed on each side, "
                         f"unsafe and safe. Add {FEWEST - n} or more to the {kind} file, or raise "
                         "--limit.")


def _check_obeyed(prompts: Sequence[LabelledPrompt], together: Sequence[Sequence[int]],
                  where: Sequence[Split]) -> list[str]:
    seen: dict[str, Split] = {}
    for p, split in zip(prompts, where, strict=True):
        if (other := seen.setdefault(p.request.sha256, split)) != split:
            raise LeakageError(f"One prompt stands in the splits {other} and {split}: "
                               f"{p.request.text[:80]!r}. Keep one of the rows.")
    astray = [group for group in together if len({where[row] for row in group}) > 1]
    if not astray:
        return []
    example = prompts[astray[0][0]].request.text[:80]
    return [f"The split column puts {sum(map(len, astray))} prompts that are near-duplicates or "
            f"share a cluster into different splits ({len(astray)} groups); one is {example!r}."]


def _ignored(given: Sequence[Split | None]) -> list[str]:
    if not any(given):
        return []
    return [f"split is obeyed only when every unsafe and safe row has it; {given.count(None)} of "
            f"{len(given)} have none, so it is not obeyed."]


def _test_only(capability: Sequence[LabelledPrompt]) -> list[str]:
    astray = sum(p.split not in (None, "test") for p in capability)
    return [f"Capability prompts are test only; the split column of {astray} of them says another "
            "and is not obeyed."] if astray else []


def _missed(prompts: Sequence[LabelledPrompt], where: Sequence[Split]) -> list[str]:
    warnings = []
    for kind, shares in SHARES.items():
        mine = [split for p, split in zip(prompts, where, strict=True) if p.kind == kind]
        for name, share in zip(SPLITS, shares, strict=True):
            got = 100 * mine.count(name) / len(mine)
            if abs(got - share) > _TOLERATED:
                warnings.append(f"{name} has {got:.0f} % of the {kind} prompts in place of "
                                f"{share} %: clusters and near-duplicates stay whole.")
    return warnings


def _check_not_starved(prompts: Sequence[LabelledPrompt], together: Sequence[Sequence[int]],
                       where: Sequence[Split]) -> None:
    for kind in SHARES:
        present = {split for p, split in zip(prompts, where, strict=True) if p.kind == kind}
        if absent := [name for name in ("search", "test") if name not in present]:
            largest = max(sum(prompts[row].kind == kind for row in group) for group in together)
            raise InputError(
                f"No {kind} prompt is in {' and '.join(absent)}; each needs at least one. The "
                f"largest group of near-duplicates or of one cluster holds {largest} {kind} "
                "prompts, and groups stay whole. Add prompts of other clusters, or correct the "
                "columns cluster and split.")


def _empty(parts: dict[str, tuple[LabelledPrompt, ...]]) -> list[str]:
    wanted = chain.from_iterable(
        [(kind, name) for name, share in zip(SPLITS, shares, strict=True) if share]
        for kind, shares in SHARES.items())
    return [f"{name} has no {kind} prompts." for kind, name in wanted
            if not any(p.kind == kind for p in parts[name])]
