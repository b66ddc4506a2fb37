"""An Engine without a model: words as tokens, a refusal direction one can know beforehand.

A word's residual is a fixed random vector of norm 1; a word that `refuses` names also carries
`drive` times the refusal direction. The reply is a refusal if any prompt token's component along
it, after steering, exceeds 1; beyond 10 it is broken text. It ships so that everything above the
engines can be tested in milliseconds, by users too.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from sternpost.errors import EditError
from sternpost.policy import opened
from sternpost.sae import SAE
from sternpost.steering import Table, compile_plan, rows_of, write
from sternpost.types import (
    Completion,
    Hookpoint,
    Message,
    Plan,
    Proof,
    Request,
    Residuals,
    Sampling,
    Transcript,
)

REFUSAL = "I'm sorry, but I can't help with that."
BROKEN = "no no no no no no no no no no no no no no no no no no no no"


class FakeEngine:
    """A chat model made of a hash function: `FakeEngine(refuses=lambda word: word == "bomb")`."""

    def __init__(self, refuses: Callable[[str], bool], d_model: int = 16, n_layers: int = 4,
                 drive: float = 3.0) -> None:
        self.refuses, self.drive = refuses, drive
        self.d_model, self.n_layers = d_model, n_layers
        self.batch_size, self.bos = 64, None
        self.direction = torch.eye(d_model)[0]

    def render(self, request: Request) -> str:
        """The user's words."""
        return next(m.content for m in request.messages if m.role == "user")

    def generate(self, requests: Sequence[Request], plan: Plan | None,
                 sampling: Sampling) -> list[Completion]:
        """A refusal, an answer or broken text for each request, by the rule above."""
        table = None if plan is None else compile_plan(plan)
        per_row = plan is not None and rows_of(plan.edits) is not None
        if table is not None and per_row and len(table.lists) != len(requests):
            raise EditError(f"{len(table.lists)} lists of edits for {len(requests)} requests.")
        out = []
        for row, request in enumerate(requests):
            words = self.render(request).split()
            h, proof = self._residual(words), None
            if plan is not None and table is not None:
                h, proof = _steered(h, plan, table, row if per_row else 0)
            text = self._text(h, words, sampling)
            out.append(Completion(request, text, text, _ids(words), _ids(text.split()), proof,
                                  (*request.messages, Message("assistant", text))))
        return out

    def sweep(self, requests: Sequence[Request], plans: Sequence[Plan], sampling: Sampling,
              decided: Callable[[str], bool] | None = None) -> list[list[Completion]]:
        """One `generate` a plan; every reply is whole."""
        return [self.generate(requests, plan, sampling) for plan in plans]

    def _text(self, h: Tensor, words: Sequence[str], sampling: Sampling) -> str:
        pull = float((h @ self.direction).max())
        text = BROKEN if pull > 10 else REFUSAL if pull > 1 else f"Sure: {' '.join(words[:8])}."
        return " ".join(text.split()[:sampling.max_new_tokens])

    def residuals(self, transcripts: Sequence[Transcript], at: Hookpoint) -> Iterator[Residuals]:
        """The words' vectors."""
        for transcript in transcripts:
            words = [_word(i) for i in transcript.ids] or transcript.text.split() or \
                " ".join(m.content for m in transcript.messages).split()
            yield Residuals(torch.arange(len(words)), self._residual(words))

    def at_t_inst(self, prompts: Sequence[Transcript], at: Hookpoint) -> Tensor:
        """The sum of the words' vectors: the last word has seen all of them."""
        return torch.stack([r.values.sum(0) for r in self.residuals(prompts, at)])

    def gradients(self, completions: Sequence[Completion], at: Hookpoint,
                  path: Callable[[Tensor], Tensor] | None = None) -> list[Residuals]:
        """The refusal direction, everywhere."""
        return [residual._replace(gradient=self.direction.expand_as(residual.values))
                for residual in self.residuals(
                    [Transcript(ids=c.prompt_ids) for c in completions], at)]

    def nll(self, completions: Sequence[Completion]) -> list[float]:
        """1 nat a token for anything but broken text."""
        return [9.0 if c.reply == BROKEN else 1.0 for c in completions]

    def planted_sae(self, d_sae: int = 32, layer: int = 0) -> SAE:
        """An SAE whose feature 0 is the refusal direction, others random; everything calibrated."""
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(d_sae, self.d_model, generator=generator)
        rows[:, 0] = 0
        rows = rows / rows.norm(dim=-1, keepdim=True)
        rows[0] = self.direction
        return SAE(rows, rows.clone(), torch.zeros(d_sae), torch.zeros(self.d_model),
                   Hookpoint(layer), k=4, threshold=torch.full((d_sae,), 0.5), residual_norm=1.0)

    def _residual(self, words: Sequence[str]) -> Tensor:
        rows = [self._vector(word) for word in words]
        return torch.stack(rows) if rows else torch.zeros(0, self.d_model)

    def _vector(self, word: str) -> Tensor:
        seed = int(hashlib.sha256(word.encode()).hexdigest()[:8], 16)
        vector = torch.randn(self.d_model, generator=torch.Generator().manual_seed(seed))
        vector[0] = 0
        return vector / vector.norm() + self.drive * self.refuses(word) * self.direction


def _steered(h: Tensor, plan: Plan, table: Table, row: int) -> tuple[Tensor, Proof]:
    if plan.decay or plan.continuation is not None:
        raise EditError("The fake engine reads a prompt once and no reply: it knows no decay and "
                        "no continuation gate. Use a model.")
    risk = None if plan.gate is None else float(plan.gate.risk(h.sum(0)[None])[0])
    slots = list(table.lists[row])
    on, fired = table.rows[row:row + 1].float(), None
    if plan.gate is not None:
        on[0, slots] = opened(plan, torch.tensor([[risk]], dtype=torch.float64), len(slots))[0]
        fired = bool(on.any())
    edited = torch.full((len(h),), fired is not False)
    done = write(h, edited[:, None] * on, edited, table, plan.sae, plan.how)
    before, after = (tuple(part[:, slots].mean(0).tolist()) for part in (done.before, done.after))
    return done.h, Proof(plan.sae.hookpoint, tuple(edited.nonzero().flatten().tolist()),
                         tuple(table.features[slot] for slot in slots), before, after, risk, fired,
                         plan.pack)


def _ids(words: Sequence[str]) -> tuple[int, ...]:
    """Each word as a number that can be read back, by any engine."""
    return tuple(int.from_bytes(word.encode(), "big") for word in words)


def _word(number: int) -> str:
    return number.to_bytes((number.bit_length() + 7) // 8, "big").decode()
