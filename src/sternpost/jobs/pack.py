"""Packs: made from a finished run, loaded for a model, refused for another."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

from sternpost.engines.loading import tokenizer_of
from sternpost.engines.templates import Template
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import InputError, PackError
from sternpost.jobs.gate import Gated
from sternpost.jobs.load import folder_of, packed_folder, state_sha256, weight_hashes
from sternpost.judges import WordListJudge
from sternpost.report import pack_card
from sternpost.sae import SAE
from sternpost.store import LEVELS, PackFiles, Sample, read_pack
from sternpost.types import Clamp, Message, Plan, Request, Sampling

GOLDEN = 8
"""Golden prompts of each kind."""


@dataclass(frozen=True)
class Pack:
    """A pack that was loaded: `at(level)` is a plan to steer with."""

    files: PackFiles = field(repr=False)
    path: Path

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels it has, weakest first; always `off`."""
        return tuple(level for level in LEVELS if level in self.files.body["levels"])

    @property
    def costs(self) -> dict[str, Any]:
        """levels.json: what each level was measured to do."""
        return self.files.levels

    @property
    def source(self) -> str:
        """The model that it says it is for, a path or an id: a hint, checked by hashes."""
        return self.files.body["model"]["source"]

    @property
    def card(self) -> str:
        """card.md"""
        return self.files.card

    def at(self, level: str = "high") -> Plan:
        """The plan of `level`. Raises InputError for a level that it does not have."""
        plan = self._bare(level)
        return _checked(plan, lambda model: check_model(self, level, model))

    def _bare(self, level: str) -> Plan:
        """The plan without the question whether the model fits."""
        known = self.files.body["levels"]
        if level not in known:
            raise InputError(f"This pack has the levels {', '.join(self.levels)}; got {level!r}.")
        spec = known[level]
        edits = tuple(Clamp(edit["feature"], edit["value"]) for edit in spec["edits"])
        return Plan(self.files.sae, edits, spec["mode"], spec["positions"], spec["error"],
                    self.files.gate if edits else None, tuple(self.files.body["tail"]["ids"]),
                    self.files.sha256)


def load_pack(name: str | Path) -> Pack:
    """The pack in a folder, or one that ships with sternpost, by name. Raises PackError."""
    path = packed_folder(str(name), "pack")
    return Pack(read_pack(path), path)


def _checked(plan: Plan, check: Callable[[Any], None]) -> Plan:
    known: WeakSet[Any] = WeakSet()

    def once(model: Any) -> None:
        if model not in known:
            check(model)
            known.add(model)

    return replace(plan, check=once)


# ---- is it the pack's model? ---------------------------------------------------------------------

def check_model(pack: Pack, level: str, model: Any) -> None:
    """Raises PackError unless `model` is the pack's: by the hashes of its files, else of its
    weights; another dtype or a quantized load must give the golden verdicts."""
    wanted = pack.files.body["model"]
    folder = folder_of(getattr(model.config, "_name_or_path", "") or "",
                       getattr(model.config, "_commit_hash", None))
    if folder is not None and wanted["files"]:
        got = weight_hashes(folder)
        if got != wanted["files"]:
            other = sorted(name for name in {*got, *wanted["files"]}
                           if got.get(name) != wanted["files"].get(name))
            raise PackError(f"The pack at {pack.path} is for {wanted['source']}; the model from "
                            f"{folder} is another: {', '.join(other)} differ. Load the pack's "
                            "model, or make a pack for this one with sternpost run.")
    elif wanted["state_sha256"] != state_sha256(model):
        raise PackError(f"The pack at {pack.path} is for {wanted['source']}; this model's weights "
                        "are others (and it names no folder whose files could be compared). Load "
                        "the pack's model with sternpost.load_model.")
    if _kind(model) != wanted["dtype"]:
        _check_golden(pack, level, model)


def _kind(model: Any) -> str:
    """The type a model runs in, e.g. "float32"; quantized loads say so."""
    quantized = getattr(model, "hf_quantizer", None) is not None
    return str(model.dtype).removeprefix("torch.") + (" quantized" if quantized else "")


def _check_golden(pack: Pack, level: str, model: Any) -> None:
    tokenizer = tokenizer_of(model)
    wanted = pack.files.body["model"]
    if tokenizer is None:
        raise PackError(f"The pack at {pack.path} was measured in {wanted['dtype']}, this model is "
                        f"{_kind(model)}; to check its golden prompts a tokenizer is needed. Load "
                        "the model with sternpost.load_model.")
    engine = TransformersEngine(model, Template(tokenizer, pack.files.body["system"]))
    golden = pack.files.golden
    if not golden:
        raise PackError(f"The pack at {pack.path} was measured in {wanted['dtype']} and has no "
                        f"golden prompts to prove it in {_kind(model)}. Load the model in "
                        f"{wanted['dtype']}.")
    requests = [_request(row) for row in golden]
    replies = engine.generate(requests, pack._bare(level), Sampling(
        pack.files.body["max_new_tokens"]))
    got = [verdict.verdict for verdict in WordListJudge()(replies)]
    others = [row["prompt"] for row, verdict in zip(golden, got, strict=True)
              if row["verdicts"][level] != verdict]
    if others:
        raise PackError(f"The pack at {pack.path} was measured in {wanted['dtype']}; in "
                        f"{_kind(model)} {len(others)} of {len(golden)} golden prompts give other "
                        f"verdicts, e.g. {others[0][:80]!r}. Load the model in {wanted['dtype']}: "
                        f"load_model(..., dtype={wanted['dtype']!r}).")


def _request(row: Mapping[str, Any]) -> Request:
    return Request(tuple(Message(**turn) for turn in row["messages"]), row["prompt"])


# ---- making one ----------------------------------------------------------------------------------

def build_pack(engine: TransformersEngine, sae: SAE, gated: Gated, what: Mapping[str, Any],
               lines: Sequence[Sample]) -> PackFiles:
    """The pack of a run with the levels off and high. `what`: results.json, splits and settings;
    `lines`: search lines of `baseline` and of `gated_clamp` at its value."""
    results, settings = what["results"], what["settings"]
    feature, plan = results["feature"], gated.plan
    high = {"edits": [{"kind": "Clamp", "feature": feature, "value": gated.value}],
            "positions": str(plan.where), "mode": plan.mode, "error": plan.error}
    folder = folder_of(settings.model, settings.revision)
    body = {
        "model": {"source": settings.model, "revision": settings.revision,
                  "files": {} if folder is None else weight_hashes(folder),
                  "state_sha256": state_sha256(engine.model), "dtype": _kind(engine.model)},
        "hookpoint": str(sae.hookpoint), "positions": high["positions"],
        "levels": {"off": {**high, "edits": []}, "high": high},
        "tail": {"text": engine.marks.tail, "ids": engine.tail_ids()},
        "residual_norm": sae.residual_norm, "system": settings.system,
        "max_new_tokens": settings.max_new_tokens, "sae_sha256": what["sae_sha256"],
        "judge": results["judge"], "budget": gated.budget}
    levels = _levels(results)
    return PackFiles(body, sae.to("cpu").rows([feature]), gated.gate,
                     _golden(lines, what["requests"]), levels, what["splits"],
                     pack_card(body, levels, results))


def _levels(results: Mapping[str, Any]) -> dict[str, Any]:
    """levels.json from the conditions of a run."""
    keys = ("unsafe_refusal", "over_refusal", "capability", "discrimination", "incoherent")
    named = {c["name"]: {**{key: c[key] for key in keys},
                         **({"why": c["why"]} if "why" in c else {})}
             for c in results["conditions"]}
    return {"baseline": named["baseline"],
            "levels": {"off": named["baseline"], "high": named["gated_clamp"]}}


def _golden(lines: Sequence[Sample], requests: Mapping[str, Request]) -> list[dict[str, Any]]:
    """Prompts with the verdict on their reply at each level: first those that the levels tell
    apart, half unsafe and half safe. Perplexity is not asked: another dtype has its own."""
    said: dict[str, dict[str, Sample]] = {}
    for line in lines:
        level = "off" if line["condition"] == "baseline" else "high"
        said.setdefault(line["prompt_sha256"], {})[level] = line
    whole = [(sha, both) for sha, both in sorted(said.items()) if len(both) == 2
             and all(line["verdict"] in ("refusal", "compliance") for line in both.values())]
    whole.sort(key=lambda one: one[1]["off"]["verdict"] == one[1]["high"]["verdict"])
    chosen = [one for kind in ("unsafe", "safe")
              for one in [o for o in whole if o[1]["off"]["kind"] == kind][:GOLDEN]]
    return [{"prompt": both["off"]["prompt"], "kind": both["off"]["kind"],
             "messages": [{"role": m.role, "content": m.content} for m in requests[sha].messages],
             "verdicts": {level: line["verdict"] for level, line in both.items()},
             "fired": both["high"]["fired"]} for sha, both in chosen]
