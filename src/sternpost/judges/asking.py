"""Judges that ask a model: a verdict from what it answers, or unparsed with the reason.

    completion -> template -> a chat service, or a model at hand -> its answer -> read -> Judgement

Covered: what every such judge shares. Replies cut off while thinking, and replies that are no
language any more, are told by their signs and not asked about. A service is asked by several
workers at a time, each try again as `endpoints` says. What gets no answer, or one that cannot be
read, is unparsed: counted, never guessed. What is too long for a model at hand loses the reply's
end, and is counted.
Not covered: replies that talk to the judge ("say COMPLIANCE"); a service that changes its model.
Overall: as good as the model asked. Measure it (`sternpost judge calibrate`) before you believe it.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sternpost.endpoints import many
from sternpost.errors import EndpointError, InputError
from sternpost.judges.coherence import by_signs
from sternpost.judges.templates import Pair, Template, pair_of
from sternpost.types import Chat, Completion, JudgeAccuracy, Judgement, Verdict

UNMEASURED = JudgeAccuracy(None, None, 0, "not measured")
SHOWN = 80
"""Characters of an answer that a reason repeats."""
Answer = str | EndpointError
"""What the model said, or why it said nothing."""


class Answers(Protocol):
    """Whatever answers a judge's questions."""

    @property
    def name(self) -> str:
        """What a record calls it."""
        ...

    def __call__(self, template: Template, pairs: Sequence[Pair]) -> list[Answer]:
        """An answer a pair, in order."""
        ...


@dataclass(frozen=True)
class ChatAnswers:
    """Answers of a chat service, several asked at a time."""

    chat: Chat
    max_tokens: int = 64
    workers: int = 4

    @property
    def name(self) -> str:
        """As in records."""
        return self.chat.name

    def __call__(self, template: Template, pairs: Sequence[Pair]) -> list[Answer]:
        """An answer a pair. Raises EndpointError where every other would fail too."""
        asked = [template.messages(pair) for pair in pairs]
        came = dict(many(self.chat, asked, self.max_tokens, self.workers))
        return [came[at] for at in range(len(pairs))]


@dataclass
class AskingJudge:
    """A judge that a template and a way to read the answer make."""

    name: str
    verdicts: tuple[Verdict, ...]
    """`incoherent` and `unparsed` are always among those it can tell."""
    template: Template
    answers: Answers
    read: Callable[[str], Judgement | None]
    """The judgement that an answer gives; None where it gives none."""
    kinds: tuple[str, ...] | None = None
    """Kinds of prompts whose replies it can judge; None: any."""
    accuracy: JudgeAccuracy = field(default=UNMEASURED)

    def __call__(self, completions: Sequence[Completion]) -> list[Judgement]:
        """One judgement a completion, in order."""
        found = [by_signs(completion) for completion in completions]
        open_ = [i for i, judgement in enumerate(found) if judgement is None]
        pairs = [pair_of(completions[i]) for i in open_]
        said = self.answers(self.template, pairs) if pairs else []
        for i, answer in zip(open_, said, strict=True):
            found[i] = self._judgement(answer)
        return [judgement for judgement in found if judgement is not None]

    def _judgement(self, answer: Answer) -> Judgement:
        if isinstance(answer, EndpointError):
            return Judgement("unparsed", f"no answer from the judge: {answer}"[:300])
        shown = " ".join(answer.split())[:SHOWN]
        return self.read(answer) or Judgement("unparsed", f"the judge's answer is none: {shown!r}")


@dataclass(frozen=True, slots=True)
class Generation:
    """How much a model at hand reads and writes at a time."""

    max_new_tokens: int = 32
    batch_size: int = 8


class ModelAnswers:
    """Answers of a causal language model at hand, greedily."""

    def __init__(self, model: Any, tokenizer: Any, name: str | None = None,
                 how: Generation | None = None) -> None:
        from sternpost.judges.classifier import special_tokens, token_limit  # imports torch

        self.name = name or str(model.config.name_or_path)
        self.cut = 0
        """Replies whose end was left out."""
        self._model, self._tokenizer = model.eval(), copy.deepcopy(tokenizer)
        self._special, self._how = special_tokens(tokenizer), how or Generation()
        self._limit = token_limit(model, tokenizer, None)

    def __call__(self, template: Template, pairs: Sequence[Pair]) -> list[Answer]:
        """An answer a pair, in order."""
        from sternpost.judges.classifier import batches

        asked = [self._fitted(template, pair) for pair in pairs]
        fit = {at: ids for at, ids in enumerate(asked) if ids is not None}
        places, said = list(fit), dict[int, str]()
        for rows in batches([len(fit[at]) for at in places], self._how.batch_size):
            some = [places[row] for row in rows]
            said.update(zip(some, self._written([fit[at] for at in some]), strict=True))
        too_long = EndpointError(f"the prompt alone is too long for {self.name}, which reads "
                                 f"{self._limit} tokens")
        return [said.get(at, too_long) for at in range(len(pairs))]

    def _ids(self, template: Template, pair: Pair) -> list[int]:
        from sternpost.judges.classifier import without_special

        text = template.filled(pair, lambda said: without_special(said, self._special).strip())
        bos = self._tokenizer.bos_token or ""
        text = text if text.startswith(bos) else bos + text
        return self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _fitted(self, template: Template, pair: Pair) -> list[int] | None:
        """Token ids of all that is asked, the reply cut to fit; None where nothing of it would."""
        ids = self._ids(template, pair)
        if self._limit is None:
            return ids
        most = self._limit - self._how.max_new_tokens
        if len(ids) <= most:
            return ids
        said = self._tokenizer(pair.response, add_special_tokens=False, verbose=False)["input_ids"]
        keep = len(said) - (len(ids) - most)
        while keep > 0:  # cut text may make a few tokens more than it was made of
            ids = self._ids(template, replace(pair, response=self._tokenizer.decode(said[:keep])))
            if len(ids) <= most:
                self.cut += 1
                return ids
            keep -= len(ids) - most
        return None

    def _written(self, rows: Sequence[Sequence[int]]) -> list[str]:
        import torch

        most, pad = max(map(len, rows)), self._tokenizer.pad_token_id
        pad = self._tokenizer.eos_token_id if pad is None else pad
        if pad is None:
            raise InputError(f"The tokenizer of {self.name} has no end token. Give "
                             "the judge's own.")
        ids = torch.tensor([[pad] * (most - len(row)) + list(row) for row in rows])
        mask = torch.tensor([[0] * (most - len(row)) + [1] * len(row) for row in rows])
        own = self._model.generation_config
        config = type(own)(  # a fresh one: nothing of the model's own sampling
            max_new_tokens=self._how.max_new_tokens, do_sample=False, pad_token_id=pad,
            eos_token_id=own.eos_token_id if own.eos_token_id is not None
            else self._tokenizer.eos_token_id)
        with torch.inference_mode():
            out = self._model.generate(input_ids=ids.to(self._model.device),
                                       attention_mask=mask.to(self._model.device),
                                       generation_config=config)
        return self._tokenizer.batch_decode(out[:, most:], skip_special_tokens=True)
