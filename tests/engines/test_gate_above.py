"""A gate above the written block: the prompt up to t_inst is read first, the rest is steered."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from families import family
from sternpost import Clamp, Plan, Positions, steer
from sternpost.engines.architectures import find_blocks
from sternpost.errors import EditError, PositionsError
from sternpost.gates import ResidualGate
from sternpost.types import Hookpoint
from subjects import VOCAB, D, close, make_sae

ABOVE, TAIL, T_INST = 3, (61, 62), 6
SAE_ = make_sae()
EDITS = (Clamp(5, 6.0), Clamp(9, 4.0))
G = torch.Generator().manual_seed(4)
PROMPTS = torch.cat([torch.randint(1, VOCAB - 4, (4, 7), generator=G), torch.tensor([TAIL] * 4)], 1)
W = torch.randn(D, generator=G)


@pytest.fixture(scope="module", params=["bloom", "gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> Any:
    return family(request.param)


def above(model: Any) -> Tensor:
    """What the last block puts out."""
    kept: list[Any] = []
    block = find_blocks(model).blocks[ABOVE]
    handle = block.register_forward_hook(lambda module, args, out: kept.append(out))
    with torch.no_grad():
        model(PROMPTS)
    handle.remove()
    return kept[0][0] if isinstance(kept[0], tuple) else kept[0]


def gate(model: Any, fires: int) -> ResidualGate:
    """A gate at the last block that fires on so many of PROMPTS."""
    h = above(model)
    raw = ResidualGate(Hookpoint(ABOVE), W / h[:, T_INST].norm(dim=-1).mean(), 0.0)
    risks = [1.0, *raw.risk(h[:, T_INST]).sort(descending=True).values.tolist(), 0.0]
    return replace(raw, threshold=(risks[fires] + risks[fires + 1]) / 2)


def generate(model: Any, gate: Any, edits: Any = EDITS, ids: Any = PROMPTS,
             **options: Any) -> tuple[Any, Any]:
    plan = Plan(SAE_, edits, mode="threshold", gate=gate, tail=TAIL)
    how: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "output_logits": True,
                           "return_dict_in_generate": True, **options}
    with torch.no_grad(), steer(model, plan) as run:
        out = model.generate(ids, **how)
    return torch.stack(out.logits), run.proof


def test_the_risk_is_that_of_the_unedited_stream_above(model: Any) -> None:
    probe = gate(model, 2)
    h = above(model)
    _, proofs = generate(model, probe)
    want = probe.risk(h[:, T_INST])
    assert [p.risk for p in proofs] == pytest.approx(want.tolist(), abs=1e-6)
    assert sum(bool(p.fired) for p in proofs) == 2
    for proof in proofs:
        assert proof.positions == (tuple(range(7, 14)) if proof.fired else ())


def test_shut_it_is_the_empty_plan_and_open_the_ungated_one(model: Any) -> None:
    shut, _ = generate(model, gate(model, 0))
    empty, _ = generate(model, gate(model, 4), edits=())
    assert torch.equal(shut, empty)
    opened, _ = generate(model, gate(model, 4))
    with torch.no_grad(), steer(model, Plan(SAE_, EDITS, "threshold", "tail+response",
                                            tail=TAIL)):
        bare = torch.stack(model.generate(
            PROMPTS, max_new_tokens=6, do_sample=False, output_logits=True,
            return_dict_in_generate=True).logits)
    close(opened, bare)
    assert not torch.allclose(opened, shut, atol=1e-2)


def test_neither_neighbours_nor_padding_change_it(model: Any) -> None:
    probe = gate(model, 2)
    together, proofs = generate(model, probe)
    padded = torch.cat([torch.zeros(4, 3, dtype=torch.long), PROMPTS], 1)
    mask = (torch.arange(12) >= 3).long().expand(4, 12)
    left, moved = generate(model, probe, ids=padded, attention_mask=mask)
    for row in range(4):
        alone, (proof,) = generate(model, probe, ids=PROMPTS[row:row + 1])
        assert proof.positions == proofs[row].positions == moved[row].positions
        close(together[:, row], alone[:, 0], 1e-4)  # logits of six steps
        close(left[:, row], alone[:, 0], 1e-4)


def test_what_it_cannot_do_is_refused(model: Any) -> None:
    probe = gate(model, 4)
    with pytest.raises(EditError, match="one beam"):
        generate(model, probe, num_beams=2)
    with pytest.raises(EditError, match=r"is written later"):
        Plan(SAE_, EDITS, gate=probe, positions="t_inst+tail")
    where = Positions("tail+response", prompt_length=9)
    with torch.no_grad(), steer(model, Plan(SAE_, EDITS, gate=probe, tail=TAIL, positions=where)), \
            pytest.raises(PositionsError, match="no forward of this call has shown"):
        model(PROMPTS)


def test_a_model_that_forgets_between_chunks_is_refused() -> None:
    probe = ResidualGate(Hookpoint(ABOVE), W, 0.0)
    with pytest.raises(EditError, match=r"jamba does not keep \(off by 0\.2"):
        steer(family("jamba"), Plan(SAE_, EDITS, gate=probe, tail=TAIL))
