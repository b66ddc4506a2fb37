"""`features describe`: what every feature of an SAE is active on, what it writes, what it is near.

    DIR/descriptions/features.jsonl       a line a feature (`features/describe.py`), with its label
    DIR/descriptions/descriptions.json    written last: what was read, who labelled, warnings

Read are the prompts with the model's own replies, and more text if given; in one pass, in memory
that does not grow with it. A label is made of words (the fallback), or by a language model behind
an OpenAI-compatible endpoint and then scored on windows that it was not made from. What `features
find` wrote in the same folder is shown beside.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sternpost.discovery.describe_settings import DescribeSettings
from sternpost.discovery.labels import Labeller
from sternpost.endpoints import Endpoint, chat_from
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import EndpointError, HookpointError, InputError
from sternpost.features.describe import Group, Source, described, words_label
from sternpost.features.gather import Gathered, Read
from sternpost.files import read_json, read_jsonl, write_json, write_jsonl
from sternpost.prompts import PromptFile, hazards, read_prompts, sample
from sternpost.prompts.splits import check_one_kind_each
from sternpost.sae import SAE, calibrate
from sternpost.store import RunFolder, at_work, open_run_folder
from sternpost.trials.bench import own_replies
from sternpost.trials.load import load_engine, model_hashes, sae_from_option, sae_sha256
from sternpost.trials.progress import Watch
from sternpost.trials.sae import SAMPLE
from sternpost.trials.settings import settings_from, takes
from sternpost.types import Completion, LabelledPrompt, Sampling, Transcript

FOLDER, FEATURES, LAST = "descriptions", "features.jsonl", "descriptions.json"
FOUND = "features.json"
"""What `features find` writes."""
TOGETHER = 256
"""Texts read at a time."""
SIDES = {"unsafe": "any unsafe request", "safe": "safe requests"}
NOBODY = "no language model labelled it"
UNSCORED = {"label_by": "words", "label_date": None, "score": {
    "detection": None, "fuzzing": None, "why": {"detection": NOBODY, "fuzzing": NOBODY}}}


@dataclass(frozen=True)
class Described:
    """Descriptions on disk."""

    path: Path
    about: dict[str, Any] = field(repr=False)
    """descriptions.json"""

    @property
    def features(self) -> list[dict[str, Any]]:
        """A dict a feature."""
        return with_ranks(read_jsonl(self.path / FEATURES), self.path.parent)

    def to_pandas(self) -> Any:
        """A row a feature."""
        import pandas as pd  # heavy: only for who asks

        return pd.DataFrame(self.features).set_index("feature")

    def _repr_html_(self) -> str:
        return self.to_pandas()[["label", "density", "high", "concepts"]]._repr_html_()


@takes(DescribeSettings)
def features_describe(**settings: Any) -> Described:
    """Describes every feature of an SAE: contexts, tokens, neighbours, categories, a label.

    Raises a SternpostError for bad input, EndpointError where the labeller leaves labels out.
    """
    return describe(settings_from(DescribeSettings, settings, "features describe"), Watch())


def describe(settings: DescribeSettings, watch: Watch) -> Described:
    """The same, with somebody watching."""
    chat = None if settings.labeller == "words" else chat_from(settings.labeller)
    files = {kind: read_prompts(spec, kind) for kind in ("unsafe", "safe", "corpus")
             if (spec := getattr(settings, kind)) is not None}
    _check_sides(settings, files)
    sae = sae_from_option(settings.sae, settings.layer, settings.device)
    place = Path(settings.out) / FOLDER
    # a prompt file is known by its hash; where it lies is not the run's
    named = {kind: Path(getattr(settings, kind)).name for kind in files}
    identity = settings.identity() | named | {
        "verb": "features describe", "hashes": {
            "model": model_hashes(settings.model, settings.revision), "sae": sae_sha256(sae),
            **{kind: file.sha256 for kind, file in files.items()}}}
    with at_work(open_run_folder(place, identity, settings.resume, settings.force,
                                 LAST)) as folder:
        if not folder.finished:
            with watch.stage("load", f"Loading {settings.model}"):
                engine, warnings = load_engine(settings)
            _check(engine, sae, settings)
            job = _Job(settings, engine, sae, folder, watch, chat)
            _describe(job, files, warnings)
    return Described(place, read_json(place / LAST))


def _check_sides(settings: DescribeSettings, files: Mapping[str, PromptFile]) -> None:
    """Raises InputError where both sides are the same prompts, or PromptFileError for one that
    stands on both: no feature could be told to see harm."""
    sides = [{p.request.sha256 for p in files[kind].prompts} for kind in ("unsafe", "safe")]
    if sides[0] == sides[1]:
        raise InputError(f"--unsafe {settings.unsafe} and --safe {settings.safe} give the same "
                         "prompts. Give prompts that should be refused, and others that should be "
                         "answered.")
    check_one_kind_each([p for kind in ("unsafe", "safe") for p in files[kind].prompts])


@dataclass(frozen=True)
class _Job:
    settings: DescribeSettings
    engine: TransformersEngine
    sae: SAE
    folder: RunFolder
    watch: Watch
    chat: Endpoint | None


def _check(engine: TransformersEngine, sae: SAE, settings: DescribeSettings) -> None:
    if sae.d_model != engine.d_model:
        raise InputError(f"The SAE {settings.sae} has d_model={sae.d_model}, the model "
                         f"{settings.model} has {engine.d_model}. Use an SAE of this model.")
    if sae.hookpoint.layer >= engine.n_layers:
        raise HookpointError(f"The SAE reads layer {sae.hookpoint.layer}; {settings.model} has "
                             f"{engine.n_layers} blocks, 0 to {engine.n_layers - 1}.")
    for feature in settings.feature:
        if not 0 <= feature < sae.d_sae:
            raise InputError(f"Feature {feature} is out of range: the SAE has features 0 to "
                             f"{sae.d_sae - 1}. Give another --feature.")


def _describe(job: _Job, files: Mapping[str, PromptFile], warnings: list[str]) -> None:
    settings, watch = job.settings, job.watch
    prompts = [p for kind in ("unsafe", "safe") for p in sample(
        files[kind].prompts, settings.limit, settings.seed)]
    corpus = sample(files["corpus"].prompts, settings.limit, settings.seed) \
        if "corpus" in files else ()
    with watch.stage("replies", "What the model says to them"):
        own = own_replies(job.engine, prompts, Sampling(settings.max_new_tokens), job.folder, "own")
    groups = groups_of(prompts)
    with watch.stage("gather", f"What {job.sae.d_sae:,} features are active on"):
        job = replace(job, sae=_calibrated(job, own, corpus))
        gathered, sources = _gather(job, list(zip(prompts, own, strict=True)), corpus, groups)
        weight = job.engine.model.get_output_embeddings().weight.detach()
        entries = [{**entry, "label": words_label(entry), **UNSCORED}
                   for entry in described(gathered, groups, sources, job.engine.piece, weight)]
    if job.chat is not None:
        with watch.stage("labels", f"Labels by {job.chat.name}"):
            _label(job, entries, gathered, sources)
    write_jsonl(job.folder.path / FEATURES, entries)
    labelled = sum(entry["label_by"] != "words" for entry in entries)
    write_json(job.folder.path / LAST, {
        "kind": "descriptions", "model": settings.model, "sae": settings.sae,
        "layer": job.sae.hookpoint.layer, "d_sae": job.sae.d_sae, "goal": "refusal",
        "tokens": gathered.tokens, "texts": gathered.texts,
        "prompts": {kind: sum(p.kind == kind for p in prompts) for kind in ("unsafe", "safe")},
        "labels": {"by": settings.labeller, "labelled": labelled,
                   "date": datetime.now(UTC).isoformat(timespec="seconds") if labelled else None,
                   "counts": asdict(job.chat.counts) if job.chat else None},
        "dead": sum(not entry["contexts"] for entry in entries),
        "warnings": [*warnings, *(w for file in files.values() for w in file.warnings)],
        "timing": watch.seconds})
    job.folder.close()


def _calibrated(job: _Job, own: Sequence[Completion],
                corpus: Sequence[LabelledPrompt]) -> SAE:
    """The SAE with its features' high activations, measured here where they are not known."""
    if job.sae.stats is not None:
        return job.sae
    import torch

    rows, tokens = [], 0
    for _, row in _residuals(job, own, corpus):
        rows.append(row.values)
        tokens += len(row.values)
        if tokens >= SAMPLE:
            break
    return calibrate(job.sae, torch.cat(rows)) if rows else job.sae


def _residuals(job: _Job, own: Sequence[Completion],
               corpus: Sequence[LabelledPrompt]) -> Iterator[tuple[int, Any]]:
    texts = iter([*(Transcript(ids=(*c.prompt_ids, *c.reply_ids)) for c in own),
                  *(Transcript(messages=p.request.messages) if p.request.messages
                    else Transcript(text=p.request.text) for p in corpus)])
    number = 0
    while some := list(islice(texts, TOGETHER)):
        for row in job.engine.residuals(some, job.sae.hookpoint):
            yield number, row
            number += 1


def _gather(job: _Job, pairs: Sequence[tuple[LabelledPrompt, Completion]],
            corpus: Sequence[LabelledPrompt],
            groups: Sequence[Group]) -> tuple[Gathered, list[Source]]:
    """Everything, read once."""
    import torch

    at = {group.id: number for number, group in enumerate(groups)}
    own = [c for _, c in pairs]
    ends = job.engine.template.t_inst([list(c.prompt_ids) for c in own])
    found = Gathered(job.sae, len(groups), job.settings.seed)
    rows = job.watch.bar(_residuals(job, own, corpus), len(own) + len(corpus), "reading texts")
    for number, row in rows:
        parts = torch.full((len(row.ids),), 0 if number < len(own) else 3)
        mine: tuple[int, ...] = ()
        benign = number < len(own) and pairs[number][0].kind == "safe"
        if number < len(own):
            parts[ends[number] + 1:] = 1
            parts[len(own[number].prompt_ids):] = 2
            mine = tuple(at[name] for name in _names(pairs[number][0]) if name in at)
        found.add(row.values, Read(row.ids, parts, number, mine, benign))
    sources = [Source(p.kind, p.category) for p in (*(p for p, _ in pairs), *corpus)]
    return found, sources


def _names(prompt: LabelledPrompt) -> list[str]:
    """The groups that a prompt belongs to: its category, if it is unsafe, and its side."""
    if prompt.kind == "unsafe" and prompt.category and prompt.category not in SIDES:
        return [prompt.category, prompt.kind]
    return [prompt.kind]


def groups_of(prompts: Sequence[LabelledPrompt]) -> list[Group]:
    """The categories of unsafe prompts, linked to the hazard taxonomy, and the two sides."""
    known = hazards()
    out = {}
    for prompt in prompts:
        for name in _names(prompt):
            hazard = known.get(name)
            out[name] = Group(name, hazard.name if hazard else SIDES.get(name, name),
                              hazard.mlcommons if hazard else None)
    return sorted(out.values(), key=lambda group: group.id)


def _label(job: _Job, entries: list[dict[str, Any]], gathered: Gathered,
           sources: list[Source]) -> None:
    """Puts a language model's labels into the entries. Raises EndpointError where some are missing;
    the others are kept."""
    assert job.chat is not None
    ranked = with_ranks(entries, Path(job.settings.out))
    some = [entries[feature] for feature in _chosen(job.settings, ranked)]
    labeller = Labeller(job.chat, gathered, sources, job.engine.piece, job.settings.workers,
                        job.settings.seed)
    labels, failed = labeller.label(some, job.folder, job.watch)
    if failed:
        raise EndpointError(f"{len(failed)} of the questions to {job.chat.name} were not answered; "
                            f"the last: {failed[-1]} What was answered is kept: type the same "
                            "command with --resume to ask the rest again.")
    for label in labels:
        entries[label["feature"]].update(label)


def _chosen(settings: DescribeSettings, entries: Sequence[dict[str, Any]]) -> list[int]:
    """The features that are labelled."""
    if settings.feature:
        return list(dict.fromkeys(settings.feature))
    live = [entry for entry in entries if entry["contexts"]]
    ranks = {entry["feature"]: min(entry["found"]["methods"].values()) for entry in live
             if entry["found"]}
    lifts = {entry["feature"]: max((row["lift"] for row in entry["categories"]
                                    if row["category"] in entry["concepts"]), default=0.0)
             for entry in live}
    order = sorted((entry["feature"] for entry in live), key=lambda f: (
        ranks.get(f, float("inf")), -lifts[f], f))
    return order[:settings.labelled]


def with_ranks(entries: Sequence[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """The entries with what `features find` found in this folder, as it lies there now: `found` is
    a feature's rank in each method, and the grid's effect; None where no method names it."""
    found = _found(folder)
    return [{**entry, "found": found.get(entry["feature"])} for entry in entries]


def _found(folder: Path) -> dict[int, dict[str, Any]]:
    if not (folder / FOUND).is_file():
        return {}
    body = read_json(folder / FOUND)
    out: dict[int, dict[str, Any]] = {}
    for name, entries in {**body["methods"], "harm": body["harm"]}.items():
        for rank, entry in enumerate(entries, start=1):
            mine = out.setdefault(entry["feature"], {"methods": {}, "effect": None})
            mine["methods"][name] = rank
            if name == "causal_grid":
                mine["effect"] = {"value": entry["value"], **entry["change"]}
    return out
