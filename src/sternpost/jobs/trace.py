"""`features trace`: one conversation, token by token: which features fire, and what for.

    DIR/trace.json   every token's features: how active, how unusual, what each contributes
    DIR/trace.html   the same to look at

    contribution   of a feature at a prompt token, to the logit of the first token of a reply that
                   shows the goal: acts[f] * (G . W_dec[f]), G the gradient's mean on the way from
                   no feature to all (integrated gradients, arXiv 1703.01365)
    ablation       what that logit loses when the feature is ablated at all prompt tokens: exact
    surprise       how rarely a feature is as active on benign tokens (features/reference.py)
    risk           the gate's P(harm), read at each prompt token; it decides at t_inst
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sternpost.discovery.trace_inputs import Given, read_given, read_reference, with_stats
from sternpost.discovery.trace_settings import TraceSettings
from sternpost.discovery.trace_tokens import agreement, features_of, with_features
from sternpost.discovery.tracer import Tracer
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import InputError
from sternpost.files import read_json, write_json, write_text
from sternpost.report.trace import render_trace
from sternpost.sae import SAE
from sternpost.store import RunFolder, at_work, open_run_folder
from sternpost.trials.load import load_engine, sae_from_option, sae_sha256
from sternpost.trials.progress import Watch
from sternpost.trials.settings import settings_from, takes

FILE, PAGE = "trace.json", "trace.html"


@dataclass(frozen=True)
class Trace:
    """A traced conversation."""

    path: Path
    trace: dict[str, Any] = field(repr=False)
    """trace.json"""

    def to_pandas(self) -> Any:
        """A row a token and feature."""
        import pandas as pd  # heavy: only for who asks

        return pd.DataFrame([{"at": token["at"], "text": token["text"], "part": token["part"],
                              "risk": token["risk"], **entry}
                             for token in self.trace["tokens"] for entry in token["features"]])

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()


@takes(TraceSettings)
def features_trace(**settings: Any) -> Trace:
    """Which features fire at each token of a conversation, how unusual that is, and what they
    contribute to the reply.

    Raises a SternpostError for bad input.
    """
    return trace_features(settings_from(TraceSettings, settings, "features trace"), Watch())


def trace_features(settings: TraceSettings, watch: Watch) -> Trace:
    """The same, with somebody watching."""
    given = read_given(settings)
    sae = sae_from_option(settings.sae, settings.layer, settings.device)
    given = replace(given, hashes={**given.hashes, "sae": sae_sha256(sae)})
    if settings.system is None and given.pack is not None:
        settings = replace(settings, system=given.pack.files.body["system"])
    with _folder(settings, given) as folder:
        if not folder.finished:
            body = _trace(settings, given, sae, watch)
            write_text(folder.path / PAGE, render_trace(body))
            write_json(folder.path / FILE, body)
            folder.close()
        return Trace(folder.path, read_json(folder.path / FILE))


@contextmanager
def _folder(settings: TraceSettings, given: Given) -> Iterator[RunFolder]:
    """The trace's folder; bad input that shows only now leaves nothing behind."""
    # a file is known by its hash; where it lies is not the trace's
    named = {kind: Path(spec).name for kind in ("benign", "goal", "pack", "labels")
             if (spec := getattr(settings, kind)) is not None}
    identity = settings.identity() | named | {"verb": "features trace", "hashes": given.hashes}
    folder = open_run_folder(Path(settings.out), identity, settings.resume, settings.force, FILE)
    with at_work(folder):
        yield folder


# ---- what is seen --------------------------------------------------------------------------------

def _trace(settings: TraceSettings, given: Given, sae: SAE, watch: Watch) -> dict[str, Any]:
    """trace.json"""
    with watch.stage("load", f"Loading {settings.model}"):
        engine, warnings = load_engine(settings)
        _check(engine, sae, settings)
    with watch.stage("reply", "What the model says"):
        tracer = Tracer(engine, settings, given.sought)
        gate, risks = (None, None) if given.pack is None else tracer.gate(given.pack)
        h, benign = tracer.stream(sae.hookpoint), given.benign
    with watch.stage("reference", "How active features are on harmless prompts"):
        if benign is not None and settings.benign is not None and sae.stats is None:
            sae = with_stats(sae, engine, benign, (tracer.ids, h))
        reference = None if benign is None else read_reference(sae, engine, benign, watch)
    with watch.stage("contributions", "What each feature adds to the logit"):
        logit, none = tracer.logit()
        active = tracer.active(sae, h, reference, logit)
    with watch.stage("ablation", "What the logit loses without it"):
        checked = tracer.checked(sae, active, logit)
    tokens = with_features(active, tracer.tokens(risks), settings.top, settings.feature)
    features = features_of(active, checked, settings.top, settings.feature, len(tracer.prompt))
    body = {
        "kind": "trace", "model": settings.model, "sae": settings.sae,
        "layer": sae.hookpoint.layer, "d_sae": sae.d_sae, **tracer.about(), "logit": logit,
        "tokens": tokens, "features": features, "checked": checked,
        "agreement": agreement(checked), "gate": gate,
        "reference": None if benign is None or reference is None else {
            "source": benign.source, "prompts": len(benign.texts), "tokens": reference.n}}
    shown = {e["feature"] for e in (*features, *(e for t in tokens for e in t["features"]))}
    return {
        **body, "labels": {str(f): given.labels[f] for f in sorted(shown) if f in given.labels},
        "why": _why(body, none, given, sae), "warnings": [*warnings, *given.warnings],
        "provenance": {"settings": settings.identity(), "hashes": given.hashes,
                       "date": datetime.now(UTC).isoformat(timespec="seconds")},
        "timing": watch.seconds}


def _check(engine: TransformersEngine, sae: SAE, settings: TraceSettings) -> None:
    if sae.d_model != engine.d_model:
        raise InputError(f"The SAE {settings.sae} has d_model={sae.d_model}, the model "
                         f"{settings.model} has {engine.d_model}. Use an SAE of this model.")
    engine.blocks.at(sae.hookpoint)
    for feature in settings.feature:
        if feature >= sae.d_sae:
            raise InputError(f"Feature {feature} is out of range: the SAE has features 0 to "
                             f"{sae.d_sae - 1}. Give another --feature.")


def _why(body: dict[str, Any], none: str, given: Given, sae: SAE) -> dict[str, str]:
    """Why what is null is null, here and in the tokens."""
    unread = "No pack: give one with --pack P." if given.pack is None else \
        "The pack steers every prompt, at no level behind a gate."
    harmless = ("Nothing harmless to compare with: give prompts with --benign FILE, or a pack "
                "that has some with --pack P.")
    why = {"contribution": none or "The reply is decided where the prompt ends; what comes after "
                                   "contributes nothing to that.",
           "ablation": none or "Ablated are the features that contribute most, and those given "
                               "with --feature."}
    if body["logit"] is None:
        why |= {"logit": none, "agreement": none}
    elif body["agreement"] is None:
        why["agreement"] = "Fewer than two features contribute."
    if body["logit"] and not body["logit"]["difference"]:
        why["contrast"] = "It is the logit of the very token that the model says."
    why |= {"risk": "The gate decides where the prompt ends, and reads no reply."} if body["gate"] \
        else {"gate": unread, "risk": unread}
    if body["reference"] is None:
        why |= {"reference": harmless, "surprise": harmless}
    if sae.stats is None:
        why["relative"] = "The SAE has no statistics; with --benign FILE they are measured."
    return why
