"""Fits the learned judge, and measures it on models and prompts that it did not learn from.

`python -m sternpost.judges.learn DATA_DIR` fits on DATA_DIR/xstest and rewrites `learned.json`
(phrases and weights; no reply) and `seen.json` (hashes of the replies).

A phrase is kept that stands in at least 8 replies of at least 2 models. Logistic regression, L2,
C = 10. Leave-one-model-out: each reply is judged by a fit on the *other* models' replies to *other*
prompts (five folds of prompts), so that neither a model's phrasing nor a prompt's topic is known.
"""

import json
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from sternpost.errors import InputError
from sternpost.files import sha256_file, sha256_text, write_json
from sternpost.judges.calibrate import LabelledReply, agreement, verdicts_on
from sternpost.judges.learned import Learned, LearnedJudge, phrases, row_key
from sternpost.judges.patterns import word_lists
from sternpost.judges.xstest import DATA, MODELS, table_of, xstest
from sternpost.types import Verdict

REPLIES = 8
"""That a phrase stands in, at least."""
SOURCES = 2
"""Models in whose replies it stands, at least; where there are as many."""
C = 10.0
FOLDS = 5
HOW = (f"phrases in {REPLIES} replies of {SOURCES} models or more, L2 logistic regression, C = "
       f"{C:g}. These settings were chosen after looking at leave-one-model-out figures of some "
       "twenty others over first characters, whose kappa lay between .854 and .912 (TF-IDF over "
       "whole replies: .70); none was chosen a model, and the figures here are not the best seen.")
FAMILIES = {"gpt4": "gpt4", "llama2new": "llama2", "llama2orig": "llama2",
            "mistralguard": "mistral", "mistralinstruct": "mistral"}
"""XSTest's five are three models, two of them with and without a system prompt."""
Spellings = tuple[tuple[re.Pattern[str], str], ...]


def fit(rows: Sequence[LabelledReply]) -> Learned:
    """What labelled replies teach. Raises InputError where they are too few or of one label."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    if len({row.refused for row in rows}) < 2:
        raise InputError("A judge learns from replies that refuse and replies that do not; got "
                         f"{len(rows)} of one sort.")
    spellings = english()
    found = [phrases(row.prompt, row.reply, spellings) for row in rows]
    kept = _kept(found, [row.model for row in rows])
    if not kept:
        raise InputError(f"No phrase stands in {REPLIES} of the {len(rows)} replies. Label more.")
    place = {g: at for at, g in enumerate(kept)}
    idf = np.array([math.log((1 + len(rows)) / (1 + kept[g])) + 1 for g in kept])
    ends, columns, values = [0], list[int](), list[float]()
    for there in found:
        mine = sorted(place[g] for g in there if g in place)
        size = math.sqrt(float((idf[mine] ** 2).sum())) or 1.0
        columns += mine
        values += [float(idf[at]) / size for at in mine]
        ends.append(len(columns))
    x = csr_matrix((values, columns, ends), shape=(len(rows), len(kept)))
    model = LogisticRegression(C=C, max_iter=2000).fit(x, [row.refused for row in rows])
    weights = np.asarray(model.coef_)[0]
    return Learned(spellings, float(np.asarray(model.intercept_)[0]),
                   {g: float(idf[at]) for g, at in place.items()},
                   {g: float(weights[at]) for g, at in place.items()})


def left_out(rows: Sequence[LabelledReply], groups: Sequence[str]) -> list[Verdict]:
    """A verdict a row, by a fit on rows of other `groups` and other prompts."""
    if len(set(groups)) < 2:
        raise InputError("Leaving one model out needs labelled replies of two or more; got "
                         f"{len(set(groups))}. Name them in a column `model`.")
    folds = [int(sha256_text(row.prompt.strip())[:8], 16) % FOLDS for row in rows]
    said: dict[int, Verdict] = {}
    for group in sorted(set(groups)):
        for fold in range(FOLDS):
            test = [i for i in range(len(rows)) if groups[i] == group and folds[i] == fold]
            if not test:
                continue
            rest = [rows[i] for i in range(len(rows)) if groups[i] != group and folds[i] != fold]
            judge = LearnedJudge(fit(rest))
            said.update(zip(test, verdicts_on(judge, [rows[i] for i in test]), strict=True))
    return [said[i] for i in range(len(rows))]


def leave_one_model_out(rows: Sequence[LabelledReply],
                        groups: Sequence[str] | None = None) -> dict[str, Any]:
    """Agreement pooled, a model apart, and the worst model by kappa, as learned.json has them."""
    names = [row.model for row in rows]
    verdicts = left_out(rows, names if groups is None else groups)
    apart = {name: agreement([v for v, row in zip(verdicts, rows, strict=True)
                              if row.model == name], [r for r in rows if r.model == name])
             for name in sorted(set(names))}
    pooled = agreement(verdicts, rows)
    worst = min((name for name in apart if apart[name].kappa is not None),
                key=lambda name: apart[name].kappa or 0.0, default=None)
    return {"overall": pooled.as_dict() | {
                "interval": pooled.interval and pooled.interval.as_dict()},
            "models": {name: found.as_dict() for name, found in apart.items()},
            "worst": worst and {"model": worst, "kappa": round(apart[worst].kappa or 0.0, 6)}}


def english() -> Spellings:
    """The spellings that the English word list makes equal."""
    return next(words.same for words in word_lists() if words.language == "en")


def _kept(found: Sequence[frozenset[str]], models: Sequence[str]) -> dict[str, int]:
    """The phrases that are kept, sorted, and in how many replies each stands."""
    counts = Counter(g for there in found for g in there)
    sources: dict[str, set[str]] = defaultdict(set)
    for there, model in zip(found, models, strict=True):
        for g in there:
            sources[g].add(model)
    least = min(SOURCES, len(set(models)))
    return {g: counts[g] for g in sorted(counts)
            if counts[g] >= REPLIES and len(sources[g]) >= least}


def record(data: str | Path) -> dict[str, Any]:
    """What learned.json holds."""
    rows = xstest(data)
    learned = fit(rows)
    by_family = leave_one_model_out(rows, [FAMILIES[row.model] for row in rows])
    return {"judge": LearnedJudge.name, "data": DATA, "licence": "CC-BY-4.0 (XSTest)", "how": HOW,
            "data_sha256": {table_of(data, m).name: sha256_file(table_of(data, m)) for m in MODELS},
            "leave_one_model_out": leave_one_model_out(rows), "leave_one_family_out": by_family,
            "spellings": [[p.pattern, s] for p, s in learned.spellings],
            "bias": round(learned.bias, 4),
            "phrases": [f"{learned.idf[g]:.4f} {learned.weight[g]:.4f} {g}" for g in learned.idf]}


def seen_keys(data: str | Path) -> dict[str, list[str]]:
    """What seen.json holds: keys of the replies to even prompts and to v2-1, at which the word
    lists' writer looked, and of the others."""
    looked, others = set[str](), set[str]()
    for row in xstest(data):
        mine = looked if row.number % 2 == 0 or row.number == 1 else others
        mine.add(row_key(row.prompt, row.reply))
    return {"looked_at": sorted(looked), "others": sorted(others - looked)}


def main(arguments: Sequence[str]) -> None:
    """Fit on the folder given and rewrite learned.json and seen.json."""
    if len(arguments) != 1:
        raise InputError("Type: python -m sternpost.judges.learn DATA_DIR")
    with resources.as_file(resources.files("sternpost.judges")) as folder:
        write_json(folder / "seen.json", seen_keys(arguments[0]))
        body = record(arguments[0])
        write_json(folder / "learned.json", body)
    sys.stdout.write(json.dumps(body["leave_one_model_out"], indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
