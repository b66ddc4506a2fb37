"""An Engine without a model: words as tokens, a refusal direction one can know beforehand.

A word's residual is a fixed random vector of norm 1; a word that `refuses` names also carries
`drive` times the refusal direction. The reply is a refusal if any prompt token's component along
it, after steering, exceeds 1; beyond 10 it is broken text. It ships so that everything above the
engines can be tested in milliseconds, by users too.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sternpost.sae import SAE
from sternpost.steering import compile_plan, rows_of, write
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
        self._words: dict[str, int] = {}

    def render(self, request: Request) -> str:
        """The user's words."""
        return next(m.content for m in request.messages if m.role == "user")

    def generate(self, requests: Sequence[Request], plan: Plan | None,
                 sampling: Sampling) -> list[Completion]:
        """A refusal, an answer or broken text for each request, by the rule above."""
        per_row = None if plan is None else rows_of(plan.edits)
        out = []
        for row, request in enumerate(requests):
            mine = plan
            if plan is not None and per_row is not None:
                mine = replace(plan, edits=per_row[row])
            out.append(self._reply(request, mine, sampling))
        return out

    def _reply(self, request: Request, plan: Plan | None, sampling: Sampling) -> Completion:
        words = self.render(request).split()
        h = self._residual(words)
        proof = None
        if plan is not None:
            h, proof = self._steered(h, plan)
        pull = float((h @ self.direction).max())
        text = BROKEN if pull > 10 else REFUSAL if pull > 1 else f"Sure: {' '.join(words[:8])}."
        text = " ".join(text.split()[:sampling.max_new_tokens])
        return Completion(request, text, text, self._ids(words), self._ids(text.split()), proof,
                          (*request.messages, Message("assistant", text)))

    def _steered(self, h: Tensor, plan: Plan) -> tuple[Tensor, Proof]:
        table = compile_plan(plan)
        edited = torch.ones(len(h), dtype=torch.bool)
        done = write(h, edited[:, None] & table.rows[:1], edited, table, plan.sae,
                     (plan.mode, plan.error))
        features = tuple(table.features)
        before, after = (tuple(part.mean(0).tolist()) for part in (done.before, done.after))
        return done.h, Proof(plan.sae.hookpoint, tuple(range(len(h))), features, before, after)

    def residuals(self, transcripts: Sequence[Transcript], at: Hookpoint) -> Iterator[Residuals]:
        """The words' vectors."""
        names = {number: word for word, number in self._words.items()}
        for transcript in transcripts:
            words = [names[i] for i in transcript.ids] or transcript.text.split() or \
                " ".join(m.content for m in transcript.messages).split()
            yield Residuals(torch.tensor(self._ids(words)), self._residual(words))

    def gradients(self, completions: Sequence[Completion], at: Hookpoint) -> list[Residuals]:
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

    def _ids(self, words: Sequence[str]) -> tuple[int, ...]:
        return tuple(self._words.setdefault(word, len(self._words)) for word in words)

    def _residual(self, words: Sequence[str]) -> Tensor:
        rows = [self._vector(word) for word in words]
        return torch.stack(rows) if rows else torch.zeros(0, self.d_model)

    def _vector(self, word: str) -> Tensor:
        seed = int(hashlib.sha256(word.encode()).hexdigest()[:8], 16)
        vector = torch.randn(self.d_model, generator=torch.Generator().manual_seed(seed))
        vector[0] = 0
        return vector / vector.norm() + self.drive * self.refuses(word) * self.direction
