"""A study's controls: the feature of a harmless topic, and one drawn at random.

    x[p, f]   the largest activation of feature f on the tokens of question p, up to t_inst
    topic     of the features that tell the topic's questions from the others (q <= 0.05) the one
              with the largest Cohen's d; where there is none, of all, and a warning says so
    random    a live feature, drawn from those nearest to the found one in density and norm

Covered: questions of one form that differ in topic. Not covered: whether the feature means the
topic wherever it is active. Overall: what is lost by clamping these as high is lost to clamping,
and not to refusal.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sternpost.errors import InputError, SearchError
from sternpost.features import matched_features
from sternpost.features.contrast import Contrast, Contrasted, discovered
from sternpost.files import read_json, write_json
from sternpost.prompts import read_prompts
from sternpost.sae import SAE
from sternpost.store import RunFolder, at_work, open_run_folder
from sternpost.study.settings import Study
from sternpost.trials.load import load_engine, load_sae, model_hashes, sae_sha256
from sternpost.trials.progress import Watch
from sternpost.types import LabelledPrompt, Transcript

LISTED = 10
CHANCE = 0.05
"""False discovery rate beyond which a difference is taken for chance."""
FEWEST = 10
"""Questions that a side needs."""


def topic_questions(study: Study) -> tuple[list[LabelledPrompt], list[int]]:
    """The questions of the control's file, and of each 1 where it is of the topic. Raises
    InputError where a side has too few."""
    assert study.top.control is not None
    rows = list(read_prompts(study.top.control, "safe").prompts)
    sides = [int(row.category == study.top.topic) for row in rows]
    if min(sum(sides), len(sides) - sum(sides)) < FEWEST:
        raise InputError(f"{study.top.control} has {sum(sides)} questions of category "
                         f"{study.top.topic!r} and {len(sides) - sum(sides)} others; a control "
                         f"needs {FEWEST} of each. Add some, or name another topic.")
    return rows, sides


def controls(study: Study, feature: int, watch: Watch) -> dict[str, Any]:
    """The control features, of a run that found `feature`: control/results.json."""
    sae = load_sae(study.top.folder / "run" / "sae", device=study.top.device)
    rows, sides = topic_questions(study) if study.top.control else ([], [])
    identity = {"verb": "study control", "found": feature, "seed": study.top.seed,
                "sae": sae_sha256(sae), "topic": study.top.topic,
                "model": model_hashes(study.top.model, study.top.revision),
                "questions": [p.request.sha256 for p in rows]}
    folder = open_run_folder(study.top.folder / "control", identity, resume=True, force=False)
    with at_work(folder):
        if not folder.finished:
            _find(study, sae, feature, (rows, sides), (folder, watch))
    return read_json(folder.path / "results.json")


def _find(study: Study, sae: SAE, feature: int, questions: tuple[list[LabelledPrompt], list[int]],
          work: tuple[RunFolder, Watch]) -> None:
    (rows, sides), (folder, watch) = questions, work
    listed = _told_apart(study, sae, rows, sides, watch) if rows else []
    listed = [one for one in listed if one["feature"] != feature]
    if rows and not listed:
        raise SearchError(f"No feature is more active on the {sum(sides)} questions on "
                          f"{study.top.topic} than on the {len(sides) - sum(sides)} others. Give "
                          "other questions, or leave control out.")
    best = listed[0]["feature"] if listed else None
    warnings = [f"control: feature {best} is more active on {study.top.topic}, but not beyond "
                f"chance (q = {listed[0]['q']:.2g})."] if listed and listed[0]["q"] > CHANCE else []
    random = matched_features(sae, feature, 1, study.top.seed,
                              but=() if best is None else (best,))
    write_json(folder.path / "results.json", {
        "kind": "control", "found": feature, "topic": study.top.topic, "feature": best,
        "random": random[0], "listed": listed[:LISTED],
        "n": {"topic": sum(sides), "others": len(sides) - sum(sides)}, "warnings": warnings})
    folder.close()


def _told_apart(study: Study, sae: SAE, rows: Sequence[LabelledPrompt], sides: Sequence[int],
                watch: Watch) -> list[dict[str, Any]]:
    """Features that are more active on the topic, the furthest apart first."""
    engine, _ = load_engine(study.run)
    ids = [engine.encode(engine.render(row.request)) for row in rows]
    ends = engine.template.t_inst(ids)
    contrast = Contrast(sae)
    seen = engine.residuals([Transcript(ids=tuple(one)) for one in ids], sae.hookpoint)
    contrast.add([row.values[:end + 1].cpu() for row, end in zip(
        watch.bar(seen, len(ids), "questions read"), ends, strict=True)], sides)
    return ranked(contrast.result())


def ranked(found: Contrasted) -> list[dict[str, Any]]:
    """Features that are more active on side 1: those that are so by more than chance first, then
    by Cohen's d."""
    score = found.d + 1e6 * discovered(found, CHANCE)
    return [{"feature": int(f), "d": float(found.d[f]), "auroc": float(found.auroc[f]),
             "q": float(found.q[f]), "active": float(found.active[1][f]),
             "active_on_others": float(found.active[0][f])}
            for f in np.argsort(-score, kind="stable") if found.d[f] > 0]
