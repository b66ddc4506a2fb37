"""Packs made: from a finished run, with the level high, or from a calibration, with all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from torch import Tensor

from sternpost.activations import turns_before
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import TemplateError
from sternpost.gates import FittedGate
from sternpost.packs.pack import model_kind
from sternpost.policy import Level, follows
from sternpost.report.card import calibrated_card, pack_card
from sternpost.sae import SAE
from sternpost.store import PackFiles, Sample, rates_of
from sternpost.trials.gate import Gated
from sternpost.trials.load import (
    commit_of,
    folder_of,
    read_template,
    sae_sha256,
    state_sha256,
    weight_hashes,
)
from sternpost.trials.run_settings import RunSettings
from sternpost.types import Add, Clamp, Judge, Message, Request

GOLDEN = 8
"""Golden prompts of each kind."""
_SHOWN = ("unsafe_refusal", "over_refusal", "capability", "discrimination", "incoherent")


def pack_body(engine: TransformersEngine, sae: SAE, settings: RunSettings) -> dict[str, Any]:
    """What pack.json says of the model, and of how it is spoken to."""
    folder = folder_of(settings.model, settings.revision)
    return {
        "model": {"source": settings.model, "revision": commit_of(folder) or settings.revision,
                  "files": {} if folder is None else weight_hashes(folder),
                  "state_sha256": state_sha256(engine.model), "dtype": model_kind(engine.model)},
        "hookpoint": str(sae.hookpoint),
        "tail": {"text": engine.marks.tail, "ids": engine.tail_ids()},
        "residual_norm": sae.residual_norm, "system": settings.system,
        "chat_template": settings.chat_template and read_template(settings.chat_template),
        "chat_template_kwargs": settings.template_arguments,
        "max_new_tokens": settings.max_new_tokens}


def judge_body(judge: Judge) -> dict[str, Any]:
    """What is said of a judge beside its verdicts. `nll_limit`: nats a token above which it calls
    a reply incoherent."""
    known, limit = judge.accuracy, getattr(judge, "nll_limit", None)
    body = {"name": judge.name, "accuracy": known.accuracy.share if known.accuracy else None,
            "accuracy_interval": known.accuracy.as_dict() if known.accuracy else None,
            "kappa": known.kappa, "n": known.n, "data": known.data, "nll_limit": limit}
    return body if limit is not None else {
        **body, "why": {"nll_limit": "it was not fitted to replies of the model"}}


# ---- of a run ------------------------------------------------------------------------------------


def build_pack(engine: TransformersEngine, sae: SAE, gated: Gated, what: Mapping[str, Any],
               lines: Sequence[Sample]) -> PackFiles:
    """The pack of a run with the levels off and high. `what`: results.json, splits, judge and
    settings; `lines`: search lines of `baseline` and of `gated_clamp` at its value."""
    results, settings = what["results"], what["settings"]
    feature, plan = results["feature"], gated.plan
    high = Level((Clamp(feature, gated.value),), None, (), str(plan.where), plan.mode, plan.error)
    body = {**pack_body(engine, sae, settings), "positions": high.positions,
            "levels": {"off": replace(high, edits=()).as_dict(), "high": high.as_dict()},
            "sae_sha256": what["sae_sha256"], "judge": judge_body(what["judge"]),
            "budget": gated.budget}
    named = {c["name"]: c for c in results["conditions"]}
    levels = {"baseline": _cost(named["baseline"]),
              "levels": {"off": _cost(named["baseline"]), "high": _cost(named["gated_clamp"])}}
    said = {level: [line for line in lines if line["condition"] == condition]
            for level, condition in (("off", "baseline"), ("high", "gated_clamp"))}
    return PackFiles(body, sae.to("cpu").rows([feature]), gated.gate,
                     golden(said, what["requests"]), levels, what["splits"],
                     pack_card(body, levels, results))


def _cost(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: entry[key] for key in _SHOWN}, **({"why": entry["why"]} if "why" in entry
                                                      else {})}


# ---- of a calibration ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """What a calibrated pack is made of."""

    sae: SAE
    gate: FittedGate
    levels: Mapping[str, Level]


def build_calibrated(engine: TransformersEngine, parts: Parts,
                     tested: Mapping[str, Sequence[Sample]], what: Mapping[str, Any]) -> PackFiles:
    """The pack of a calibration. `tested`: test lines of `baseline` and of every level; `what`:
    calibration.json's body, settings, splits, judge and requests."""
    body, sae, levels = what["body"], parts.sae, parts.levels
    if any(level.decay for level in levels.values()):
        check_turns(engine)
    directions = _directions(levels)
    features = sorted({f for level in levels.values() for edit in level.edits
                       if (f := _feature(edit)) is not None})
    pack = {**pack_body(engine, sae, what["settings"]),
            "positions": levels[_strongest(levels)].positions,
            "levels": {name: level.as_dict(directions) for name, level in levels.items()},
            "sae_sha256": sae_sha256(sae), "judge": judge_body(what["judge"]), "aim": body["aim"],
            "allow_weaken": body["allow_weaken"], "budgets": body["budgets"],
            "why_alike": body["why_alike"]}
    costs = levels_body(tested, body["build_ups"])
    record = {"kind": "calibration", "date": datetime.now(UTC).isoformat(timespec="seconds"),
              **{key: body[key] for key in ("aim", "budgets", "gate", "levels", "conditions",
                                            "warnings")}}
    said = {("off" if name == "baseline" else name): lines for name, lines in tested.items()
            if name == "baseline" or name in levels}
    return PackFiles(pack, sae.to("cpu").rows(features), parts.gate,
                     [*golden(said, what["requests"]), *_must(body["must"])], costs,
                     what["splits"], calibrated_card(pack, costs, body), directions=directions,
                     evaluations=[record], follows=follows(levels.values()))


def levels_body(tested: Mapping[str, Sequence[Sample]],
                build_ups: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """levels.json's body from the lines of `baseline` and of every level, and what build-ups
    gave."""
    def cost(name: str) -> dict[str, Any]:
        rates = rates_of(tested[name])
        why = {key: text for key, text in rates.get("why", {}).items() if key in _SHOWN}
        turns = (build_ups or {}).get(name)
        return {**{key: rates[key] for key in _SHOWN}, **({"why": why} if why else {}),
                **({"build_ups": turns} if turns else {})}

    baseline = cost("baseline")
    return {"baseline": baseline, "levels": {"off": baseline, **{
        name: cost(name) for name in tested if name not in ("baseline", "off")}}}


def check_turns(engine: TransformersEngine) -> None:
    """Raises TemplateError where the ends of earlier messages are not found from the tail's ids
    alone, as whoever loads the pack without a tokenizer has to."""
    messages = (Message("user", "Hello?"), Message("assistant", "Yes."), Message("user", "Why?"))
    ids = engine.encode(engine.template.render(messages))
    if turns_before(ids, engine.tail_ids()) != engine.template.turns([ids])[0]:
        raise TemplateError("This chat template ends an earlier user message otherwise than the "
                            "last one, so a pack's decay would not find it by the tail's tokens. "
                            "Leave the decay out of its levels.")


def _directions(levels: Mapping[str, Level]) -> list[Tensor]:
    out: list[Tensor] = []
    for level in levels.values():
        out += [d for d in level.directions() if not any(d.equal(one) for one in out)]
    return out


def _feature(edit: Any) -> int | None:
    if not isinstance(edit, Add):
        return edit.feature
    return edit.feature_or_direction if isinstance(edit.feature_or_direction, int) else None


def _strongest(levels: Mapping[str, Level]) -> str:
    return list(levels)[-1]


def _must(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"prompt": row["prompt"], "kind": "safe" if row["wanted"] == "answer" else "unsafe",
             "messages": row["messages"], "verdicts": row["verdicts"], "wanted": row["wanted"],
             "fired": any(row["fired"].values())} for row in rows]


# ---- golden prompts ------------------------------------------------------------------------------


def golden(said: Mapping[str, Sequence[Sample]],
           requests: Mapping[str, Request]) -> list[dict[str, Any]]:
    """Prompts with the verdict on their reply at each level: first those that the levels tell
    apart, half unsafe and half safe. Perplexity is not asked: another dtype has its own."""
    rows: dict[str, dict[str, Sample]] = {}
    for level, lines in said.items():
        for line in lines:
            rows.setdefault(line["prompt_sha256"], {})[level] = line
    whole = [(sha, row) for sha, row in sorted(rows.items()) if len(row) == len(said)
             and row["off"]["kind"] != "capability"
             and all(line["verdict"] in ("refusal", "compliance") for line in row.values())]
    whole.sort(key=lambda one: len({line["verdict"] for line in one[1].values()}) == 1)
    chosen = [one for kind in ("unsafe", "safe")
              for one in [o for o in whole if o[1]["off"]["kind"] == kind][:GOLDEN]]
    return [{"prompt": row["off"]["prompt"], "kind": row["off"]["kind"],
             "messages": [{"role": m.role, "content": m.content} for m in requests[sha].messages],
             "verdicts": {level: line["verdict"] for level, line in row.items()},
             "fired": any(line["fired"] for level, line in row.items() if level != "off")}
            for sha, row in chosen]
