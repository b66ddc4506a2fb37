"""Everything a run reads, checked before anything is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sternpost.engines.loading import check_config
from sternpost.errors import GateError, HookpointError, InputError, LeakageError
from sternpost.gates.logistic import FOLDS
from sternpost.prompts import PromptFile, Splits, read_prompts, sample, split_prompts
from sternpost.sae import SAE
from sternpost.store import check_writable
from sternpost.trials.load import (
    model_hashes,
    packed_folder,
    read_template,
    sae_from_option,
    sae_sha256,
    trained_on,
)
from sternpost.trials.run_settings import RunSettings
from sternpost.types import Engine, Hookpoint, LabelledPrompt


@dataclass(frozen=True)
class Inputs:
    """Prompts, split; the SAE if one was given; where to write; what to warn of."""

    files: dict[str, PromptFile]
    splits: Splits
    corpus: tuple[LabelledPrompt, ...]
    sae: SAE | None
    at: Hookpoint
    d_model: int
    d_sae: int
    k: int
    tokens: int
    reasons: dict[str, str]
    """Why each SAE size is what it is."""
    hashes: dict[str, Any]
    warnings: tuple[str, ...]
    train: tuple[str, ...] = ()
    """sha256 of the prompts that the model was trained on, where that is known."""


def read_inputs(settings: RunSettings, engine: Engine | None = None) -> Inputs:
    """All input of a run, checked. Raises a SternpostError for the first thing that is wrong.

    With an `engine` handed in, its depth and width count, and no model is read.
    """
    files = {kind: read_prompts(spec, kind) for kind in ("unsafe", "safe", "capability", "corpus")
             if (spec := getattr(settings, kind)) is not None}
    drawn = {kind: sample(file.prompts, settings.limit, settings.seed)
             for kind, file in files.items() if kind != "corpus"}
    splits = split_prompts(drawn["unsafe"], drawn["safe"], drawn.get("capability", ()),
                           settings.seed)
    _check_counted(splits)
    if not settings.no_gate:
        _check_gate(splits)
    train = tuple(trained_on(settings.model)) if engine is None else ()
    _check_unseen(splits, train)
    if settings.chat_template is not None:
        read_template(settings.chat_template)
    n_layers, d_model = _shape(settings) if engine is None else (engine.n_layers, engine.d_model)
    sae = _given_sae(settings, d_model)
    at = _hookpoint(settings, sae, n_layers)
    d_sae, k, tokens, reasons = sizes(settings, sae, d_model)
    for feature in settings.feature:
        if feature >= d_sae:
            raise InputError(f"Feature {feature} is out of range: the SAE has features 0 to "
                             f"{d_sae - 1}. Give another --feature.")
    check_writable(Path(settings.out))
    model = model_hashes(settings.model, settings.revision) if engine is None else {}
    hashes = {"model": model, **{kind: file.sha256 for kind, file in files.items()}}
    if sae is not None:
        hashes["sae"] = sae_sha256(sae)
    warnings = [w for file in files.values() for w in file.warnings] + list(splits.warnings)
    if engine is None and not any(name.endswith((".safetensors", ".bin")) for name in model):
        warnings.append(f"{settings.model}: its weights are not on this machine yet, so their "
                        "hashes are not recorded. Run again, or give --revision.")
    return Inputs(files, splits, files["corpus"].prompts if "corpus" in files else (), sae, at,
                  d_model, d_sae, k, tokens, reasons, hashes, tuple(warnings), train)


def _check_gate(splits: Splits) -> None:
    """What a gate needs, asked before a run has taken minutes."""
    for kind in ("unsafe", "safe"):
        found = len({p.cluster or p.request.sha256 for p in splits.gate_fit
                     if p.kind == kind and p.harm_kind != "offensive"})
        if found < FOLDS:
            raise GateError(f"A gate is fitted on at least {FOLDS} clusters a side; the gate_fit "
                            f"split has {found} {kind} (prompts that are nearly alike make one). "
                            f"Give more prompts; `run` can do without a gate: --no-gate.")
    if not any(p.kind == "safe" and p.harm_kind != "offensive" for p in splits.gate_calibration):
        raise GateError("A gate's threshold is set on safe prompts of the gate_calibration split; "
                        "it has none (prompts that are nearly alike stand in one split). Give "
                        "more, or a column `split`; `run` can do without a gate: --no-gate.")


def _check_unseen(splits: Splits, train: Sequence[str]) -> None:
    """A model is not evaluated on what it was trained on."""
    known = set(train)
    seen = [p for p in splits.test if p.request.sha256 in known]
    if seen:
        raise LeakageError(f"{len(seen)} of {len(splits.test)} test prompts stand in the model's "
                           f"own training data, e.g. {seen[0].request.text[:80]!r}. Take them out.")


def _check_counted(splits: Splits) -> None:
    """Merely offensive prompts count in neither refusal rate, so they alone make no side."""
    for name in ("search", "test"):
        counted = {p.kind for p in getattr(splits, name) if p.harm_kind != "offensive"}
        for kind in ("unsafe", "safe"):
            if kind not in counted:
                raise InputError(f"Every {kind} prompt of the {name} split has harm_kind "
                                 "offensive; those are reported apart and count in neither "
                                 f"refusal rate. Add other {kind} prompts.")


def _shape(settings: RunSettings) -> tuple[int, int]:
    """Depth and width that the model's config states."""
    config = check_config(str(packed_folder(settings.model, "model")), settings.revision)
    depth = getattr(config, "num_hidden_layers", None)
    width = next((value for name in ("hidden_size", "n_embd", "d_model")
                  if isinstance(value := getattr(config, name, None), int)), None)
    if depth is None or width is None:
        raise InputError(f"{settings.model}: the config names no depth or width; sternpost steers "
                         "Hugging Face causal language models.")
    return depth, width


def _given_sae(settings: RunSettings, d_model: int) -> SAE | None:
    if settings.sae is None:
        return None
    sae = sae_from_option(settings.sae, settings.layer, settings.device)
    if sae.d_model != d_model:
        raise InputError(f"The SAE {settings.sae} has d_model={sae.d_model}, the model "
                         f"{settings.model} has {d_model}. Use an SAE of this model.")
    return sae


def _hookpoint(settings: RunSettings, sae: SAE | None, n_layers: int) -> Hookpoint:
    layer = settings.layer
    if layer is None:
        layer = sae.hookpoint.layer if sae is not None else min(round(0.2 * n_layers), n_layers - 1)
    if layer >= n_layers:
        raise HookpointError(f"Layer {layer} is out of range: {settings.model} has {n_layers} "
                             f"blocks, 0 to {n_layers - 1}. Give --layer.")
    return Hookpoint(layer)


def sizes(settings: RunSettings, sae: SAE | None,
          d_model: int) -> tuple[int, int, int, dict[str, str]]:
    """d_sae, k and tokens of the SAE to train, with the reason for each."""
    if sae is not None:
        return sae.d_sae, sae.k or 0, 0, {"sae": f"given: {settings.sae}"}
    d_sae = settings.d_sae or 8 * d_model
    k = settings.k or max(1, min(32, d_model // 4))
    tokens = settings.tokens or max(500_000, 40 * d_sae)
    if k > d_sae:
        raise InputError(f"k = {k} active features a token, but d_sae = {d_sae}. Give --k of at "
                         f"most {d_sae}.")
    return d_sae, k, tokens, {
        "d_sae": "asked for" if settings.d_sae else f"8 x d_model = 8 x {d_model}, as in the paper",
        "k": "asked for" if settings.k else "32 as in the paper, at most a quarter of d_model",
        "tokens": "asked for" if settings.tokens else "500,000, or 40 a feature if that is more"}
