"""The Engine over a Hugging Face causal language model.

Covered: chat-formatted greedy generation in left-padded batches, scripts of several user turns,
residual streams, likelihoods, gradients; all steered through `steer`. Not covered: sampling.
Overall: one batch is one forward; results do not depend on what else is in it (see tests).
"""

import gc
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from sternpost.activations import answer_of
from sternpost.engines.architectures import find_blocks, width
from sternpost.engines.gradients import Path, frozen, gradient
from sternpost.engines.halves import until
from sternpost.engines.steering import Steering
from sternpost.engines.sweep import Decided, sweep
from sternpost.engines.templates import Template, turns_of
from sternpost.errors import EditError
from sternpost.steering import rows_of
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

BATCH = 64
"""Rows a forward, unless told otherwise. 256 took twice as long on two processor cores."""


class TransformersEngine:
    """A loaded model, its tokenizer and template as an Engine."""

    def __init__(self, model: Any, template: Template, batch_size: int | None = None) -> None:
        self.model, self.template = model, template
        self.tokenizer = template.tokenizer
        self.blocks = find_blocks(model)
        self.n_layers, self.d_model = len(self.blocks.blocks), width(model)
        self.batch_size = batch_size or BATCH
        self.marks = template.marks()
        self.bos: int | None = self.tokenizer.bos_token_id
        self._pieces: dict[int, str] = {}
        self._pad = self.tokenizer.pad_token_id or 0

    def render(self, request: Request) -> str:
        """The text that the model is given for the request's first user turn."""
        return self.template.render(turns_of(request.messages)[0])

    def check(self, plan: Plan) -> None:
        """Raises a SternpostError if `plan` cannot be carried out on this model."""
        Steering(self.model, plan, self.template)
        if plan.check is not None:
            plan.check(self.model)

    # ---- generation ------------------------------------------------------------------------

    def generate(self, requests: Sequence[Request], plan: Plan | None,
                 sampling: Sampling) -> list[Completion]:
        """One reply a request, in order; greedy; steered by `plan`. A script's user turns are
        answered one by one, each batch of turns together."""
        per_row = None if plan is None else rows_of(plan.edits)
        if per_row is not None and len(per_row) != len(requests):
            raise EditError(f"{len(per_row)} lists of edits for {len(requests)} requests. Give one "
                            "list a request, or one flat list for all.")
        scripts = [turns_of(request.messages) for request in requests]
        said: list[tuple[Message, ...]] = [() for _ in requests]
        done: list[Completion | None] = [None for _ in requests]
        for turn in range(max(map(len, scripts), default=0)):
            rows = [row for row, script in enumerate(scripts) if turn < len(script)]
            for batch in self._batches(rows):
                now = [(*said[row], *scripts[row][turn]) for row in batch]
                edits = None if per_row is None else tuple(per_row[row] for row in batch)
                for row, text, reply in zip(batch, now, self._reply(now, plan, edits, sampling),
                                            strict=True):
                    said[row] = (*text, Message("assistant", reply.reply))
                    done[row] = replace(reply, request=requests[row], messages=said[row])
        return [completion for completion in done if completion is not None]

    def _batches(self, rows: Sequence[int]) -> Iterator[list[int]]:
        start = 0
        while start < len(rows):
            size = self.batch_size
            yield list(rows[start:start + size])
            start += size

    def _reply(self, conversations: Sequence[tuple[Message, ...]], plan: Plan | None,
               edits: tuple[Any, ...] | None, sampling: Sampling) -> list[Completion]:
        prompts = [self.encode(self.template.render(messages)) for messages in conversations]
        parts = self._alike(prompts)
        if len(parts) == 1:
            try:
                now = plan if plan is None or edits is None else replace(plan, edits=edits)
                replies, proofs = self._run(prompts, now, sampling)
                return [self.completion(*row) for row in zip(prompts, replies, proofs, strict=True)]
            except torch.OutOfMemoryError:
                if len(prompts) == 1:
                    raise
                self.halve(len(prompts))
                rows, middle = range(len(prompts)), len(prompts) // 2
                parts = [list(rows[:middle]), list(rows[middle:])]
        said = {row: reply for part in parts for row, reply in zip(part, self._reply(
            [conversations[row] for row in part], plan,
            edits and tuple(edits[row] for row in part), sampling), strict=True)}
        return [said[row] for row in range(len(prompts))]

    def _alike(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """The rows that may share a batch: all, but where the architecture reads padding those of
        one length, and where it mixes rows each by itself."""
        row = self.blocks.architecture
        if row.batch is not None:
            return [[at] for at in range(len(prompts))]
        if row.padding is None:
            return [list(range(len(prompts)))]
        lengths = sorted({len(ids) for ids in prompts})
        return [[row for row, ids in enumerate(prompts) if len(ids) == n] for n in lengths]

    def halve(self, rows: int | None = None) -> None:
        """Halves the batch, for good, after memory ran out."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.batch_size = max(1, (rows or self.batch_size) // 2)

    def sweep(self, requests: Sequence[Request], plans: Sequence[Plan], sampling: Sampling,
              decided: Decided | None = None) -> list[list[Completion]]:
        """The completions of each plan; see sweep.py."""
        return sweep(self, requests, plans, sampling, decided)

    @torch.no_grad()
    def _run(self, prompts: Sequence[list[int]], plan: Plan | None,
             sampling: Sampling) -> tuple[list[list[int]], Sequence[Proof | None]]:
        ids, mask = self.padded(prompts, left=True)
        steered = nullcontext() if plan is None else Steering(self.model, plan, self.template)
        with self.greedy(sampling.max_new_tokens), steered as run:
            out = self.model.generate(input_ids=ids, attention_mask=mask)
        stop = self.stop_ids()
        replies = [_until(row, stop) for row in out[:, ids.shape[1]:].tolist()]
        return replies, [None] * len(prompts) if run is None else run.proof

    @contextmanager
    def greedy(self, max_new_tokens: int) -> Iterator[None]:
        """Greedy generation with the model's own eos and pad and nothing else of its
        generation_config: no penalties, no processors."""
        own = self.model.generation_config
        plain = GenerationConfig(do_sample=False, num_beams=1, max_new_tokens=max_new_tokens,
                                 eos_token_id=own.eos_token_id, bos_token_id=own.bos_token_id,
                                 pad_token_id=self._pad)
        self.model.generation_config = plain
        try:
            yield
        finally:
            self.model.generation_config = own

    def stop_ids(self) -> set[int]:
        """The tokens that end a reply."""
        eos = self.model.generation_config.eos_token_id
        return set(eos) if isinstance(eos, list) else {eos} if eos is not None else set()

    def completion(self, prompt: list[int], reply: list[int], proof: Proof | None) -> Completion:
        """What the token ids of a prompt and its reply say; without request and messages."""
        raw = self.template.decode(reply)
        answer = answer_of(raw, self.marks) if self.marks.think_close else None
        text = self.tokenizer.decode(reply, skip_special_tokens=True)
        if self.marks.think_close is None:
            answer = text
        elif answer is not None:
            ids = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
            answer = self.tokenizer.decode(ids, skip_special_tokens=True)
        return Completion(Request((), ""), text, answer, tuple(prompt), tuple(reply), proof)

    # ---- looking inside --------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """Token ids of a rendered text."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def piece(self, token: int) -> str:
        """The text of one token as it stands in the middle of others."""
        if token not in self._pieces:
            raw = str(self.tokenizer.convert_ids_to_tokens(token))
            text = self.tokenizer.decode([token], skip_special_tokens=False)
            led = raw.startswith("\u2581") and not text.startswith(" ")  # SentencePiece's space
            self._pieces[token] = f" {text}" if led else text
        return self._pieces[token]

    def texts(self, replies: Sequence[list[int]]) -> list[str]:
        """The text of token ids, special tokens left out, of many at once."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        many = self.tokenizer.batch_decode if backend is None else backend.decode_batch
        return many(replies, skip_special_tokens=True)

    def tail_ids(self) -> list[int]:
        """The template's tokens after the last user message, as they stand in a prompt."""
        ids = self.encode(self.template.render([Message("user", "Hello?")]))
        return ids[self.template.t_inst([ids])[0] + 1:]

    def ids(self, transcript: Transcript) -> list[int]:
        """Token ids of a text, of a conversation under the chat template."""
        if transcript.ids:
            return list(transcript.ids)
        if transcript.messages:
            last = transcript.messages[-1].role != "assistant"
            return self.encode(self.template.render(transcript.messages, last))
        return self.tokenizer(transcript.text)["input_ids"]

    @torch.no_grad()
    def residuals(self, transcripts: Sequence[Transcript], at: Hookpoint) -> Iterator[Residuals]:
        """Residual stream of each transcript's tokens, in order; longer texts than the model's
        context are cut."""
        longest = getattr(self.model.config, "max_position_embeddings", None) or 4096
        texts = [self.ids(transcript)[:min(longest, 4096)] for transcript in transcripts]
        for batch in self._batches(range(len(texts))):
            chosen = [texts[row] for row in batch]
            ids, mask = self.padded(chosen, left=False)
            values = self._stream(ids, mask, at)
            for text, row in zip(chosen, values, strict=True):
                yield Residuals(torch.tensor(text, dtype=torch.long), row[:len(text)].float())

    @torch.no_grad()
    def at_t_inst(self, prompts: Sequence[Transcript], at: Hookpoint) -> Tensor:
        """[prompt, d_model], float32, on the CPU: the stream at the last token of the last user
        message of each prompt: token ids up to the reply, or messages that end with the user's."""
        out = torch.empty(len(prompts), self.d_model)
        texts = [self.ids(prompt) for prompt in prompts]
        where = self.template.t_inst(texts)
        for batch in self._batches(sorted(range(len(texts)), key=lambda row: len(texts[row]))):
            values = self._stream(*self.padded([texts[row] for row in batch], left=False), at)
            for row, stream in zip(batch, values, strict=True):
                out[row] = stream[where[row]].float().cpu()
        return out

    def _stream(self, ids: Tensor, mask: Tensor, at: Hookpoint) -> Tensor:
        return until(self.blocks, at, input_ids=ids, attention_mask=mask, use_cache=False)[0]

    @torch.no_grad()
    def nll(self, completions: Sequence[Completion]) -> list[float]:
        """Mean negative log-likelihood a reply token (nats) under the unsteered model; NaN for a
        reply without tokens."""
        out = [float("nan")] * len(completions)
        order = sorted((row for row, c in enumerate(completions) if c.reply_ids),
                       key=lambda row: len(completions[row].prompt_ids))
        for batch in self._batches(order):
            chosen = [completions[row] for row in batch]
            ids, mask = self.padded([[*c.prompt_ids, *c.reply_ids] for c in chosen], left=False)
            first = min(len(c.prompt_ids) for c in chosen) - 1
            logits = self._logits(ids, mask, first)
            for row, scores, c in zip(batch, logits, chosen, strict=True):
                start, n = len(c.prompt_ids) - 1 - first, len(c.reply_ids)
                target = torch.tensor(c.reply_ids, device=scores.device)
                picked = scores[start:start + n].float().log_softmax(-1).gather(-1, target[:, None])
                out[row] = float(-picked.mean())
        return out

    def _logits(self, ids: Tensor, mask: Tensor, first: int) -> Tensor:
        """Logits from position `first` on; the model computes no others where it knows how."""
        known = inspect.signature(self.model.forward).parameters
        keep = {"logits_to_keep": ids.shape[1] - first} if "logits_to_keep" in known else {}
        logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False, **keep).logits
        return logits[:, -(ids.shape[1] - first):]

    def gradients(self, completions: Sequence[Completion], at: Hookpoint,
                  path: Path | None = None) -> list[Residuals]:
        """Residual stream of each prompt, and its gradient of the logit of the reply's first
        token; with a `path` of streams, the mean over them."""
        with frozen(self.model):
            return [gradient(self, completion, at, path) for completion in completions]

    def padded(self, rows: Sequence[Sequence[int]], left: bool) -> tuple[Tensor, Tensor]:
        """Rows of token ids side by side, and which are real: both [row, seq], long."""
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self._pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            where = slice(longest - len(row), None) if left else slice(0, len(row))
            ids[number, where] = torch.tensor(row, dtype=torch.long)
            mask[number, where] = 1
        device = self.model.get_input_embeddings().weight.device
        return ids.to(device), mask.to(device)


def _until(ids: list[int], stop: set[int]) -> list[int]:
    for at, token in enumerate(ids):
        if token in stop:
            return ids[:at]
    return ids
