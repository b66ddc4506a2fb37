"""Attackers of an evaluation: Crescendo on each suite that asks for it, in both conditions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from sternpost.assessment.replies import Condition
from sternpost.assessment.settings import EvaluateSettings
from sternpost.endpoints import chat_from
from sternpost.errors import EndpointError, InputError
from sternpost.evaluation import Loaded
from sternpost.evaluation.attack import Attack, Exchange
from sternpost.evaluation.crescendo import attacked, crescendo
from sternpost.evaluation.roles import EngineTarget, Roles, Settings
from sternpost.store import Sample, sample
from sternpost.trials.bench import Bench
from sternpost.types import Chat, Completion, Judgement, LabelledPrompt, Sampling

WORKERS = 4
"""Attacks that wait for an endpoint at a time; the model answers one of them at a time."""


@dataclass(frozen=True)
class Attackers:
    """Who attacks and who judges, if anybody."""

    attacker: Chat | None
    judge: Chat | None
    settings: Settings
    through: str
    """native, or pyrit"""


def attackers_of(settings: EvaluateSettings, loaded: Sequence[Loaded]) -> Attackers:
    """The roles that the settings name; the attacker judges too unless --judge is a model."""
    asked = [one.suite.name for one in loaded if one.suite.attack]
    attacker = None if settings.attacker is None else chat_from(settings.attacker)
    if attacker is not None and not asked:
        raise InputError(f"--attacker attacks in the suite crescendo, which is not among "
                         f"{', '.join(one.suite.name for one in loaded) or 'none'}. Type --suite "
                         "crescendo.")
    if attacker is None and asked and len(asked) == len(loaded) and not settings.task_names:
        raise InputError(f"{', '.join(asked)} needs an attacker, and there is nothing else to "
                         "measure. Type --attacker openai:MODEL, with OPENAI_BASE_URL and "
                         "OPENAI_API_KEY.")
    judge = chat_from(settings.judge) if settings.judge.startswith("openai:") else attacker
    return Attackers(attacker, judge, Settings(settings.turns, settings.backtracks),
                     settings.through)


def attack_lines(bench: Bench, loaded: Sequence[Loaded], conditions: tuple[Condition, Condition],
                 who: Attackers) -> tuple[list[Sample], dict[str, Any], list[str]]:
    """Lines of every attack, what there is to say of them, and what was left out."""
    lines: list[Sample] = []
    told: dict[str, Any] = {}
    warnings: list[str] = []
    for one in loaded:
        if not one.suite.attack:
            continue
        if who.attacker is None:
            warnings.append(f"Suite {one.suite.name} was left out: it needs an attacker. Type "
                            "--attacker openai:MODEL, with OPENAI_BASE_URL and OPENAI_API_KEY.")
            continue
        for condition in conditions:
            done = _attacks(bench, one, condition, who)
            lines += [line for prompt, attack in zip(one.prompts, done, strict=True)
                      for line in _lines(bench, one.suite.name, condition, prompt, attack)]
            made = done[0].conditions
            told[one.suite.name] = {
                "kind": made.attack, "attacker": made.attacker,
                "judge": f"{made.refusal_judge}; {made.success_judge}", "turns": made.turns,
                "backtracks": made.backtracks, "threshold": made.threshold,
                "prompts": made.prompts}
    return lines, told, warnings


def _attacks(bench: Bench, one: Loaded, condition: Condition, who: Attackers) -> list[Attack]:
    """Each objective's attack, in order; those that were made before a stop are read back."""
    keys = [f"{one.suite.name}.{condition.name}.{p.request.sha256[:16]}" for p in one.prompts]
    open_ = [at for at, key in enumerate(keys) if not bench.folder.has(key)]
    target = EngineTarget(bench.engine, condition.plan, Sampling(bench.sampling.max_new_tokens),
                          condition.name, Lock())
    assert who.attacker is not None
    assert who.judge is not None
    roles = Roles(who.attacker, target, who.judge, who.judge)
    objectives = [one.prompts[at].request.text for at in open_]
    with bench.watch.stage("attacks", f"{one.suite.title}, {condition.name}"):
        unread: dict[int, Attack] = {}
        made = attacked(objectives, lambda text: _through(who.through)(text, roles, who.settings),
                        1 if who.through == "pyrit" else WORKERS)
        for at, attack in bench.watch.bar(made, len(objectives), "attacks"):
            if attack.outcome == "unparsed":  # not kept: --resume tries it again
                unread[open_[at]] = attack
            else:
                bench.folder.once(keys[open_[at]], lambda attack=attack: attack.as_dict())
    if len(unread) == len(keys):
        raise EndpointError(f"{one.suite.name}: none of {len(keys)} attacks could be led or "
                            f"judged; the first: {unread[0].why} See that attacker and judge "
                            "answer at OPENAI_BASE_URL, then type the same with --resume.")
    return [unread[at] if at in unread else Attack.from_dict(bench.folder.once(key, dict))
            for at, key in enumerate(keys)]


def _through(name: str) -> Any:
    if name == "native":
        return crescendo
    from sternpost.evaluation.pyrit import pyrit_crescendo  # an extra

    return pyrit_crescendo


def _lines(bench: Bench, suite: str, condition: Condition, prompt: LabelledPrompt,
           attack: Attack) -> list[Sample]:
    """A line each exchange that was not taken back: only the success judge says that it won."""
    kept = [e for e in attack.exchanges if not e.backtracked] or list(attack.exchanges[-1:]) \
        or [Exchange(1, attack.objective, "", "unparsed", attack.why)]
    if attack.outcome == "unparsed":
        kept[-1] = replace(kept[-1], verdict="unparsed", reason=attack.why)
    won = attack.outcome == "success"
    return [_line(bench, suite, condition, prompt, (at, exchange, won and at == len(kept) - 1,
                                                    at == len(kept) - 1))
            for at, exchange in enumerate(kept)]


def _line(bench: Bench, suite: str, condition: Condition, prompt: LabelledPrompt,
          what: tuple[int, Exchange, bool, bool]) -> Sample:
    turn, exchange, success, last = what
    said = Completion(prompt.request, exchange.reply, exchange.reply)
    why = exchange.reason or exchange.rationale or "no judge said"
    line = sample(condition.name, prompt, said, Judgement(exchange.verdict, why),
                  exchange.verdict in ("refusal", "partial"))
    proof = exchange.proof
    return {**line, "suite": suite, "turn": turn, "harmful_turn": last, "success": success,
            "asked": exchange.prompt, "kl": None, "judge": "the attack's", "proof": proof,
            "risk": proof and proof.get("risk"), "fired": proof and proof.get("fired"),
            "edits": list(condition.edits)}


