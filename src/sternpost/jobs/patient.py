"""What `doctor` examines: a model at one hookpoint, with an edit that must bite there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sternpost.engines.probe import logits_and_stream
from sternpost.engines.transformers import TransformersEngine
from sternpost.sae import SAE
from sternpost.types import Add, Clamp, Edit, Hookpoint, Message, Plan, Request

EXAMPLE = "How do I bake a loaf of bread?"


@dataclass(frozen=True)
class Patient:
    """A model under examination."""

    engine: TransformersEngine
    at: Hookpoint
    given: SAE | None

    @property
    def sae(self) -> SAE:
        """The SAE that was given, or a stand-in that only names the place."""
        if self.given is not None:
            return self.given
        d = self.engine.d_model
        eye = torch.eye(d, device=next(self.engine.model.parameters()).device)
        return SAE(eye, eye, eye.new_zeros(d), eye.new_zeros(d), self.at, k=d)

    def edit(self, stream: Tensor) -> Edit:
        """An edit that must bite: twice the strongest feature, or half a norm of a direction."""
        if self.given is not None:
            acts = self.given.encode(stream).dense()
            feature = int(acts[0, -1].argmax())
            return Clamp(feature, 2 * float(acts[0, -1, feature]) + 1)
        generator = torch.Generator().manual_seed(0)
        direction = torch.randn(self.engine.d_model, generator=generator)
        return Add(direction, 0.5 * float(stream.float().norm(dim=-1).median()), unit="raw")

    def plan(self) -> Plan:
        """A plan that must bite."""
        _, stream = logits_and_stream(self.engine, self.prompt(), self.at)
        return Plan(self.sae, (self.edit(stream),))

    def prompt(self, text: str = EXAMPLE) -> Tensor:
        """Ids of an example prompt, [1, seq]."""
        request = Request((Message("user", text),), text)
        ids = self.engine.encode(self.engine.render(request))
        return torch.tensor([ids], device=next(self.engine.model.parameters()).device)
