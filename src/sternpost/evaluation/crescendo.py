"""Crescendo, native: an attacker model leads the target on, step by step.

    next message -> target -> refused? -> taken back, another way is tried, while backtracks remain
                                  else -> score >= threshold: success, stop; turn += 1

After Russinovich, Salem and Eldan (arXiv 2404.01833) and PyRIT's CrescendoAttack, whose loop it
follows: a turn that is taken back does not count; the target's conversation then lacks it and the
attacker's keeps it; the refusal judge sees the message just sent, the success judge the objective;
with no backtrack left a refusal is scored and counts as a turn.

Covered: any target behind a Chat, steered engines with proof; any attacker and judges behind a
Chat; scripts in an attacker's place, recorded as scripted multi-turn. An answer that cannot be read
and a service that fails for good end the attack as unparsed, with the reason.
Not covered: pictures; attackers that are not told of their objective; several conversations side by
side; PyRIT's own wording, which `evaluation/pyrit.py` brings. Whether what was said is true, or of
use to anybody.
Overall: a success rate is the attacker's and the judges' as much as the target's: compare two
conditions under the same ones. Up to turns + backtracks calls of the target and three times as many
of the models; a weak attacker makes any model look safe.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

from sternpost.endpoints import each
from sternpost.errors import EndpointError
from sternpost.evaluation.attack import SCRIPTED, Attack, Conditions, Exchange, Outcome
from sternpost.evaluation.roles import (
    EngineTarget,
    NoMoreTurns,
    Roles,
    ScriptedAttacker,
    Settings,
    Unread,
    answered,
    filled,
    is_judge,
    name_of,
    next_message,
    prompts,
    prompts_name,
    refusal,
    replied,
    score,
)
from sternpost.types import Completion, Judge, Judgement, Message, Verdict


def crescendo(objective: str, roles: Roles, settings: Settings | None = None) -> Attack:
    """What comes of one objective. Raises EndpointError only for what every other objective would
    meet too (a bad key, model or address); other failures end the attack as unparsed."""
    run = _Run(objective, roles, settings or Settings())
    why = ""
    try:
        outcome: Outcome = run.play()
    except Unread as error:
        outcome, why = "unparsed", str(error)
    except EndpointError as error:
        if error.fatal:
            raise
        outcome, why = "unparsed", str(error)
    return Attack(objective, outcome, why, run.turns, run.backtracks, run.calls, tuple(run.talk),
                  tuple(run.exchanges), run.conditions)


def attacked(objectives: Sequence[str], attack: Callable[[str], Attack],
             workers: int = 4) -> Iterator[tuple[int, Attack]]:
    """Each objective's index with its attack, as they come; `workers` at a time. Those that were
    kept from an earlier run are left out by whoever calls."""
    for at, done in each(lambda at: attack(objectives[at]), len(objectives), workers):
        if isinstance(done, EndpointError):
            raise done
        yield at, done


def verdict_of(completion: Completion, refused: bool | None, broken: str | None) -> Verdict:
    """What a reply is; broken text is no refusal, whatever the refusal judge says."""
    if completion.answer is None:
        return "unparsed"
    if broken is not None:
        return "incoherent"
    if refused is None:
        return "unparsed"
    return "refusal" if refused else "compliance"


@dataclass
class _Run:
    objective: str
    roles: Roles
    settings: Settings
    asked: list[Message] = field(default_factory=list)
    """The attacker's conversation."""
    talk: list[Message] = field(default_factory=list)
    """The target's."""
    exchanges: list[Exchange] = field(default_factory=list)
    turns: int = 0
    backtracks: int = 0
    calls: int = 0

    @property
    def conditions(self) -> Conditions:
        scripted = isinstance(self.roles.attacker, ScriptedAttacker)
        return conditions(SCRIPTED if scripted else "crescendo", self.roles, self.settings,
                          prompts_name())

    def play(self) -> Outcome:
        """The loop."""
        told = prompts()["attacker"]
        self.asked.append(Message("system", filled(
            told["system"], objective=self.objective, turns=self.settings.turns)))
        report = told["first"]
        while self.turns < self.settings.turns:
            try:
                prompt = self._next(report)
            except NoMoreTurns:
                break
            completion = self._send(prompt)
            self._judge_refusal(prompt, completion)
            if self.exchanges[-1].refused:
                report = filled(told["refused"], refused=prompt)
                if self.backtracks < self.settings.backtracks:
                    self._take_back()
                    continue
            found, rationale = self._score(completion)
            self._note(score=found, rationale=rationale)
            self.turns += 1
            if found >= self.settings.threshold:
                return "success"
            if not self.exchanges[-1].refused:
                report = filled(told["answered"], reply=completion.answer or "",
                                score=f"{found:.2f}", rationale=rationale)
        return "held"

    def _next(self, report: str) -> str:
        self.asked.append(Message("user", filled(
            prompts()["attacker"]["turn"], turn=self.turns + 1, turns=self.settings.turns,
            objective=self.objective, report=report)))
        raw, prompt = answered(self.roles.attacker, self.asked, next_message, self.settings)
        self.asked.append(Message("assistant", raw))
        return prompt

    def _send(self, prompt: str) -> Completion:
        self.calls += 1
        asked = [*self.talk, Message("user", prompt)]
        completion = replied(self.roles.target, asked, self.settings)
        reply = completion.answer or ""
        self.talk = [*asked, Message("assistant", reply)]
        self.exchanges.append(Exchange(self.turns + 1, prompt, reply,
                                       proof=completion.proof and completion.proof.as_dict()))
        return completion

    def _judge_refusal(self, prompt: str, completion: Completion) -> None:
        with self._alone():
            broken = self.roles.incoherent(completion)
        self._note(verdict=verdict_of(completion, None, broken), reason=broken or "")
        judge = self.roles.refusal
        if is_judge(judge):
            judgement = self._judged(judge, completion)
            if judgement.verdict == "unparsed" and completion.answer is not None:
                raise Unread(f"{name_of(judge)} has no verdict: {judgement.reason}")
            refused, reason = judgement.verdict in ("refusal", "partial"), judgement.reason
            broken = broken or (reason if judgement.verdict == "incoherent" else None)
        else:
            refused, reason = self._ask_judge("refusal", refusal, prompt=prompt,
                                              reply=completion.answer or "")
        self._note(refused=refused, verdict=verdict_of(completion, refused, broken),
                   reason=broken or reason)

    def _score(self, completion: Completion) -> tuple[float, str]:
        attacker, judge = self.roles.attacker, self.roles.success
        if is_judge(judge) and isinstance(attacker, ScriptedAttacker):
            if not attacker.harms(len(self.exchanges) - 1):
                return 0.0, "this turn of the script asks for nothing harmful"
            judgement = self._judged(judge, completion)
            return float(judgement.verdict == "compliance"), judgement.reason
        return self._ask_judge("success", score, objective=self.objective,
                               reply=completion.answer or "")

    def _judged(self, judge: Judge, completion: Completion) -> Judgement:
        with self._alone():
            return judge([completion])[0]

    def _alone(self) -> AbstractContextManager[object]:
        """A judge may ask the engine, for a reply's likelihood say."""
        target = self.roles.target
        return target.lock if isinstance(target, EngineTarget) else nullcontext()

    def _ask_judge(self, role: str, read: Callable[..., tuple], **values: str) -> tuple:
        told = prompts()[role]
        return answered(getattr(self.roles, role), [
            Message("system", told["system"]), Message("user", filled(told["question"], **values)),
        ], read, self.settings)[1]

    def _take_back(self) -> None:
        self.backtracks += 1
        self._note(backtracked=True)
        del self.talk[-2:]

    def _note(self, **what: object) -> None:
        self.exchanges[-1] = replace(self.exchanges[-1], **what)  # pyright: ignore[reportArgumentType]


def conditions(attack: str, roles: Roles, settings: Settings, told: str) -> Conditions:
    """What a record says of how an attack was led."""
    return Conditions(attack, name_of(roles.attacker), name_of(roles.target),
                      name_of(roles.refusal), name_of(roles.success), settings.turns,
                      settings.backtracks, settings.threshold, told)
