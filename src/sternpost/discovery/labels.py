"""Labels by a language model, and how well each tells where its feature is active.

    label      asked with contexts in which the active tokens are marked, and what it writes
    detection  of held-out windows, half with the feature and half without, which have it?
    fuzzing    of held-out windows with the feature and some tokens marked, half rightly and half
               anywhere else, in which are they right?

Both scores are shares of right answers on windows that the label was not made from. A reply that
cannot be read counts as wrong for all of its windows, and is counted as unread. What a service
said is kept at once, a feature a file, so that an interrupted run asks only for what is missing.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from sternpost.endpoints import many
from sternpost.errors import EndpointError
from sternpost.features.describe import Piece, Source, context
from sternpost.features.gather import Gathered
from sternpost.stats import rate
from sternpost.store import RunFolder
from sternpost.trials.progress import Watch
from sternpost.types import Chat, Message

GIVE_UP = 3
"""Conversations that may fail while none is answered."""
EACH = 6
"""Windows of each half of a score."""
TASK = ("You describe features of a language model. A feature is active on some tokens of a text; "
        "they are marked with << >>. Say in at most twelve plain words what they have in common: "
        "the topic, word or role that the feature stands for. Answer with the description alone.")
WHICH = ("A feature of a language model is described so: {label}\nFor each numbered text say "
         "whether the feature is active in it. Answer with a JSON list of 0 or 1, one a text, "
         "nothing else.\n\n{texts}")
MARKS = ("A feature of a language model is described so: {label}\nIn each numbered text some "
         "tokens are marked with << >>. Say for each text whether the marked tokens are those on "
         "which the feature is active. Answer with a JSON list of 0 or 1, one a text, nothing else."
         "\n\n{texts}")


@dataclass(frozen=True)
class Labeller:
    """A language model, and what it may see."""

    chat: Chat
    found: Gathered
    sources: Sequence[Source]
    piece: Piece
    workers: int = 4
    seed: int = 0

    def label(self, entries: Sequence[dict[str, Any]], folder: RunFolder,
              watch: Watch) -> tuple[list[dict[str, Any]], list[EndpointError]]:
        """What is said of each of these features, as far as the service answers; what failed.
        Raises EndpointError where nothing at all is answered."""
        failed: list[EndpointError] = []
        asked = [[Message("system", TASK), Message("user", _shown(entry))] for entry in entries]
        said = self._ask(entries, asked, "label", (folder, watch, failed))
        done = [(entry, label, said[at]["date"]) for at, entry in enumerate(entries)
                if at in said and (label := _line(said[at]["reply"]))]
        tasks = [(entry, label, *self._windows(entry["feature"])) for entry, label, _ in done]
        scores = {name: self._score(tasks, name, (folder, watch, failed))
                  for name in ("detection", "fuzzing")}
        return [{"feature": entry["feature"], "label": label, "label_by": self.chat.name,
                 "label_date": date, "score": self._scored(at, scores)}
                for at, (entry, label, date) in enumerate(done)], failed

    def _scored(self, at: int, scores: dict[str, dict[int, list[bool | None]]]) -> dict[str, Any]:
        score: dict[str, Any] = {}
        why: dict[str, str] = {}
        for name, hits in scores.items():
            found = rate([hit is True for hit in hits[at]]) if at in hits else None
            score[name] = found and found.as_dict()
            if found is None:
                why[name] = "fewer than two held-out windows with it, or without it"
            elif None in hits[at]:
                why[name] = "the reply was no list of so many 0 and 1; counted as wrong"
        return {**score, **({"why": why} if why else {})}

    def _ask(self, entries: Sequence[dict[str, Any]], asked: Sequence[Sequence[Message]],
             what: str, keep: tuple[RunFolder, Watch, list[EndpointError]],
             ) -> dict[int, dict[str, str]]:
        """Index -> reply and date, of those that were kept and those that are answered now."""
        folder, watch, failed = keep
        keys = [f"{what}-{entry['feature']}" for entry in entries]
        said = {at: folder.once(key, dict) for at, key in enumerate(keys) if folder.has(key)}
        new = [at for at in range(len(keys)) if at not in said]
        replies = many(self.chat, [asked[at] for at in new], workers=self.workers)
        for at, reply in watch.bar(replies, len(new), f"asking for {what}s"):
            if isinstance(reply, EndpointError):
                failed.append(reply)
                if what == "label" and len(failed) >= GIVE_UP and not said:
                    raise reply
            else:
                body = {"reply": reply, "date": datetime.now(UTC).isoformat(timespec="seconds")}
                said[new[at]] = folder.once(keys[new[at]], lambda body=body: body)
        return said

    def _score(self, tasks: Sequence[tuple[dict[str, Any], str, list[Any], list[Any]]], name: str,
               keep: tuple[RunFolder, Watch, list[EndpointError]],
               ) -> dict[int, list[bool | None]]:
        """Index -> which windows were answered right; None for each of a reply that is none."""
        asked, truths, which = [], [], []
        for at, (_, label, with_it, without) in enumerate(tasks):
            if min(len(with_it), len(without)) < 2:
                continue
            texts, truth = self._quiz(tasks[at], name)
            form = WHICH if name == "detection" else MARKS
            numbered = "\n".join(f"{i}. {text}" for i, text in enumerate(texts, start=1))
            asked.append([Message("user", form.format(label=label, texts=numbered))])
            truths.append(truth)
            which.append(at)
        said = self._ask([tasks[at][0] for at in which], asked, name, keep)
        out = {}
        for number, reply in said.items():
            truth = truths[number]
            answers = read_list(reply["reply"], len(truth))
            out[which[number]] = [None] * len(truth) if answers is None else [
                answer == want for answer, want in zip(answers, truth, strict=True)]
        return out

    def _windows(self, feature: int) -> tuple[list[dict[str, Any]], list[list[str]]]:
        """Held-out windows with the feature, and without it."""
        held = self.found.held
        slots = [slot for slot, source in enumerate(held.source[feature].tolist()) if source >= 0]
        with_it = [context(held, feature, slot, self.sources, self.piece) for slot in slots[:EACH]]
        quiet = [slot for slot in range(len(self.found.quiet_ids))
                 if self.found.quiet_source[slot] >= 0 and not self.found.quiet_on[slot, feature]]
        Random(f"{self.seed} {feature}").shuffle(quiet)
        without = [[self.piece(i) for i in self.found.quiet_ids[slot].tolist() if i >= 0]
                   for slot in quiet[:EACH]]
        same = min(len(with_it), len(without))
        return with_it[:same], without[:same]

    def _quiz(self, task: tuple[dict[str, Any], str, list[Any], list[Any]],
              name: str) -> tuple[list[str], list[bool]]:
        """Texts in a random order, and what is true of each."""
        entry, _, with_it, without = task
        random = Random(f"{self.seed} {name} {entry['feature']}")
        if name == "detection":
            pairs = [("".join(c["tokens"]), True) for c in with_it]
            pairs += [("".join(tokens), False) for tokens in without]
        else:
            half = len(with_it) // 2  # as many of each: who always says the same has half right
            pairs = [(marked(c["tokens"], _active(c)), True) for c in with_it[:half]]
            pairs += [(marked(c["tokens"], _elsewhere(c, random)), False)
                      for c in with_it[half:2 * half]]
        random.shuffle(pairs)
        return [" ".join(text.split()) for text, _ in pairs], [truth for _, truth in pairs]


def _shown(entry: dict[str, Any]) -> str:
    texts = "\n".join(f"- {' '.join(marked(c['tokens'], _active(c)).split())}"
                      for c in entry["contexts"])
    written = ", ".join(repr(token) for token, _ in entry["promoted"][:6])
    return f"Texts:\n{texts}\n\nWhat the feature makes the model say: {written}"


def _active(c: dict[str, Any]) -> set[int]:
    """Tokens at least half as active as the strongest of the window's."""
    most = max(c["acts"])
    return {at for at, act in enumerate(c["acts"]) if act >= 0.5 * most and act > 0}


def _elsewhere(c: dict[str, Any], random: Random) -> set[int]:
    """As many tokens, on which the feature is not active."""
    others = [at for at, act in enumerate(c["acts"]) if act <= 0]
    return set(random.sample(others, min(len(others), len(_active(c)))))


def marked(tokens: Sequence[str], chosen: set[int]) -> str:
    """The text, with these tokens in << >>."""
    return "".join(f"<<{token}>>" if at in chosen else token for at, token in enumerate(tokens))


def _line(reply: str) -> str:
    """A label out of a reply: its first line with letters, without quotation marks and without the
    reasoning before it; "" where there is none."""
    lines = [line.strip().strip("\"'*- ") for line in _without_thoughts(reply).splitlines()]
    return next((line for line in lines if any(c.isalpha() for c in line)), "")[:160]


def _without_thoughts(reply: str) -> str:
    return reply.rpartition("</think>")[2] if "</think>" in reply else \
        reply.partition("<think>")[0]


def read_list(reply: str, n: int) -> list[bool] | None:
    """The list of n zeros and ones in a reply; None where there is none."""
    for found in re.findall(r"\[[^\[\]]*\]", _without_thoughts(reply)):
        try:
            values = json.loads(found)
        except ValueError:
            continue
        if len(values) == n and all(value in (0, 1) for value in values):
            return [bool(value) for value in values]
    return None
