"""`chat`: talk to a model with features clamped, and beside it to the model as it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import InputError
from sternpost.packs.pack import Pack, load_pack, template_of
from sternpost.trials.load import load_engine, sae_from_option
from sternpost.trials.run_settings import RunSettings
from sternpost.types import Clamp, Engine, Message, Plan, Proof, Request, Sampling


@dataclass(frozen=True)
class Turn:
    """One exchange."""

    user: str
    reply: str
    unsteered: str | None
    """What the model says without the clamps, where that was asked for."""
    proof: Proof | None


@dataclass
class Conversation:
    """A chat under way: `send` a message, get a turn."""

    engine: Engine
    plan: Plan | None
    compare: bool = False
    max_new_tokens: int = 200
    turns: list[Turn] = field(default_factory=list)

    def send(self, text: str) -> Turn:
        """The model's reply to `text`, after what was said so far. Raises InputError for bytes that
        were no UTF-8."""
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise InputError(f"A message is UTF-8 text; got {text!r}. Convert it first, e.g. with "
                             "iconv -t UTF-8.")
        reply, proof = self._say([t.reply for t in self.turns], text, self.plan)
        plain = None
        if self.compare:
            plain, _ = self._say([t.unsteered or "" for t in self.turns], text, None)
        self.turns.append(Turn(text, reply, plain, proof))
        return self.turns[-1]

    def _say(self, replies: Sequence[str], text: str,
             plan: Plan | None) -> tuple[str, Proof | None]:
        said = [m for turn, reply in zip(self.turns, replies, strict=True)
                for m in (Message("user", turn.user), Message("assistant", reply))]
        request = Request((*said, Message("user", text)), text)
        (done,) = self.engine.generate([request], plan, Sampling(self.max_new_tokens))
        return done.reply, done.proof

    def to_pandas(self) -> Any:
        """A row a turn."""
        import pandas as pd  # heavy: only for who asks

        return pd.DataFrame([{"user": t.user, "reply": t.reply, "unsteered": t.unsteered,
                              "risk": t.proof and t.proof.risk, "fired": t.proof and t.proof.fired}
                             for t in self.turns])

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()


def chat(*, model: str | None = None, sae: str | None = None, clamp: Sequence[str | Clamp] = (),
         pack: str | Pack | None = None, level: str = "high", compare: bool = False,
         system: str | None = None, chat_template: str | None = None,
         chat_template_kwargs: str | None = None, max_new_tokens: int = 200,
         device: str = "auto", dtype: str = "auto", revision: str | None = None) -> Conversation:
    """A conversation with `model`, its features clamped as `clamp` says ("597=8"), or steered by a
    `pack` at a `level`; the pack's own model needs no naming, and system prompt, chat template and
    its variables are the pack's where none are given.

    Raises SternpostError where model, SAE, clamp or pack do not fit.
    """
    if max_new_tokens < 1:
        raise InputError(f"A reply has at least 1 token; got --max-new-tokens {max_new_tokens}. "
                         "Type --max-new-tokens 200.")
    if pack is not None and (sae is not None or len(clamp)):
        raise InputError("A pack brings its own features. Give --pack, or --sae with --clamp.")
    loaded = load_pack(pack) if isinstance(pack, str | Path) else pack
    model = model or (loaded.source if loaded is not None else None)
    if model is None:
        raise InputError("Which model? Give --model M, or --pack P, which names its own.")
    clamps = tuple(read_clamp(one) for one in ([clamp] if isinstance(clamp, str) else clamp))
    if clamps and sae is None:
        raise InputError("A clamp names a feature of an SAE. Give it with --sae DIR.")
    if loaded is not None:
        revision = revision or loaded.files.body["model"].get("revision")
    settings = RunSettings(model=model, unsafe="", safe="", out="", system=system, device=device,
                           chat_template=chat_template, chat_template_kwargs=chat_template_kwargs,
                           dtype=dtype, revision=revision)
    features = None if sae is None else sae_from_option(sae, device=device)
    # a pack's template may take a system prompt where the model's own does not
    engine, _ = load_engine(settings if loaded is None else replace(settings, system=None))
    plan = None if features is None else Plan(features, clamps)
    if loaded is not None:
        engine, plan = _spoken(engine, loaded, settings), loaded.at(level)
    if plan is not None:
        engine.check(plan)
    return Conversation(engine, plan, compare, max_new_tokens)


def _spoken(engine: TransformersEngine, pack: Pack, told: RunSettings) -> TransformersEngine:
    """The engine with all that the pack was measured with, but for what the user gave."""
    template = template_of(pack, engine.tokenizer)
    if told.chat_template is not None:
        template = replace(template, tokenizer=engine.tokenizer)
    if told.chat_template_kwargs is not None:
        template = replace(template, arguments=told.template_arguments)
    if told.system is not None:
        template = replace(template, system=told.system)
    return TransformersEngine(engine.model, template, engine.batch_size)


def read_clamp(text: str | Clamp) -> Clamp:
    """The clamp that "FEATURE=VALUE" spells."""
    if isinstance(text, Clamp):
        return text
    feature, equals, value = text.partition("=")
    try:
        if equals:
            return Clamp(int(feature), float(value))
    except ValueError:
        pass
    raise InputError(f"A clamp is FEATURE=VALUE, e.g. 597=8.0; got {text!r}.")
