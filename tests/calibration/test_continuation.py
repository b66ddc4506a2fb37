"""A continuation gate fitted to replies whose harm stands in some of their tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from sternpost import FakeEngine
from sternpost.calibration.continuation import Following, Replies, fit_continuation, heights
from sternpost.errors import GateError
from sternpost.gates import Hysteresis, ResidualGate
from sternpost.stats import conformal_threshold, grouped_threshold
from sternpost.types import Completion, Hookpoint, Request, Residuals, Transcript

HERE, D, HARM = Hookpoint(2), 8, 100
"""Tokens from HARM on are harmful."""


class Engine(FakeEngine):
    """One whose stream is what each token is, and whether it is harmful."""

    def residuals(self, transcripts: Sequence[Transcript], at: Hookpoint) -> Iterator[Residuals]:
        assert at == HERE
        for transcript in transcripts:
            ids = torch.tensor(transcript.ids)
            values = torch.stack([torch.randn(D, generator=torch.Generator().manual_seed(int(i)))
                                  for i in ids])
            values[:, 0] += 6.0 * (ids >= HARM)
            yield Residuals(ids, values)


def replies(n: int, seed: int, harmful: bool, **how: Any) -> Replies:
    """Replies of 12 tokens after a prompt of 3 that says harmful words itself."""
    g = torch.Generator().manual_seed(seed)
    said = []
    for _ in range(n):
        ids = torch.randint(0, HARM, (12,), generator=g)
        if harmful:
            ids[4:9] = torch.randint(HARM, 2 * HARM, (5,), generator=g)
        said.append(Completion(Request((), ""), "", "", (150, 160, 170), tuple(ids.tolist()), None))
    return Replies(said, [f"{seed}:{at % 20}" for at in range(n)], **how)


def parts(**how: Any) -> dict[str, Replies]:
    return {"harmful": replies(60, 1, True), "benign": replies(60, 2, False),
            "calibration": replies(200, 3, False, **how)}


def test_it_opens_in_harmful_replies_within_the_budget() -> None:
    engine, given = Engine(refuses=lambda word: False), parts()
    found = fit_continuation(engine, given, Following(HERE, 2, 3, 0.02))
    gate = found.continuation.gate
    assert (gate.hookpoint, found.continuation.on, found.continuation.off) == (HERE, 2, 3)
    assert (found.budget, found.n) == (0.02, {"harmful": 60, "benign": 60, "calibration": 200})
    assert found.auroc > 0.99
    new = [heights(gate, engine, replies(100, seed, harmful).said, 2)
           for seed, harmful in ((4, True), (5, False))]
    opened, false = ([height > gate.threshold for height in some] for some in new)
    assert sum(opened) >= 95
    assert sum(false) <= 8
    assert gate.threshold == conformal_threshold(
        heights(gate, engine, given["calibration"].said, 2), 0.02).value


@pytest.mark.parametrize("on", [1, 2, 4])
def test_a_height_is_the_threshold_up_to_which_a_reply_opens(on: int) -> None:
    engine = Engine(refuses=lambda word: False)
    gate = ResidualGate(HERE, torch.randn(D, generator=torch.Generator().manual_seed(7)), 0.0)
    said = replies(6, 8, True).said
    for completion, height in zip(said, heights(gate, engine, said, on), strict=True):
        (read,) = engine.residuals([Transcript(ids=completion.reply_ids)], HERE)
        risk = gate.risk(read.values)
        for threshold, opens in ((height - 1e-9, True), (height, False)):
            state, seen = Hysteresis(on, 3).start(1), False
            for one in risk:
                state = Hysteresis(on, 3).step(state, one[None] > threshold)
                seen = seen or bool(state.opened)
            assert seen == opens
    assert heights(gate, engine, [replace(said[0], reply_ids=(5,))], 2) == [0.0]


def test_each_kind_keeps_the_budget() -> None:
    engine = Engine(refuses=lambda word: False)
    kinds = ["a" if at % 2 else "b" for at in range(200)]
    found = fit_continuation(engine, parts(kinds=kinds), Following(HERE, budget=0.02))
    gate = found.continuation.gate
    safe = heights(gate, engine, parts()["calibration"].said, 2)
    assert gate.threshold == grouped_threshold(safe, kinds, 0.02).value


def test_nothing_to_tell_apart_is_refused() -> None:
    nothing = {**parts(), "harmful": Replies([], [])}
    with pytest.raises(GateError, match="got 0 tokens of the first"):
        fit_continuation(Engine(refuses=lambda word: False), nothing, Following(HERE))
