"""lm-evaluation-harness's Hugging Face model, steered: every score is that of the steered model.

    log-likelihood   one forward of context and continuation; the context is the prompt, the
                     continuation the response; the logits at token p score token p + 1
    generation       model.generate, steered as anywhere else

Rows are batched, cut and padded by lm-eval's own code, so that a plan of no edits, or a gate that
stays shut, gives the baseline's very digits. Before a task is scored, its edits are written with
the gate forced open on a few rows: where no scored logit moves, it is refused.

Covered: tasks of multiple choice, log-likelihood and generation; any plan with one list of edits.
Not covered: rolling log-likelihood with positions that a chat template marks, replies that a task
begins itself (`gen_prefix`) with such positions, a decay with a gate above the written block: all
refused. Overall: the reach is tried on a few rows of each task, and read off every row's proof.
"""

import copy
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.models import huggingface
from torch import Tensor

from sternpost.engines.steering import Steering
from sternpost.errors import EditError, InputError
from sternpost.evaluation.harness_rows import (
    Reach,
    Row,
    Subject,
    apart,
    reach,
    steered,
    unpadded,
)
from sternpost.steering import rows_of
from sternpost.types import Plan, Positions, Proof

if TYPE_CHECKING:
    from sternpost.engines.transformers import TransformersEngine

HFLM: Any = huggingface.HFLM  # its decorator hides its type
TRIED = 8
"""Rows of a task on which its reach is tried, at most."""
REPLY = 8
"""Tokens of the model's own reply that such a row of a generation task has, at most."""
Document = tuple[str, int]
"""A task's name and a document's number in it."""


class SteeredLM(HFLM):
    """lm-eval's model of `engine`, steered by `plan`, which may be set anew before each run; None:
    plain `--model hf`."""

    def __init__(self, engine: "TransformersEngine", batch_size: int = 1,
                 max_length: int | None = None) -> None:
        # a copy, as lm-eval gives a tokenizer a pad token
        super().__init__(pretrained=engine.model, tokenizer=copy.copy(engine.tokenizer),
                         batch_size=batch_size, max_length=max_length,
                         chat_template_args=dict(engine.template.arguments))
        self.engine = engine
        self._forget()

    def steer_by(self, plan: Plan | None) -> None:
        """What follows is steered by `plan`. Raises EditError for one that cannot be."""
        if plan is not None:
            if rows_of(plan.edits) is not None or not isinstance(plan.where, Positions):
                raise EditError("Tasks are run with one list of edits for all rows, at positions "
                                "that have names; got one a row, or a mask.")
            if plan.reads_above and plan.decay:
                raise EditError("A decay reads every user message, which a gate above the written "
                                "block cannot in a plain forward. Leave the decay out.")
            self.engine.check(plan)
        self._forget()
        self.plan = plan

    def _forget(self) -> None:
        self.plan: Plan | None = None
        self.proofs: dict[Document, list[Proof]] = defaultdict(list)
        """Of each document's requests, steered."""
        self.written: dict[Subject, list[Proof]] = defaultdict(list)
        """The same by task."""
        self.cut: set[Document] = set()
        """Documents that were too long and lost their beginning."""
        self.reached: dict[str, Reach | None] = {}
        """By task."""
        self._asked: Sequence[Any] | None = None
        self._rows: dict[tuple[int, ...], Row] | None = None
        self._told: dict[Any, Proof] = {}
        self._contexts: list[str] = []

    # ---- log-likelihood --------------------------------------------------------------------

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """(sum of log P, whether it is what greedy decoding gives) of each continuation."""
        self._asked = requests
        return super().loglikelihood(requests, disable_tqdm=True)

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False,
                              override_bs: int | None = None) -> Any:
        asked, self._asked = self._asked, None  # rolling windows belong to no request
        rows = [self._row(*request) for request in requests]
        if asked is not None:
            self.cut |= {_document(one) for one, row in zip(asked, rows, strict=True) if row.cut}
        if self.plan is None:
            return super()._loglikelihood_tokens(requests, True, override_bs)
        if asked is not None:
            self._try(zip(asked, rows, strict=True), False)
        out: list[Any] = [None] * len(requests)
        for layer in apart(rows):
            self._rows, self._told = {unpadded(rows[at].ids): rows[at] for at in layer}, {}
            got = super()._loglikelihood_tokens([requests[at] for at in layer], True, override_bs)
            for at, answer in zip(layer, got, strict=True):
                out[at] = answer
                if asked is not None:
                    self._keep(asked[at], self._told[rows[at].key])
        self._rows = None
        return out

    def _row(self, texts: tuple[str, str] | None, context: list[int],
             continuation: list[int]) -> Row:
        """What the model is given for a request."""
        whole = context + continuation
        prompt = len(context)
        if texts is not None and texts[0] != texts[0].rstrip():
            # lm-eval gives the context's last blanks to the continuation: they are prompt still
            ids = self.tok_encode(texts[0])
            prompt = len(ids) if whole[:len(ids)] == ids else prompt
        ids = whole[-(self.max_length + 1):][:-1]
        cut = len(whole) - 1 - len(ids)
        return Row(tuple(ids), min(max(prompt - cut, 0), len(ids)), len(continuation), cut > 0)

    def _model_call(self, inps: Tensor, attn_mask: Tensor | None = None,
                    labels: Tensor | None = None) -> Tensor:
        if self.plan is None or self._rows is None:
            return super()._model_call(inps, attn_mask, labels)
        rows = [self._rows[unpadded(ids)] for ids in inps.tolist()]
        logits, proofs = self._steered(inps, rows, self.plan)
        self._told |= {row.key: proof for row, proof in zip(rows, proofs, strict=True)}
        return logits

    def _steered(self, ids: Tensor, rows: Sequence[Row],
                 plan: Plan | None) -> tuple[Tensor, Sequence[Proof]]:
        if plan is None:
            return super()._model_call(ids), ()
        with steered(self.engine, plan, rows, ids) as run:
            logits = super()._model_call(ids)
        return logits, [row.own(proof) for row, proof in zip(rows, run.proof, strict=True)]

    # ---- generation ------------------------------------------------------------------------

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """The reply to each context."""
        room = [self._room(request) for request in requests]
        ids = [self._encoded(request.args[0]) for request in requests]
        self.cut |= {_document(request) for request, row, n in zip(requests, ids, room, strict=True)
                     if len(row) > n}
        if self.plan is not None:
            self._try(((request, self._replied(ids[at][-room[at]:], self.max_length - room[at]))
                      for at, request in self._first(requests)), True)
        self._told = {}
        out = super().generate_until(requests, disable_tqdm=True)
        if self.plan is not None:
            for request in requests:
                self._keep(request, self._told[request.args[0]])
        return out

    def _room(self, request: Any) -> int:
        """How many tokens of a context fit beside the reply."""
        given = request.args[1].get("max_gen_toks", request.args[1].get("max_new_tokens"))
        room = self.max_length - (given or self.max_gen_toks)
        if room < 1:
            raise InputError(f"Task {request.task_name}: replies of {given or self.max_gen_toks} "
                             f"tokens leave no room for a prompt, as the model reads "
                             f"{self.max_length}. Give fewer, e.g. max_gen_toks="
                             f"{self.max_length // 4}.")
        return room

    def _encoded(self, text: str) -> list[int]:
        return HFLM.tok_batch_encode(self, [text])[0][0].tolist()

    def tok_batch_encode(self, strings: list[str], *args: Any, **kwargs: Any) -> Any:
        """As lm-eval's; what a batch of contexts is, is known only here."""
        self._contexts = list(strings)
        return super().tok_batch_encode(strings, *args, **kwargs)

    def _model_generate(self, context: Tensor, max_length: int, stop: list[str],
                        **generation_kwargs: Any) -> Tensor:
        if self.plan is None:
            return super()._model_generate(context, max_length, stop, **generation_kwargs)
        with Steering(self.model, self.plan, self.engine.template) as run:
            out = super()._model_generate(context, max_length, stop, **generation_kwargs)
        self._told |= dict(zip(self._contexts, run.proof, strict=True))
        return out

    def _replied(self, ids: list[int], most: int) -> Row:
        """A context with the beginning of the model's own unsteered reply."""
        given = torch.tensor([ids], device=self.device)
        out = super()._model_generate(given, len(ids) + min(REPLY, most), [],
                                      attention_mask=torch.ones_like(given))[0].tolist()
        reply = out[len(ids):]
        stop = self.engine.stop_ids()
        n = next((at + 1 for at, token in enumerate(reply) if token in stop), len(reply))
        return Row(tuple((ids + reply[:n])[:-1]), len(ids), n, False)

    # ---- what was reached ------------------------------------------------------------------

    def _first(self, requests: Sequence[Any]) -> Any:
        """The first requests of each task, with their places."""
        count: dict[str, int] = defaultdict(int)
        for at, request in enumerate(requests):
            count[request.task_name] += 1
            if count[request.task_name] <= TRIED:
                yield at, request

    def _try(self, asked: Any, generates: bool) -> None:
        """Raises EditError for a task none of whose scored logits the plan's edits reach."""
        tasks: dict[str, dict[Any, Row]] = defaultdict(dict)
        for request, row in asked:
            if len(tasks[request.task_name]) < TRIED:
                tasks[request.task_name].setdefault(row.key, row)
        assert self.plan is not None
        for task, rows in tasks.items():
            self.reached[task] = reach(Subject(task, generates), self.plan, list(rows.values()),
                                       self._scored)

    def _scored(self, rows: Sequence[Row],
                plan: Plan | None) -> tuple[list[Tensor], list[Proof]]:
        """The scored logits of each row [token, vocabulary], and its proof where `plan` is one."""
        logits: list[Tensor] = []
        proofs: list[Proof] = []
        for start in range(0, len(rows), int(self.batch_size)):
            batch = rows[start:start + int(self.batch_size)]
            ids = torch.zeros(len(batch), max(len(row.ids) for row in batch), dtype=torch.long)
            for at, row in enumerate(batch):
                ids[at, :len(row.ids)] = torch.tensor(row.ids)
            out, done = self._steered(ids.to(self.device), batch, plan)
            proofs += done
            logits += [out[at, len(row.ids) - row.scored:len(row.ids)].float().cpu()
                       for at, row in enumerate(batch)]
        return logits, proofs

    def _keep(self, request: Any, proof: Proof) -> None:
        self.proofs[_document(request)].append(proof)
        self.written[Subject(request.task_name, "generate" in request.request_type)].append(proof)


def _document(request: Any) -> Document:
    return request.task_name, request.doc_id
