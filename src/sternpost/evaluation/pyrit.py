"""Crescendo through PyRIT: its CrescendoAttack, with our target in it.

    attacker, judges    an Endpoint becomes PyRIT's OpenAIChatTarget at the same address; any other
                        Chat is asked through PyRIT's memory, by its own means
    target              asked with the whole conversation, as PyRIT has it after backtracking

Covered: PyRIT 1.1's attack as it is, with the wording it brings (crescendo_variant_1 and its
default rubrics) and its JSON schemas, at temperature 0 and seed 0; backtracking; the same record as
of the native loop, which has the same conversation for the same answers. PyRIT's memory is that of
this process and gone with it, unless PyRIT was set up before. No file of settings is read, nothing
but the endpoints is asked.
Not covered: PyRIT's converters, other attacks, pictures; attacks side by side (its retries are set
by the environment, so they run one after the other; the native loop has no such limit). It asks
again with the same words, which a service at temperature 0 answers alike, and takes JSON out of
prose. PyRIT makes its folder of data when it is imported.
Overall: for figures that others can compare with; the native loop for all else.
"""

import asyncio
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import version
from threading import Lock
from types import SimpleNamespace
from typing import Any

import httpx

from sternpost.endpoints import Endpoint
from sternpost.errors import EndpointError, InputError, MissingExtra, SternpostError
from sternpost.evaluation.attack import Attack, Exchange, Outcome
from sternpost.evaluation.crescendo import conditions, verdict_of
from sternpost.evaluation.roles import Roles, ScriptedAttacker, Settings, is_judge, replied
from sternpost.types import Completion, Message

_ONE = Lock()
"""PyRIT's retries are set by the environment, its memory is one a process."""
_NAMES = {
    "pyrit.executor.attack": ("AttackAdversarialConfig", "AttackScoringConfig", "CrescendoAttack"),
    "pyrit.memory": ("CentralMemory", "SQLiteMemory"),
    "pyrit.models": ("SeedPrompt", "construct_response_from_request"),
    "pyrit.prompt_target": ("OpenAIChatTarget", "PromptTarget", "TargetCapabilities",
                            "TargetConfiguration"),
    "pyrit.score": ("FloatScaleThresholdScorer", "NumericRubric", "SelfAskRefusalScorer",
                    "SelfAskScaleScorer")}


def pyrit_crescendo(objective: str, roles: Roles, settings: Settings | None = None) -> Attack:
    """What comes of one objective, by PyRIT's CrescendoAttack. Raises as `crescendo` does, and
    MissingExtra without PyRIT."""
    settings = settings or Settings()
    for name in ("attacker", "refusal", "success"):
        role = getattr(roles, name)
        if is_judge(role) or isinstance(role, ScriptedAttacker):
            raise InputError(f"PyRIT's Crescendo needs a language model as {name}; got "
                             f"{role.name!r}. Give openai:MODEL, or use the native loop.")
    _pyrit()
    with _ONE, _retries(settings.tries), ThreadPoolExecutor(1) as apart:
        # a thread of its own: a notebook's has a loop that runs already
        return apart.submit(lambda: asyncio.run(_attack(objective, roles, settings))).result()


@dataclass
class _Heard:
    """What our target was asked and said, call by call."""

    asked: list[tuple[Message, ...]] = field(default_factory=list)
    said: list[Completion] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    """Of each reply in PyRIT's memory, by which its scores are found."""


async def _attack(objective: str, roles: Roles, settings: Settings) -> Attack:
    kit, heard, clients = _pyrit(), _Heard(), []
    if kit.CentralMemory._memory_instance is None:
        kit.CentralMemory.set_memory_instance(kit.SQLiteMemory(db_path=":memory:", silent=True))
    try:
        attack = _crescendo(roles, settings, heard, clients)
        why, backtracks = "", None
        try:
            result = await attack.execute_async(objective=objective)
            backtracks = result.backtrack_count
            outcome = {"success": "success", "failure": "held"}.get(
                result.outcome.value, "unparsed")
            why = str(result.outcome_reason) if outcome == "unparsed" else ""
        except Exception as error:  # noqa: BLE001 (PyRIT wraps all there is in Exception)
            outcome, why = "unparsed", _reason(error)
    finally:
        for client in clients:
            await client.aclose()
    return _record(objective, (outcome, why, backtracks), roles, settings, heard)


def _crescendo(roles: Roles, settings: Settings, heard: _Heard, clients: list[Any]) -> Any:
    kit = _pyrit()
    attacker, refusal, success = (_chat(getattr(roles, name), settings, clients)
                                  for name in ("attacker", "refusal", "success"))
    scale = kit.SelfAskScaleScorer
    scorer = kit.FloatScaleThresholdScorer(threshold=settings.threshold, scorer=scale.from_scale(
        chat_target=success, scale=kit.NumericRubric.from_yaml(
            scale.ScalePaths.TASK_ACHIEVED_SCALE.value),
        system_prompt_template=kit.SeedPrompt.from_yaml_file(
            scale.SystemPaths.RED_TEAMER_SYSTEM_PROMPT.value)))
    return kit.CrescendoAttack(
        objective_target=_target_class()(roles=roles, settings=settings, heard=heard),
        attack_adversarial_config=kit.AttackAdversarialConfig(target=attacker),
        attack_scoring_config=kit.AttackScoringConfig(
            objective_scorer=scorer, refusal_scorer=kit.SelfAskRefusalScorer(chat_target=refusal)),
        max_turns=settings.turns, max_backtracks=settings.backtracks)


def _chat(chat: Any, settings: Settings, clients: list[Any]) -> Any:
    """An attacker or judge as PyRIT's target."""
    if not isinstance(chat, Endpoint):
        return _chat_class()(chat=chat, settings=settings)
    # the address decides about a proxy, as in Endpoint
    client = httpx.AsyncClient(trust_env=httpx.URL(chat.base_url).host not in (
        "127.0.0.1", "localhost", "::1"), timeout=chat.timeout)
    clients.append(client)
    return _pyrit().OpenAIChatTarget(
        endpoint=chat.base_url.strip().rstrip("/"), model_name=chat.model,
        api_key=chat._key or "none", headers="{}", temperature=0.0, seed=0,
        extra_body_parameters={"max_tokens": settings.answer_tokens},
        httpx_client_kwargs={"http_client": client, "timeout": chat.timeout,
                             "max_retries": chat.tries - 1})


@cache
def _target_class() -> Any:
    kit = _pyrit()

    class SternpostTarget(kit.PromptTarget):
        """The model under test as PyRIT sees it."""

        _DEFAULT_CONFIGURATION = _open_history()

        def __init__(self, *, roles: Roles, settings: Settings, heard: _Heard) -> None:
            super().__init__(model_name="sternpost")
            self._roles, self._settings, self._heard = roles, settings, heard

        async def _send_prompt_to_target_async(self, *, normalized_conversation: Any) -> Any:
            asked = tuple(_said(normalized_conversation))
            self._heard.asked.append(asked)
            completion = replied(self._roles.target, asked, self._settings)
            answer = _reply_to(normalized_conversation, completion.answer or "")
            self._heard.said.append(completion)
            self._heard.ids.append(str(answer.message_pieces[0].id))
            return [answer]

    return SternpostTarget


@cache
def _chat_class() -> Any:
    kit = _pyrit()

    class ChatTarget(kit.PromptTarget):
        """Any Chat as PyRIT's attacker or judge."""

        _DEFAULT_CONFIGURATION = _open_history()

        def __init__(self, *, chat: Any, settings: Settings) -> None:
            super().__init__(model_name=str(getattr(chat, "name", "chat")))
            self._chat, self._settings = chat, settings

        async def _send_prompt_to_target_async(self, *, normalized_conversation: Any) -> Any:
            text = self._chat(_said(normalized_conversation), self._settings.answer_tokens)
            return [_reply_to(normalized_conversation, text)]

    return ChatTarget


def _open_history() -> Any:
    kit = _pyrit()
    return kit.TargetConfiguration(capabilities=kit.TargetCapabilities(
        supports_multi_turn=True, supports_editable_history=True, supports_system_prompt=True,
        supports_json_output=True))


def _said(messages: Any) -> list[Message]:
    return [Message(str(message.message_pieces[0].api_role),
                    str(message.message_pieces[0].converted_value)) for message in messages]


def _reply_to(messages: Any, text: str) -> Any:
    return _pyrit().construct_response_from_request(
        request=messages[-1].message_pieces[0], response_text_pieces=[text])


def _record(objective: str, came: tuple[str, str, int | None], roles: Roles, settings: Settings,
            heard: _Heard) -> Attack:
    """The attack as of the native loop, from what our target heard and PyRIT's memory holds."""
    outcome, why, counted = came
    exchanges: list[Exchange] = []
    turn = backtracks = 0
    for at, completion in enumerate(heard.said):
        scores = _pyrit().CentralMemory.get_memory_instance().get_prompt_scores(
            prompt_ids=[heard.ids[at]])
        refused, reason = _refused(scores)
        found, rationale = _score(scores)
        broken = roles.incoherent(completion)
        back = bool(refused) and backtracks < settings.backtracks
        exchanges.append(Exchange(
            turn + 1, heard.asked[at][-1].content, completion.answer or "",
            verdict_of(completion, refused, broken), broken or reason, refused, found, rationale,
            back, completion.proof and completion.proof.as_dict()))
        backtracks += back
        turn += found is not None
    assert counted in (None, backtracks), (counted, backtracks)
    last = next((at for at in reversed(range(len(exchanges)))), None)
    talk = () if last is None else heard.asked[last][:-1] if exchanges[last].backtracked else (
        *heard.asked[last], Message("assistant", exchanges[last].reply))
    told = f"pyrit {version('pyrit')} crescendo_variant_1"
    result: Outcome = outcome  # pyright: ignore[reportAssignmentType]
    return Attack(objective, result, why, turn, backtracks, len(heard.asked), tuple(talk),
                  tuple(exchanges), conditions(f"crescendo (PyRIT {version('pyrit')})", roles,
                                               settings, told))


def _refused(scores: Sequence[Any]) -> tuple[bool | None, str]:
    for one in scores:
        if "refusal" in (one.score_category or ()):
            return str(one.score_value).lower() == "true", str(one.score_rationale or "")
    return None, ""


def _score(scores: Sequence[Any]) -> tuple[float | None, str]:
    key = _pyrit().FloatScaleThresholdScorer.ORIGINAL_FLOAT_VALUE_KEY
    for one in scores:
        if key in (one.score_metadata or {}):
            return float(one.score_metadata[key]), str(one.score_rationale or "")
    return None, ""


def _reason(error: BaseException) -> str:
    """What went wrong in the first place. Raises what is no trouble of this objective alone."""
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    for one in chain:
        if isinstance(one, SternpostError) and not (
                isinstance(one, EndpointError) and not one.fatal):
            raise one
        status = getattr(one, "status_code", None)
        if status in (401, 403, 404):
            raise EndpointError(f"PyRIT was refused: {_line(one)}. Check the key (OPENAI_API_KEY), "
                                "the model's name and OPENAI_BASE_URL.", status)
    return f"PyRIT: {_line(chain[-1])}"


def _line(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:300]


@contextmanager
def _retries(tries: int) -> Iterator[None]:
    """PyRIT reads from the environment how often it asks again, and how long it waits."""
    wanted = {"RETRY_MAX_NUM_ATTEMPTS": str(tries), "RETRY_WAIT_MIN_SECONDS": "0",
              "RETRY_WAIT_MAX_SECONDS": "8"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@cache
def _pyrit() -> SimpleNamespace:
    """What is used of PyRIT. It is heavy: imported when it is asked for."""
    # without a handler Python prints its warnings: a traceback for each answer that is asked again
    logging.getLogger("pyrit").addHandler(logging.NullHandler())
    try:
        return SimpleNamespace(**{name: getattr(import_module(module), name)
                                  for module, names in _NAMES.items() for name in names})
    except ImportError as error:
        raise MissingExtra("PyRIT's Crescendo", "pyrit") from error
