"""Who goes to which split, so that shares are met and every category is spread.

Bundles (groups of several rows, and those bound to the test split) go first, largest first, each
to the split that lags most behind its share of the rows placed so far. Single rows, sorted by
category, then fill what is left in a regular pattern: the i-th of q places in a split stands at
(i + 1/2) / q of the way. Without bundles every share is met to within a row.
"""

from collections.abc import Mapping, Sequence

from sternpost.prompts.limit import seeded
from sternpost.types import SPLITS, LabelledPrompt, Split

SHARES: Mapping[str, tuple[int, int, int, int]] = {
    "unsafe": (30, 30, 0, 40), "safe": (20, 20, 25, 35)}
"""Percent, in the order of SPLITS. Capability prompts are test only."""
_TEST = SPLITS.index("test")


def assign(prompts: Sequence[LabelledPrompt], groups: Sequence[Sequence[int]],
           seed: int) -> list[Split]:
    """The split of each prompt. A group stays whole, and out of a split where one of its kinds
    has no share; one with a capability row goes to test. Row order does not matter."""
    where = [_TEST] * len(prompts)
    placed = {kind: [0] * len(SPLITS) for kind in SHARES}
    single = {kind: [g[0] for g in groups if len(g) == 1 and prompts[g[0]].kind == kind]
              for kind in SHARES}
    alone = {row for rows in single.values() for row in rows}
    bundles = [group for group in groups if group[0] not in alone]
    for group in sorted(bundles, key=lambda g: _bundle_order(g, prompts, seed)):
        counts = {kind: sum(prompts[row].kind == kind for row in group) for kind in SHARES}
        split = _TEST if _bound(group, prompts) else _lagging(counts, placed)
        for row in group:
            where[row] = split
        for kind, count in counts.items():
            placed[kind][split] += count
    for kind, rows in single.items():
        ordered = sorted(rows, key=lambda row: _row_order(prompts[row], seed))
        pattern = _pattern(_places_left(SHARES[kind], placed[kind], len(rows)))
        where = _filled(where, ordered, pattern)
    return [SPLITS[split] for split in where]


def _filled(where: list[int], rows: Sequence[int], pattern: Sequence[int]) -> list[int]:
    chosen = dict(zip(rows, pattern, strict=True))
    return [chosen.get(row, split) for row, split in enumerate(where)]


def _row_order(prompt: LabelledPrompt, seed: int) -> tuple[str, str]:
    return prompt.category or "", seeded(seed, prompt)


def _bundle_order(group: Sequence[int], prompts: Sequence[LabelledPrompt],
                  seed: int) -> tuple[bool, int, tuple[str, str]]:
    first = min(_row_order(prompts[row], seed) for row in group)
    return not _bound(group, prompts), -len(group), first


def _bound(group: Sequence[int], prompts: Sequence[LabelledPrompt]) -> bool:
    return any(prompts[row].kind not in SHARES for row in group)


def _lagging(counts: Mapping[str, int], placed: Mapping[str, Sequence[int]]) -> int:
    """The split that lags most, in hundredths of a row, of those that the group may go to."""
    def lag(split: int) -> int:
        return sum(n * (SHARES[kind][split] * (sum(placed[kind]) + n) - 100 * placed[kind][split])
                   for kind, n in counts.items())

    allowed = [split for split in range(len(SPLITS))
               if all(SHARES[kind][split] for kind, n in counts.items() if n)]
    return max(allowed, key=lag)


def _places_left(shares: Sequence[int], placed: Sequence[int], n: int) -> list[int]:
    """How many of `n` more rows each split gets, by largest remainder, so that all are met."""
    total = n + sum(placed)
    wanted = [max(0, share * total - 100 * have)
              for share, have in zip(shares, placed, strict=True)]
    places = [n * want // max(1, sum(wanted)) for want in wanted]
    remainders = [n * want % max(1, sum(wanted)) for want in wanted]
    most = sorted(range(len(shares)), key=lambda split: -remainders[split])
    for split in most[:n - sum(places)]:
        places[split] += 1
    return places


def _pattern(places: Sequence[int]) -> list[int]:
    at = sorted(((2 * i + 1) / (2 * q), split) for split, q in enumerate(places) for i in range(q))
    return [split for _, split in at]
