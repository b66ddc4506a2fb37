"""A guard model - WildGuard, Llama Guard - as a prompt classifier: P(harm) a request.

    P(harm) = p(harmful) / (p(harmful) + p(harmless))        of the answer's token, by its logits

Covered: causal language models on plain transformers, asked in the form that they were trained on
(`guards.toml`). Nothing is generated and nothing parsed: one forward, read where the answer begins.
The two answers must hold nearly all of the probability there; else the request is unparsed, NaN and
counted. Turns as of `classifier.turns_of`: WildGuard is given them as one request (it knows no
conversations), Llama Guard as turns of User and Agent. What is too long is given as one text, its
beginning cut off, and counted. Special tokens that a prompt spells out are broken up.
Versions of Llama Guard differ, so a tokenizer's own template is used where it has one: 1 is asked
between [INST] marks and answers on their line, with categories O1 to O6; 2 and 3 have Llama 3's
marks and 11 and 14 categories; 3 writes two line ends before its answer; the 1B model of 3 has 13
categories and takes a turn as a list of parts. 4 reads images too and is no causal language model
to transformers: serve it behind a moderation endpoint.
Not covered: replies, categories, harm in the part cut off, prompts that imitate a form's plain
words ([/INST], <END CONVERSATION>).
Overall: far larger than other gates, one whole forward a prompt. The forms follow the guards'
public descriptions; check on labelled prompts that few are unparsed before you trust one.
"""

import copy
import math
import re
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import torch

from sternpost.errors import InputError, ModelError
from sternpost.judges.classifier import (
    Limits,
    Reads,
    batches,
    special_tokens,
    text_of,
    token_limit,
    turns_of,
    without_special,
)
from sternpost.types import Message, Request

MASS = 0.9
"""The two answers hold at least so much of the probability, or there is no answer."""
_INST = "[/INST]"


@dataclass(frozen=True, slots=True)
class GuardForm:
    """How a guard is asked: an entry of `guards.toml`, which says what each field is."""

    key: str
    names: tuple[str, ...]
    """What names of its models contain, in small letters and digits."""
    about: str
    prompt: str
    user: str
    assistant: str
    harmful: str
    harmless: str
    mark: str = ""

    def text(self, turns: Sequence[Message]) -> str:
        """All that the guard is given, up to its answer."""
        said = [getattr(self, turn.role).replace("{text}", turn.content) for turn in turns]
        begin, _, end = self.prompt.partition("{conversation}")
        return f"{begin}{''.join(said)}{end}"


@cache
def guard_forms() -> dict[str, GuardForm]:
    """Every form that there is, by key."""
    text = resources.files("sternpost.judges").joinpath("guards.toml").read_text("utf-8")
    return {key: GuardForm(key, tuple(entry.pop("names")), **entry)
            for key, entry in tomllib.loads(text).items()}


def form_of(name: str, tokenizer: Any = None) -> GuardForm | None:
    """The form of the guard that a model's name, or its tokenizer's template, tells of; or None."""
    plain = re.sub("[^a-z0-9]", "", name.lower())
    template = str(getattr(tokenizer, "chat_template", None) or "")
    return next((form for form in guard_forms().values() if any(n in plain for n in form.names)
                 or (form.mark and form.mark in template)), None)


class Guard:
    """P(harm) of each request, by a guard model."""

    def __init__(self, model: Any, tokenizer: Any, form: GuardForm, *, name: str | None = None,
                 limits: Limits | None = None) -> None:
        """`model`: a causal language model that was trained on `form`."""
        self.form = form
        self.name = name or str(model.config.name_or_path)
        self.counts = Reads()
        self._model, self._tokenizer = model.eval(), copy.deepcopy(tokenizer)
        self._special = special_tokens(tokenizer)
        self._parts = self._template_takes_parts()
        self._lead, self._answers = self._read_answers()
        limits = limits or Limits()
        self._batch_size = limits.batch_size
        self._limit = token_limit(model, tokenizer, limits.max_tokens)
        needed = len(self._ids([Message("user", "")])) + 8
        if self._limit is not None and self._limit < needed:
            raise InputError(f"The form of {form.key} alone takes {needed - 8} tokens; got at most "
                             f"{self._limit}. Give max_tokens of {needed} or more.")

    def __call__(self, requests: Sequence[Request]) -> list[float]:
        """P(harm) in [0, 1] of each request, in order; NaN where the guard does not answer."""
        asked = [self._fitted(request) for request in requests]
        found = [0.0] * len(asked)
        for rows in batches([len(ids) for ids, _ in asked], self._batch_size):
            for row, harm in zip(rows, self._harm([asked[i][0] for i in rows]), strict=True):
                found[row] = harm
        self.counts = self.counts.plus(len(asked), sum(cut for _, cut in asked),
                                       sum(map(math.isnan, found)))
        return found

    def text(self, turns: Sequence[Message]) -> str:
        """What the guard reads of a conversation, up to where its answer begins."""
        turns = [Message(turn.role, without_special(turn.content, self._special).strip())
                 for turn in turns]
        text = self.form.text(turns) if self._parts is None else \
            _line_ended(self._own(turns, self._parts))
        bos = self._tokenizer.bos_token or ""
        return text if text.startswith(bos) else bos + text

    def _own(self, turns: Sequence[Message], parts: bool) -> str:
        """By the template of the guard's own tokenizer."""
        messages = [{"role": turn.role, "content": [{"type": "text", "text": turn.content}]
                     if parts else turn.content} for turn in turns]
        return self._tokenizer.apply_chat_template(messages, tokenize=False)

    def _template_takes_parts(self) -> bool | None:
        """Whether the tokenizer's own template takes a turn as a list of parts, or as a text; None
        where it has none of this guard's."""
        template = str(self._tokenizer.chat_template or "")
        if not self.form.mark or self.form.mark not in template:
            return None
        probe = [Message("user", "sternpost")]
        for parts in (False, True):
            with suppress(Exception):  # a template that takes the one may fail on the other
                if probe[0].content in self._own(probe, parts):
                    return parts
        raise ModelError(f"The chat template of {self.name} leaves the user's message out. Give "
                         "the guard's own tokenizer.")

    def _read_answers(self) -> tuple[list[int], tuple[int, int]]:
        """Tokens that both answers begin with, then the first in which harmful and harmless
        differ."""
        text = self.text([Message("user", "?")])
        space = " " if text.endswith(_INST) else ""
        head, *both = [self._tokens(text + answer) for answer in (
            "", space + self.form.harmful, space + self.form.harmless)]
        harmful, harmless = [ids[len(head):] for ids in both]
        same = next((i for i, (one, other) in enumerate(zip(harmful, harmless, strict=False))
                     if one != other), None)
        if same is None or any(ids[:len(head)] != head for ids in both):
            raise ModelError(f"The tokenizer of {self.name} does not tell the answers "
                             f"{self.form.harmful!r} and {self.form.harmless!r} apart, in the form "
                             f"of {self.form.key}. Give the guard's own tokenizer.")
        return harmful[:same], (harmful[same], harmless[same])

    def _tokens(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _ids(self, turns: Sequence[Message]) -> list[int]:
        return [*self._tokens(self.text(turns)), *self._lead]

    def _fitted(self, request: Request) -> tuple[list[int], bool]:
        """Token ids of all that is asked, and whether the request was cut to fit."""
        ids = self._ids(turns_of(request))
        if self._limit is None or len(ids) <= self._limit:
            return ids, False
        said = self._tokens(text_of(request))
        keep = self._limit - len(self._ids([Message("user", "")]))
        while len(ids) > self._limit:  # cut text may make a few tokens more than it was made of
            tail = self._tokenizer.decode(said[-keep:]) if keep > 0 else ""
            ids = self._ids([Message("user", tail)])
            keep -= max(1, len(ids) - self._limit)
        return ids, True

    def _harm(self, rows: Sequence[Sequence[int]]) -> list[float]:
        most = max(map(len, rows))
        ids = torch.tensor([[0] * (most - len(row)) + list(row) for row in rows])
        mask = torch.tensor([[0] * (most - len(row)) + [1] * len(row) for row in rows])
        asked = {"input_ids": ids, "attention_mask": mask,
                 "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}
        with torch.inference_mode():
            logits = self._model(**{key: value.to(self._model.device)
                                    for key, value in asked.items()},
                                 use_cache=False, logits_to_keep=1).logits[:, -1]
        harmful, harmless = logits.double().softmax(-1)[:, list(self._answers)].unbind(-1)
        mass = harmful + harmless
        return torch.where(mass >= MASS, harmful / mass, torch.nan).tolist()


def _line_ended(text: str) -> str:
    """The guard's answer comes after an empty line, or right after Llama 2's mark."""
    text = text.rstrip()
    return text if text.endswith(_INST) else f"{text}\n\n"
