"""One conversation in a model: its tokens, the logit it is read by, what features do to that."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sternpost.discovery.trace_settings import TraceSettings
from sternpost.discovery.trace_tokens import Active, largest, pieces, short
from sternpost.engines.steer import steer
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import InputError
from sternpost.features import ablation_path
from sternpost.features.reference import Reference
from sternpost.gates import rolled
from sternpost.packs.pack import Pack
from sternpost.policy import opened
from sternpost.sae import SAE, FeatureActs
from sternpost.trials.find import ARCHETYPE
from sternpost.trials.goal import Sought
from sternpost.types import (
    REFUSAL,
    Ablate,
    Completion,
    Hookpoint,
    Message,
    Plan,
    Request,
    Sampling,
    Transcript,
)

CHECKED = 8
"""Features that are ablated: those that contribute most."""
CONTEXT = 4096
"""Tokens that are read, at most, as of any text."""


class Tracer:
    """The conversation of `settings`, said and read."""

    def __init__(self, engine: TransformersEngine, settings: TraceSettings,
                 sought: Sought) -> None:
        self.engine, self.settings, self.sought = engine, settings, sought
        self.judge = sought.judge()
        self.prompt = engine.encode(engine.render(_request(settings.prompt)))
        self._check(self.prompt, "The prompt")
        self.said = self._say(settings.prompt) if settings.reply is None else \
            self._given(settings.reply)
        self.ids = [*self.prompt, *self.said.reply_ids]
        self._check(self.ids, "The conversation")
        (self.t_inst,) = engine.template.t_inst([self.prompt])
        (self.verdict,) = self.judge([self.said])

    def _check(self, ids: Sequence[int], what: str) -> None:
        known = getattr(self.engine.model.config, "max_position_embeddings", None) or CONTEXT
        if len(ids) > min(known, CONTEXT):
            raise InputError(f"{what} has {len(ids)} tokens; at most {min(known, CONTEXT)} are "
                             "read. Give a shorter one, or a lower --max-new-tokens.")

    def _say(self, text: str) -> Completion:
        return self.engine.generate([_request(text)], None,
                                    Sampling(self.settings.max_new_tokens))[0]

    def _given(self, reply: str) -> Completion:
        """The reply of the settings, in the tokens that it has after the prompt."""
        whole = self.engine.encode(self.engine.render(_request(self.settings.prompt)) + reply)
        start = len(self.prompt)
        ids = whole[start:] if whole[:start] == self.prompt else self.engine.encode(reply)
        return self.engine.completion(self.prompt, ids, None)

    def about(self) -> dict[str, Any]:
        """The conversation, and whether it shows the goal."""
        goal = self.sought.goal
        return {"prompt": self.settings.prompt, "reply": self.said.reply,
                "reply_given": self.settings.reply is not None, "verdict": self.verdict.verdict,
                "goal": goal.name, "about": goal.about, "shown": goal.shown(self.verdict)}

    def tokens(self, risks: Sequence[float] | None) -> list[dict[str, Any]]:
        """What each token is, what it belongs to (prompt, t_inst, tail, response), the risk."""
        tail, n = len(self.prompt) - self.t_inst - 1, len(self.prompt)
        parts = ["prompt"] * self.t_inst + ["t_inst"] + ["tail"] * tail
        parts += ["response"] * len(self.said.reply_ids)
        texts = pieces(self.ids, self.engine.template.decode)
        return [{"at": at, "id": token, "text": texts[at], "part": parts[at],
                 "risk": None if risks is None or at >= n else risks[at]}
                for at, token in enumerate(self.ids)]

    def stream(self, at: Hookpoint) -> Float[Tensor, "token d_model"]:
        """The residual stream of all tokens."""
        (row,) = self.engine.residuals([Transcript(ids=tuple(self.ids))], at)
        return row.values.cpu()

    # ---- the logit -------------------------------------------------------------------------

    def logit(self) -> tuple[dict[str, Any] | None, str]:
        """The first token of a reply that shows the goal, with its logit where the reply begins;
        or None, and why."""
        told = []
        for source, reply in self._replies():
            (verdict,) = self.judge([reply])
            if reply.reply_ids and self.sought.goal.shown(verdict):
                return self._at(reply.reply_ids[0], source), ""
            told.append(f"{source}: {verdict.verdict}")
        return None, (f"No reply shows {self.sought.goal.name} ({'; '.join(told)}). Give a prompt "
                      "whose reply does with --archetype TEXT, or such a reply with --reply TEXT.")

    def _replies(self) -> Iterator[tuple[str, Completion]]:
        yield "reply", self.said
        if self.settings.reply is not None:
            yield "own reply", self._say(self.settings.prompt)
        known = self.sought.prompts.get("archetype", ())
        if self.sought.goal.name == REFUSAL.name:
            known = known or (ARCHETYPE,)
        for text in self.settings.archetype or known:
            yield "archetype", self._say(text)

    def _at(self, token: int, source: str) -> dict[str, Any]:
        logits = self.logits()
        says = int(logits.argmax())
        value, most = float(logits[token]), float(logits[says])
        return {"token": token, "text": self.engine.piece(token), "source": source, "value": value,
                "says": {"token": says, "text": self.engine.piece(says), "value": most},
                "difference": value - most}

    @torch.no_grad()
    def logits(self, sae: SAE | None = None, ablated: int | None = None) -> Float[Tensor, " vocab"]:
        """Where the reply begins; with a feature ablated at all tokens of the prompt."""
        ids, mask = self.engine.padded([self.prompt], left=False)

        def forward() -> Tensor:
            out = self.engine.model(input_ids=ids, attention_mask=mask, use_cache=False)
            return out.logits[0, -1].float().cpu()

        if sae is None or ablated is None:
            return forward()
        with steer(self.engine.model, Plan(sae, (Ablate(ablated),), positions="all")):
            return forward()

    # ---- features --------------------------------------------------------------------------

    def active(self, sae: SAE, h: Tensor, reference: Reference | None,
               logit: dict[str, Any] | None) -> Active:
        """What is active in the stream `h`, how unusual that is, and what it contributes."""
        acts = sae.encode(h.to(sae.device))
        features, values = acts.indices.cpu(), acts.values.float().cpu()
        surprise = None if reference is None else reference.surprise(
            features.flatten(), values.flatten()).view_as(values)
        added = None if logit is None else self._contribution(sae, acts, logit["token"])
        high = None if sae.stats is None else sae.stats.high.float().cpu()
        return Active(features, values, high, added, surprise)

    def _contribution(self, sae: SAE, acts: FeatureActs,
                      token: int) -> Float[Tensor, "prompt K"]:
        """Of each slot of the prompt's tokens to the logit of `token`: integrated gradients."""
        asked = replace(self.said, prompt_ids=tuple(self.prompt), reply_ids=(token,))
        (found,) = self.engine.gradients([asked], sae.hookpoint,
                                         lambda h: ablation_path(h, sae))
        assert found.gradient is not None
        n, h = len(self.prompt), found.values.to(sae.device)
        pull = found.gradient.to(sae.device) * sae.unit(h)
        by = torch.einsum("td,tkd->tk", pull.to(sae.W_dec), sae.W_dec[acts.indices[:n]])
        return (by * acts.values[:n]).float().cpu()

    def checked(self, sae: SAE, active: Active,
                logit: dict[str, Any] | None) -> list[dict[str, Any]]:
        """Of the features that contribute most and those asked for: what the logit, and its
        distance to that of the token that the model says, lose without the feature."""
        if logit is None:
            return []
        token, says, totals = logit["token"], logit["says"]["token"], active.totals()
        whole, out = self.logits(), []
        for feature in largest(totals, CHECKED, self.settings.feature):
            lost = whole - self.logits(sae, feature)
            out.append({"feature": feature, "contribution": short(totals.get(feature, 0.0)),
                        "ablation": short(lost[token]),
                        "contrast": None if token == says else short(lost[token] - lost[says])})
        return out

    def gate(self, pack: Pack) -> tuple[dict[str, Any] | None, list[float] | None]:
        """The gate of a pack with its decision at t_inst, and its risk at every token of the
        prompt; None for a pack without one."""
        plan = pack.at("high" if "high" in pack.levels else pack.levels[-1])
        if plan.gate is None:
            return None, None
        if plan.check is not None:  # first: it says whose pack it is
            plan.check(self.engine.model)
        self.engine.check(plan)
        at, threshold = plan.gate.hookpoint, plan.gate.threshold
        stream = self.stream(at)[:len(self.prompt)]
        risks = plan.gate.risk(stream).tolist()
        ends = self.engine.template.turns([self.prompt])[0] if plan.decay else [self.t_inst]
        read = rolled(plan.gate.risks(stream[ends])[None], plan.decay)
        risk = float(read[0, 0])
        doses = opened(plan, read, len(plan.edits))
        return {"pack": plan.pack, "kind": plan.gate.kind, "layer": at.layer, "risk": short(risk),
                "threshold": threshold, "fired": bool(doses.any())}, [short(one) for one in risks]


def _request(text: str) -> Request:
    return Request((Message("user", text),), text)
