"""What a trace reads beside model and SAE: goal, pack, labels, harmless prompts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sternpost.activations import keep_for_training
from sternpost.discovery.trace_settings import TraceSettings
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import InputError
from sternpost.features.reference import Reference
from sternpost.files import read_jsonl, sha256_file
from sternpost.packs.pack import Pack, load_pack
from sternpost.prompts import PromptFile, read_prompts, sample
from sternpost.sae import SAE, calibrate
from sternpost.trials.goal import Sought, read_goal
from sternpost.trials.load import model_hashes
from sternpost.trials.progress import Watch
from sternpost.trials.sae import SAMPLE
from sternpost.types import Message, Transcript

TOGETHER = 2048
"""Tokens that are encoded at a time."""
LABELS = Path("descriptions", "features.jsonl")


@dataclass(frozen=True)
class Benign:
    """Harmless prompts, and where they come from."""

    source: str
    texts: tuple[Transcript, ...]


@dataclass(frozen=True)
class Given:
    """What is read."""

    sought: Sought
    pack: Pack | None
    benign: Benign | None
    labels: dict[int, str]
    hashes: dict[str, Any]
    warnings: tuple[str, ...]


def read_given(settings: TraceSettings) -> Given:
    """All of it, checked. Raises a SternpostError for the first thing that is wrong."""
    sought = read_goal(settings.goal)
    pack = None if settings.pack is None else load_pack(settings.pack)
    file = None if settings.benign is None else read_prompts(settings.benign, "safe")
    place = None if settings.labels is None else _labels_in(Path(settings.labels))
    hashes = {"model": model_hashes(settings.model, settings.revision), "goal": sought.sha256,
              "pack": pack and pack.files.sha256, "benign": file and file.sha256,
              "labels": place and sha256_file(place)}
    return Given(sought, pack, _benign(file, pack, settings), {} if place is None else
                 _labels(place), hashes, file.warnings if file else ())


def _labels_in(folder: Path) -> Path | None:
    if not folder.is_dir():
        raise InputError(f"No folder at {folder}. Give --from the folder that sternpost features "
                         "describe wrote into, or leave it out.")
    return folder / LABELS if (folder / LABELS).is_file() else None


def _labels(file: Path) -> dict[int, str]:
    try:
        return {int(line["feature"]): str(line["label"]) for line in read_jsonl(file)}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} is not what sternpost features describe writes: a line needs a "
                         f"feature and its label ({error!r}). Write it again.") from error


def _benign(file: PromptFile | None, pack: Pack | None,
            settings: TraceSettings) -> Benign | None:
    """The prompts of a file, else the safe golden prompts of a pack; None where there are none."""
    if file is not None:
        some = [p.request for p in sample(file.prompts, settings.limit, settings.seed)]
        name = file.path if file.path.startswith("hf:") else Path(file.path).name
        return Benign(name, tuple(Transcript(messages=one.messages, text=one.text)
                                  for one in some))
    golden = () if pack is None else [row for row in pack.files.golden if row["kind"] == "safe"]
    texts = tuple(Transcript(messages=tuple(Message(**turn) for turn in row["messages"]))
                  for row in golden)
    return Benign("the pack's golden prompts", texts[:settings.limit]) if texts else None


def with_stats(sae: SAE, engine: TransformersEngine, benign: Benign,
               own: tuple[list[int], Float[Tensor, "token d_model"]]) -> SAE:
    """The SAE with statistics of the benign tokens and of the conversation: `own`, its ids and
    its stream."""
    rows, seen = [_kept(engine, torch.tensor(own[0]), own[1])], 0
    for row in engine.residuals(benign.texts, sae.hookpoint):
        rows.append(_kept(engine, row.ids, row.values))
        seen += len(row.ids)
        if seen >= SAMPLE:
            break
    return calibrate(sae, torch.cat(rows).to(sae.device, sae.dtype))


def _kept(engine: TransformersEngine, ids: Tensor, values: Tensor) -> Tensor:
    return values.cpu()[keep_for_training(ids, values.cpu(), engine.bos)]


def read_reference(sae: SAE, engine: TransformersEngine, benign: Benign,
                   watch: Watch) -> Reference:
    """The reference, over all tokens of the benign prompts, the template's included."""
    out = Reference(sae)
    rows, some = engine.residuals(benign.texts, sae.hookpoint), []
    for row in watch.bar(rows, len(benign.texts), "harmless prompts"):
        some.append(row.values)
        if sum(map(len, some)) >= TOGETHER:
            out.add(torch.cat(some))
            some = []
    if some:
        out.add(torch.cat(some))
    return out
