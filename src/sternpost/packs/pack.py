"""Packs: loaded for a model, refused for another; saved and shared."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

from sternpost.engines.loading import tokenizer_of
from sternpost.engines.templates import Template
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import InputError, ModelError, PackError
from sternpost.judges import WordListJudge
from sternpost.packs.hub import pack_folder, push
from sternpost.policy import LEVELS, Level
from sternpost.store import PackFiles, copy_pack, read_pack
from sternpost.trials.load import commit_of, load_model, loaded_from, state_sha256, weight_hashes
from sternpost.types import Message, Plan, Request, Sampling


@dataclass(frozen=True)
class Pack:
    """A pack that was loaded: `at(level)` is a plan to steer with."""

    files: PackFiles = field(repr=False)
    path: Path

    @classmethod
    def from_pretrained(cls, name: str | Path, revision: str | None = None) -> "Pack":
        """The pack in a folder, one that ships with sternpost, or one of the Hub, by its id and
        revision; every file is checked against its hash before it is read. Raises PackError."""
        path = pack_folder(str(name), revision)
        return cls(read_pack(path), path)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Copies the pack into `folder`, byte for byte; gives the folder. What is not a pack's
        stays there. Raises OutputError where something else lies there."""
        return copy_pack(self.files, folder)

    def push_to_hub(self, repo_id: str, private: bool = False, token: str | None = None) -> str:
        """Uploads the pack to the Hub as `repo_id`, with its card as README.md; gives the commit's
        address. Raises EndpointError where the Hub refuses."""
        return push(self.files, repo_id, private, token)

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
        return Level.of(known[level], self.files.directions, self.files.follows).plan(
            self.files.sae, self.files.gate, tuple(self.files.body["tail"]["ids"]),
            self.files.sha256)


def load_pack(name: str | Path, revision: str | None = None) -> Pack:
    """The pack in a folder, one that ships with sternpost, by name, or one of the Hub, by its id.
    Raises PackError."""
    return Pack.from_pretrained(name, revision)


@dataclass(frozen=True)
class PackPlace:
    """Where a pack lies; a path wherever one is taken."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def to_pandas(self) -> Any:
        """One row: the folder."""
        import pandas as pd  # heavy: only for who asks

        return pd.DataFrame([{"path": str(self.path)}])

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()


def pack_path(*, name: str | Path, revision: str | None = None) -> PackPlace:
    """The folder of a pack: one that ships with sternpost, by name, one of the Hub, by its id, or
    any folder that holds one. Raises PackError."""
    return PackPlace(load_pack(name, revision).path.absolute())


def template_of(pack: Pack, tokenizer: Any) -> Template:
    """The chat template with all that the pack was measured with."""
    body = pack.files.body
    if body.get("chat_template"):
        tokenizer = copy.copy(tokenizer)
        tokenizer.chat_template = body["chat_template"]
    return Template(tokenizer, body["system"], body.get("chat_template_kwargs", {}))


def engine_for(pack: Pack, model: str | None, device: str = "auto", rows: int | None = None,
               dtype: str = "auto") -> TransformersEngine:
    """The pack's model, from where it says or from `model`, in the type (or in `dtype`) and with
    the template that the pack was measured with."""
    wanted = pack.files.body["model"]
    own = model in (None, pack.source)
    try:
        loaded, tokenizer = load_model(
            model or pack.source, revision=wanted.get("revision") if own else None,
            device=device, dtype=wanted["dtype"].split()[0] if dtype == "auto" else dtype)
    except ModelError as error:
        if model is not None:
            raise
        raise ModelError(f"{error} It is the model that the pack names; if it lies elsewhere on "
                         "this machine, give --model FOLDER.") from error
    return TransformersEngine(loaded, template_of(pack, tokenizer), rows)


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
    folder = loaded_from(model)
    meant = _at(wanted["source"], wanted.get("revision"))
    if folder is not None and wanted["files"]:
        got = weight_hashes(folder)
        if got != wanted["files"]:
            other = sorted(name for name in {*got, *wanted["files"]}
                           if got.get(name) != wanted["files"].get(name))
            name = _at(getattr(model.config, "_name_or_path", None) or folder, commit_of(folder))
            raise PackError(f"The pack at {pack.path} is for {meant}; the model {name} (files in "
                            f"{folder}) is another: {', '.join(other)} differ. Load the pack's "
                            "model, or make a pack for this one with sternpost run.")
    elif wanted["state_sha256"] != state_sha256(model):
        raise PackError(f"The pack at {pack.path} is for {meant}; this model's weights "
                        "are others (and it names no folder whose files could be compared). Load "
                        "the pack's model with sternpost.load_model.")
    if model_kind(model) != wanted["dtype"]:
        _check_golden(pack, level, model)


def _at(name: Any, revision: str | None) -> str:
    """A model's name with its revision, where it has one."""
    return f"{name}@{revision}" if revision else str(name)


def model_kind(model: Any) -> str:
    """The type a model runs in, e.g. "float32"; quantized loads say so."""
    quantized = getattr(model, "hf_quantizer", None) is not None
    return str(model.dtype).removeprefix("torch.") + (" quantized" if quantized else "")


def _check_golden(pack: Pack, level: str, model: Any) -> None:
    tokenizer = tokenizer_of(model)
    wanted = pack.files.body["model"]
    if tokenizer is None:
        raise PackError(f"The pack at {pack.path} was measured in {wanted['dtype']}, this model is "
                        f"{model_kind(model)}; to check its golden prompts a tokenizer is needed. "
                        "Load the model with sternpost.load_model.")
    engine = TransformersEngine(model, template_of(pack, tokenizer))
    golden = pack.files.golden
    if not golden:
        raise PackError(f"The pack at {pack.path} was measured in {wanted['dtype']} and has no "
                        f"golden prompts to prove it in {model_kind(model)}. Load the model in "
                        f"{wanted['dtype']}.")
    requests = [_request(row) for row in golden]
    replies = engine.generate(requests, pack._bare(level), Sampling(
        pack.files.body["max_new_tokens"]))
    limit = pack.files.body.get("judge", {}).get("nll_limit")
    judge = WordListJudge() if limit is None else WordListJudge(engine.nll, limit)
    got = [verdict.verdict for verdict in judge(replies)]
    others = [row["prompt"] for row, verdict in zip(golden, got, strict=True)
              if row["verdicts"][level] != verdict]
    if others:
        raise PackError(f"The pack at {pack.path} was measured in {wanted['dtype']}; in "
                        f"{model_kind(model)} {len(others)} of {len(golden)} golden prompts give "
                        f"other verdicts, e.g. {others[0][:80]!r}. Load the model in "
                        f"{wanted['dtype']}: load_model(..., dtype={wanted['dtype']!r}).")


def _request(row: Mapping[str, Any]) -> Request:
    return Request(tuple(Message(**turn) for turn in row["messages"]), row["prompt"])
