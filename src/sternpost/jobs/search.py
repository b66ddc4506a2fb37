"""`features search`: described features, by words.

    words   cosine of TF-IDF over character n-grams (so that "weapon" finds "weapons") of a
            feature's label, tokens, and linked hazards
    model   beside that, cosine of mean input embeddings of the words, by the described model itself
    PATH    the same by a local sentence-transformers model

Two rankings are merged by reciprocal ranks (Cormack et al. 2009). Covered: labels and tokens in the
words of the labels. Not covered: what no label, token or hazard says. Overall: a way in; look at
the contexts.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from sternpost.errors import InputError, MissingExtra
from sternpost.files import read_json, read_jsonl
from sternpost.jobs.describe import FEATURES, FOLDER, LAST, with_ranks
from sternpost.prompts import hazards
from sternpost.trials.load import load_model

SHOWN = 10
MERGE = 60
"""Ranks are merged as 1 / (MERGE + rank)."""
Embed = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Match:
    """A feature that was found, with its score: the larger, the closer."""

    feature: int
    score: float
    label: str
    entry: Mapping[str, Any] = field(repr=False)
    """Its line of features.jsonl."""


@dataclass(frozen=True)
class Matches:
    """What a search found, best first."""

    words: str
    found: tuple[Match, ...]

    def to_pandas(self) -> Any:
        """A row a feature."""
        import pandas as pd  # heavy: only for who asks

        return pd.DataFrame([{"feature": m.feature, "score": m.score, "label": m.label,
                              "concepts": ", ".join(m.entry["concepts"])} for m in self.found])

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()


def features_search(*, words: str, folder: str = "runs/features", embedder: str = "words",
                    limit: int = SHOWN) -> Matches:
    """The described features that fit `words` best, those that nothing connects left out.

    `folder`: where `features describe` wrote. `embedder`: words, model, or the path of a
    sentence-transformers model. Raises InputError where nothing was described there.
    """
    if not isinstance(words, str) or not words.strip():
        raise InputError('features search takes words, e.g. sternpost features search "weapons".')
    if not isinstance(limit, int) or limit < 1:
        raise InputError(f"limit is a number of features from 1 up; got {limit!r}.")
    if not isinstance(folder, str | Path) or not isinstance(embedder, str):
        raise InputError(f"folder and embedder are texts; got {folder!r} and {embedder!r}.")
    about, entries = read_descriptions(folder)
    texts = [_text(entry) for entry in entries]
    scores = _by_words(texts, words)
    if embedder != "words":
        embed = _of_model(about["model"]) if embedder == "model" else _of_sentences(embedder)
        scores = _merged(scores, _by_embedding(texts, words, embed))
    order = np.argsort(-scores, kind="stable")[:limit]
    return Matches(words, tuple(Match(
        entries[i]["feature"], float(scores[i]), entries[i]["label"], entries[i])
        for i in order if scores[i] > 0))


def read_descriptions(folder: str | Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What `features describe` wrote in a folder. Raises InputError where there is nothing."""
    for place in (Path(folder) / FOLDER, Path(folder)):
        if (place / LAST).is_file():
            entries = with_ranks(read_jsonl(place / FEATURES), place.parent)
            return read_json(place / LAST), entries
    raise InputError(f"No descriptions in {folder}. Type: sternpost features describe --model M "
                     f"--sae S --unsafe F --safe F --out {folder}")


def _text(entry: Mapping[str, Any]) -> str:
    """What can be found of a feature: the words of it."""
    known = hazards()
    linked = [f"{known[c].name} {known[c].about}" for c in entry["concepts"] if c in known]
    peaks = [c["tokens"][c["at"]].strip() for c in entry["contexts"]]
    written = [token.strip() for token, _ in entry["promoted"]]
    named = [row["name"] for row in entry["categories"] if row["category"] in entry["concepts"]]
    return " ".join([entry["label"], *dict.fromkeys([*peaks, *written]), *named, *linked])


def _by_words(texts: Sequence[str], words: str) -> np.ndarray:
    """Cosine of TF-IDF vectors over n-grams within words."""
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
    try:
        rows = vectors.fit_transform(texts)
    except ValueError:  # texts without a word
        return np.zeros(len(texts))
    wanted: Any = vectors.transform([words])
    return np.asarray((rows @ wanted.T).todense()).ravel()


def _by_embedding(texts: Sequence[str], words: str, embed: Embed) -> np.ndarray:
    rows = embed([*texts, words])
    rows = rows - rows[:-1].mean(0)  # what all texts share says nothing
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows[:-1] @ rows[-1]


def _merged(*scores: np.ndarray) -> np.ndarray:
    out = np.zeros(len(scores[0]))
    for one in scores:
        rank = np.empty(len(one))
        rank[np.argsort(-one, kind="stable")] = np.arange(1, len(one) + 1)
        out += np.where(one > 0, 1 / (MERGE + rank), 0.0)
    return out


def _of_model(name: str) -> Embed:
    """Mean input embedding of a text's tokens."""
    model, tokenizer = load_model(name)
    weight = model.get_input_embeddings().weight.detach().float().cpu()

    def embed(texts: Sequence[str]) -> np.ndarray:
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        return torch.stack([weight[torch.tensor(one)].mean(0) if one else weight[:1].mean(0) * 0
                            for one in ids]).numpy()

    return embed


def _of_sentences(path: str) -> Embed:
    if not Path(path).is_dir():
        raise InputError(f"embedder is words, model, or the folder of a sentence-transformers "
                         f"model; got {path!r}.")
    try:
        package: Any = importlib.import_module("sentence_transformers")  # an extra, and heavy
    except ImportError as error:
        raise MissingExtra("A sentence-transformers embedder", "embeddings") from error
    return lambda texts: np.asarray(package.SentenceTransformer(path).encode(list(texts)))
