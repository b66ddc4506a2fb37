"""`doctor`: does steering work on this model? One check a line, each against plain arithmetic.

Covered: the chat template and what is read off it; that no edits change nothing, to the bit; that
an edit changes the stream and the logits by the amount of a reference, and nothing before it; that
every decoded token is steered; that neither cache, chunks, neighbours nor padding change a steered
stream, and what of that the model itself does not keep (battery.py); that hooks are gone. Not
covered: whether a feature means what one thinks. Overall: if all hold, a run's numbers are about
the edit and not about the plumbing.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from sternpost.activations import find_t_inst
from sternpost.engines.probe import logits_and_stream, module_hooks
from sternpost.engines.steer import steer
from sternpost.engines.steering import Steering
from sternpost.errors import SternpostError
from sternpost.jobs import battery
from sternpost.jobs.patient import EXAMPLE, Patient
from sternpost.sae import SAE
from sternpost.trials.load import load_engine, sae_from_option
from sternpost.trials.run_settings import RunSettings
from sternpost.types import Add, Clamp, Edit, Hookpoint, Message, Plan, Request, Sampling

MODELS_OWN = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)
"""What an unknown model's own code may raise while it is examined."""
SHORT = "Hello!"


@dataclass(frozen=True)
class Check:
    """One thing that was checked."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Checkup:
    """What doctor found."""

    model: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether all checks hold."""
        return all(check.ok for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """As `doctor --json` prints it."""
        return {"checks": [asdict(check) for check in self.checks]}

    def to_pandas(self) -> Any:
        """A row a check."""
        import pandas as pd  # heavy: only for who asks

        return pd.DataFrame([asdict(check) for check in self.checks])

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()


def doctor(*, model: str, layer: int | None = None, sae: str | None = None,
           system: str | None = None, chat_template: str | None = None,
           chat_template_kwargs: str | None = None, device: str = "auto", dtype: str = "auto",
           revision: str | None = None) -> Checkup:
    """Checks that steering works on `model`, with `sae` or, without one, with a random direction.

    Raises SternpostError where the model or the SAE cannot even be loaded.
    """
    settings = RunSettings(model=model, unsafe="", safe="", out="", system=system, layer=layer,
                           chat_template=chat_template, chat_template_kwargs=chat_template_kwargs,
                           device=device, dtype=dtype, revision=revision)
    engine, notes = load_engine(settings)
    given = None if sae is None else sae_from_option(sae, layer, device)
    if layer is None:
        layer = given.hookpoint.layer if given else min(round(0.2 * engine.n_layers),
                                                        engine.n_layers - 1)
    patient = Patient(engine, Hookpoint(layer), given)
    return Checkup(model, tuple(_examine(patient, notes)))


def _examine(patient: Patient, notes: list[str]) -> Iterator[Check]:
    parts: list[tuple[str, Callable[[Patient], tuple[bool, str]]]] = [
        ("template", _template), ("positions", _positions), ("hookpoint", _hookpoint),
        ("off", _off), ("bites", _bites), ("causal", _causal), ("generate", _generate),
        ("cache", battery.cache), ("chunks", battery.chunks), ("batch", battery.batch),
        ("padding", battery.padding), ("replies", _replies), ("hooks", _hooks)]
    if patient.given is not None:
        parts.insert(3, ("sae", _sae))
    for name, part in parts:
        try:
            ok, detail = part(patient)
        except SternpostError as error:
            ok, detail = False, str(error)
        except MODELS_OWN as error:
            ok, detail = False, f"the model failed: {type(error).__name__}: {error}"
        yield Check(name, ok, detail + "".join(f" ({n})" for n in notes if name == "template"))


def _template(p: Patient) -> tuple[bool, str]:
    return True, f"an example reads {p.engine.tokenizer.decode(p.prompt()[0].tolist())!r}"


def _positions(p: Patient) -> tuple[bool, str]:
    ids, tokenizer, marks = p.prompt()[0].tolist(), p.engine.tokenizer, p.engine.marks
    at = find_t_inst(ids, lambda part: tokenizer.decode(
        part, skip_special_tokens=False, clean_up_tokenization_spaces=False), marks.tail)
    thinking = f"; reasoning between {marks.think_open} and {marks.think_close}" \
        if marks.think_close else "; no reasoning segment"
    return True, (f"of {len(ids)} tokens t_inst is number {at}, {tokenizer.decode([ids[at]])!r}; "
                  f"tail is {tokenizer.decode(ids[at + 1:])!r}{thinking}")


def _hookpoint(p: Patient) -> tuple[bool, str]:
    p.engine.blocks.at(p.at)
    return True, (f"output of {p.engine.blocks.path}[{p.at.layer}], {p.engine.n_layers} blocks, "
                  f"d_model {p.engine.d_model}")


def _sae(p: Patient) -> tuple[bool, str]:
    Steering(p.engine.model, Plan(p.sae, ()))
    _, stream = logits_and_stream(p.engine, p.prompt(), p.at)
    x = stream[0, 1:].float()
    lost = (x - p.sae.reconstruct(x).float()).square().sum()
    fvu = float(lost / (x - x.mean(0)).square().sum())
    doubt = "" if fvu < 1 else ": worse than none; is it an SAE of this model and layer?"
    return fvu < 1, (f"d_sae {p.sae.d_sae}, {p.sae.kind}, FVU {fvu:.3f} on the example{doubt}; "
                     f"mode='threshold': {_agreement(p.sae)}")


def _agreement(sae: SAE) -> str:
    if sae.kind != "topk":
        return "the SAE's own"
    if sae.threshold is None:
        return "not to be had, no thresholds are stored"
    if sae.stats is None or sae.stats.agreement is None:
        return "how far it agrees with 'exact' was not measured"
    known = sae.stats.agreement[~sae.stats.agreement.isnan()]
    if not len(known):
        return "no feature was active where it was measured"
    return (f"of the tokens on which a feature is active by it or by 'exact', {known.median():.0%} "
            f"are so by both (median of {len(known)} features; a tenth are below "
            f"{known.quantile(.1):.0%})")


def _off(p: Patient) -> tuple[bool, str]:
    ids = p.prompt()
    plain, _ = logits_and_stream(p.engine, ids, p.at)
    with steer(p.engine.model, p.sae, []):
        off, _ = logits_and_stream(p.engine, ids, p.at)
    same = torch.equal(plain, off)
    said = "bit-identical" if same else f"off by {float((plain - off).abs().max()):.2g}"
    return same, f"without edits the logits are {said}"


def _bites(p: Patient) -> tuple[bool, str]:
    """The stream changes by the reference amount, and so do the logits."""
    ids = p.prompt()
    plain, h = logits_and_stream(p.engine, ids, p.at)
    edit = p.edit(h)
    wanted = h.float() + _reference(p, h.float(), edit)
    by_hand, _ = logits_and_stream(p.engine, ids, p.at, replace=wanted.to(h.dtype))
    with steer(p.engine.model, p.sae, [edit]):
        logits, got = logits_and_stream(p.engine, ids, p.at)
    off = float((got.float() - wanted).abs().max() / wanted.abs().max())
    moved = float((logits - plain).abs().max())
    logit_off = float((logits - by_hand).abs().max() / plain.abs().max())
    bound = 1e-5 if h.dtype == torch.float32 else 2e-2
    ok = off <= bound and logit_off <= 10 * bound and moved > 0
    what = f"Clamp({edit.feature}, {edit.value:.3g})" if isinstance(edit, Clamp) else "a random Add"
    return ok, (f"{what} moves logits by up to {moved:.3g}; off the reference by {off:.1g} in the "
                f"stream and {logit_off:.1g} in the logits (relative)")


def _reference(p: Patient, h: Tensor, edit: Edit) -> Tensor:
    """The change, token by token, from the formula itself."""
    change = torch.zeros_like(h)
    for row in range(h.shape[0]):
        for at in range(h.shape[1]):
            if isinstance(edit, Clamp):
                acts = p.sae.encode(h[row, at]).dense()
                change[row, at] = (edit.value - acts[edit.feature]) * p.sae.W_dec[edit.feature]
            elif isinstance(edit, Add):
                direction = torch.as_tensor(edit.feature_or_direction).to(h)
                change[row, at] = edit.value * direction / direction.norm()
    return change


def _causal(p: Patient) -> tuple[bool, str]:
    ids = p.prompt()
    plain, h = logits_and_stream(p.engine, ids, p.at)
    with steer(p.engine.model, p.sae, [p.edit(h)], positions="last(2)") as run:
        logits, _ = logits_and_stream(p.engine, ids, p.at)
    moved = (logits - plain).abs().amax(-1)[0]
    before, after = float(moved[:-2].max()), float(moved[-2:].min())
    want = tuple(range(ids.shape[1] - 2, ids.shape[1]))
    return before == 0 and after > 0 and run.proof[0].positions == want, (
        f"an edit of the last 2 tokens moves logits there by {after:.3g} or more, before by "
        f"{before:.3g}")


def _generate(p: Patient) -> tuple[bool, str]:
    ids, n = p.prompt(), 6
    _, h = logits_and_stream(p.engine, ids, p.at)
    options: dict[str, Any] = {"max_new_tokens": n, "min_new_tokens": n, "do_sample": False}
    with steer(p.engine.model, p.sae, [p.edit(h)], positions="response") as run:
        p.engine.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
    got, want = run.proof[0].positions, tuple(range(ids.shape[1], ids.shape[1] + n - 1))
    return got == want, (f"of {n} new tokens the {n - 1} that are read again were steered" if
                         got == want else f"steered positions {got}, expected {want}")


def _replies(p: Patient) -> tuple[bool, str]:
    """Steered replies in a padded batch are those of the lone rows."""
    requests = [Request((Message("user", text),), text) for text in (SHORT, EXAMPLE)]
    plan, sampling = p.plan(), Sampling(8)
    together = p.engine.generate(requests, plan, sampling)
    alone = [p.engine.generate([request], plan, sampling)[0] for request in requests]
    same = all(a.reply_ids == b.reply_ids for a, b in zip(together, alone, strict=True))
    loose = next(p.engine.model.parameters()).dtype != torch.float32
    return same or loose, ("a padded batch gives the replies of the lone rows" if same else
                           "replies in a padded batch differ from those of the lone rows" +
                           (", as half precision may" if loose else ""))


def _hooks(p: Patient) -> tuple[bool, str]:
    before = module_hooks(p.engine.model)
    try:
        with steer(p.engine.model, p.sae, []):
            raise KeyError
    except KeyError:
        pass
    gone = module_hooks(p.engine.model) == before and "generate" not in vars(p.engine.model)
    return gone, "hooks are gone after an exception" if gone else "hooks stayed after an exception"
