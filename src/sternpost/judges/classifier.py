"""A sequence-classification model as a prompt classifier: P(harm) a request.

    softmax   P(harm) = sum of the harmful labels' probabilities      (labels exclude one another)
    sigmoid   P(harm) = max of the harmful labels' probabilities      (each label by itself)

Covered: any Hugging Face `...ForSequenceClassification` over text; which labels are harmful is said
by the user, or guessed from a label that is named so. What it reads is `text_of` the request: the
turns of user and assistant up to the user's last, a blank line between; special tokens that a
prompt spells out are broken up. A text that is too long loses its beginning and is counted.
Not covered: what a model means by its labels (one of hate speech or of injections tells nothing of
other harm), harm in the part cut off, system messages, calibration: P is as sure as the model is.
Overall: one small forward a prompt, as good as the model on prompts like yours. Measure it there.
"""

import copy
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from sternpost.errors import InputError
from sternpost.types import Message, Request

Scores = Literal["softmax", "sigmoid"]
HARM_WORDS = frozenset({"unsafe", "harmful", "toxic", "jailbreak", "malicious", "injection"})
"""A label with one of these words, and no negation, is taken for the harmful one."""
_NEGATIONS = frozenset({"no", "not", "non", "un"})


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is read at a time."""

    batch_size: int = 16
    """Requests a forward."""
    max_tokens: int | None = None
    """Tokens of a request; None: as many as model and tokenizer take."""


@dataclass(frozen=True, slots=True)
class Reads:
    """What became of the requests that a classifier was asked about."""

    asked: int = 0
    cut: int = 0
    """Too long: their beginning was left out."""
    unparsed: int = 0
    """No answer that means anything: their P(harm) is NaN."""

    def plus(self, asked: int, cut: int, unparsed: int) -> "Reads":
        """These, and so many more."""
        return Reads(self.asked + asked, self.cut + cut, self.unparsed + unparsed)


class TextClassifier:
    """P(harm) of each request, by a sequence-classification model."""

    def __init__(self, model: Any, tokenizer: Any, unsafe_labels: Sequence[str] = (), *,
                 scores: Scores | None = None, name: str | None = None,
                 limits: Limits | None = None) -> None:
        """`unsafe_labels`: those of the model's labels that mean harm; none: guessed. `scores`:
        how logits become probabilities; None: as the config's problem_type says."""
        self.labels = tuple(str(model.config.id2label[i]) for i in range(model.config.num_labels))
        self.scores: Scores = scores or _scores(model.config)
        self.unsafe_labels = _checked(self.labels, tuple(unsafe_labels), self.scores)
        self.name = name or str(model.config.name_or_path)
        self.counts = Reads()
        self._columns = [i for i, label in enumerate(self.labels) if label in self.unsafe_labels]
        self._model, self._tokenizer = model.eval(), copy.deepcopy(tokenizer)
        self._special = special_tokens(tokenizer)
        self._tokenizer.truncation_side, self._tokenizer.padding_side = "left", "right"
        limits = limits or Limits()
        self._limit = token_limit(model, tokenizer, limits.max_tokens)
        # a model that looks for the padding to find the last token must know the tokenizer's
        padded = tokenizer.pad_token_id is not None and \
            tokenizer.pad_token_id == getattr(model.config, "pad_token_id", None)
        self._batch_size = limits.batch_size if padded else 1

    def __call__(self, requests: Sequence[Request]) -> list[float]:
        """P(harm) in [0, 1] of each request, in order; NaN where there is no number
        or no text."""
        texts = [without_special(text_of(request), self._special) for request in requests]
        lengths = [len(self._tokenizer(text, verbose=False)["input_ids"]) for text in texts]
        found = [math.nan] * len(texts)
        for rows in batches(lengths, self._batch_size):
            said = [i for i in rows if lengths[i]]  # of nothing, nothing can be told
            for row, harm in zip(said, self._harm([texts[i] for i in said]), strict=True):
                found[row] = harm
        cut = sum(self._limit is not None and length > self._limit for length in lengths)
        self.counts = self.counts.plus(len(texts), cut, sum(map(math.isnan, found)))
        return found

    def _harm(self, texts: list[str]) -> list[float]:
        if not texts:
            return []
        asked = self._tokenizer(
            texts, padding=len(texts) > 1, truncation=self._limit is not None,
            max_length=self._limit, return_tensors="pt")
        with torch.inference_mode():
            logits = self._model(**{key: asked[key].to(self._model.device)
                                    for key in ("input_ids", "attention_mask")}).logits
        if self.scores == "sigmoid":
            return _listed(logits.double().sigmoid()[:, self._columns].amax(-1))
        return _listed(logits.double().softmax(-1)[:, self._columns].sum(-1))


def _listed(harm: Tensor) -> list[float]:
    return harm.clamp(0.0, 1.0).tolist()  # a sum of probabilities may pass 1 by rounding


def turns_of(request: Request) -> list[Message]:
    """User and assistant in turn, the user first and last: the request up to its last user turn.

    User turns with no reply between (a script) are one turn, a blank line between. Left out are
    system messages, which are the operator's, and what the assistant says before the first user
    turn. A request without turns is its text.
    """
    turns: list[Message] = []
    for message in request.messages:
        if message.role not in ("user", "assistant") or (not turns and message.role != "user"):
            continue
        if turns and turns[-1].role == message.role:
            joined = f"{turns[-1].content}\n\n{message.content}"
            turns[-1] = replace(turns[-1], content=joined)
        else:
            turns.append(message)
    if turns and turns[-1].role == "assistant":
        del turns[-1]
    return turns or [Message("user", request.text)]


def text_of(request: Request) -> str:
    """What a text classifier reads of a request: its turns, a blank line between."""
    return "\n\n".join(turn.content for turn in turns_of(request))


def special_tokens(tokenizer: Any) -> re.Pattern[str]:
    """Finds the special tokens of a tokenizer in a text."""
    names = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)")


def without_special(text: str, special: re.Pattern[str]) -> str:
    """A text in which the special tokens that it spells out are mere text: a blank stands after
    their first letter."""
    return special.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)


def token_limit(model: Any, tokenizer: Any, asked: int | None) -> int | None:
    """Tokens that model and tokenizer take at most, or `asked` if that is fewer; None: no limit."""
    places = getattr(model.config, "max_position_embeddings", None)
    if places is not None:
        places -= _first_place(model)
    limits = [limit for limit in (tokenizer.model_max_length, places, asked) if limit is not None]
    least = min(limits)
    if least < 8:
        raise InputError(f"A classifier that reads {least} tokens reads nothing. Give at least 8.")
    return int(least) if least < 10 ** 9 else None  # tokenizers without a limit state 1e30


def _first_place(model: Any) -> int:
    """The position of a first token: 0; after the padding's in models of RoBERTa's family."""
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:
            return padding + 1
    return 0


def batches(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices in batches of texts of like length: little is padded."""
    if size < 1:
        raise InputError(f"A batch is at least 1 request; got {size}.")
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for start in range(0, len(order), size):
        yield order[start:start + size]


def _scores(config: Any) -> Scores:
    if config.problem_type == "multi_label_classification":
        return "sigmoid"
    if config.num_labels == 1 or config.problem_type == "regression":
        raise InputError(
            f"The classifier gives {config.num_labels} score(s), and its config does not say that "
            "they are logits (problem_type is "
            f"{config.problem_type!r}). If they are, give scores='sigmoid'; a regression model "
            "gives no probability.")
    return "softmax"


def _checked(labels: tuple[str, ...], named: tuple[str, ...], scores: Scores) -> tuple[str, ...]:
    """The harmful labels. Raises InputError."""
    listed = ", ".join(labels)
    if not named:
        return _guessed(labels)
    for name in named:
        if name not in labels:
            raise InputError(f"The classifier has no label {name!r}. Its labels are: {listed}.")
    if scores == "softmax" and set(labels) <= set(named):
        raise InputError(f"All of the classifier's labels ({listed}) are named as harmful: every "
                         "request would be. Name those that mean harm.")
    return named


def _guessed(labels: tuple[str, ...]) -> tuple[str, ...]:
    words = [set(re.findall("[a-z]+", label.lower())) for label in labels]
    found = tuple(label for label, said in zip(labels, words, strict=True)
                  if said & HARM_WORDS and not said & _NEGATIONS)
    if len(found) != 1:
        what = f"{len(found)} of its labels sound so" if found else "none of its labels says so"
        raise InputError(f"Which of the classifier's labels mean harm? {what.capitalize()}. Name "
                         f"them as unsafe_labels, from: {', '.join(labels)}.")
    return found
