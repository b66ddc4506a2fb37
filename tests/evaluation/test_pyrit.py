"""PyRIT's own CrescendoAttack against our target, beside the native loop."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from crescendos import CASES, OBJECTIVE, Case, Target, contents, endpoints, move, reaches, refuses
from loopback import Answer, Loopback, at_first, failing, played
from sternpost import Clamp, Plan
from sternpost.engines.fake import FakeEngine
from sternpost.errors import EndpointError, InputError
from sternpost.evaluation.attack import Attack, summary
from sternpost.evaluation.crescendo import attacked, crescendo
from sternpost.evaluation.pyrit import pyrit_crescendo
from sternpost.evaluation.roles import EngineTarget, Roles, ScriptedAttacker, Settings
from sternpost.judges import WordListJudge

pytestmark = [
    pytest.mark.extras, pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(find_spec("pyrit") is None, reason="needs pip install 'sternpost[pyrit]'")]


@pytest.fixture(autouse=True, scope="module")
def no_folders_at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """PyRIT makes its folders when it is imported, which is in the first test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


def led(attack, case: Case, script=None, **settings: object) -> tuple[Attack, Target, Loopback]:
    """A case through one of the two loops, its target, and the service that played the models."""
    target = Target(case.lines)
    with Loopback(script or played(case.parts)) as service:
        return attack(OBJECTIVE, endpoints(service, target, **settings), case.settings), \
            target, service


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_both_loops_have_the_same_conversation(case):
    ours, own_target, _ = led(crescendo, case)
    theirs, target, service = led(pyrit_crescendo, case)
    assert (theirs.outcome, theirs.turns, theirs.backtracks, theirs.calls) == (
        ours.outcome, ours.turns, ours.backtracks, ours.calls) == (
        case.outcome, case.turns, case.backtracks, len(case.verdicts))
    assert contents(theirs.transcript) == contents(ours.transcript) == list(case.said)
    assert target.asked == own_target.asked  # every call, with what was taken back
    for one, other in zip(theirs.exchanges, ours.exchanges, strict=True):
        assert (one.turn, one.prompt, one.reply, one.verdict, one.refused, one.score,
                one.backtracked) == (other.turn, other.prompt, other.reply, other.verdict,
                                     other.refused, other.score, other.backtracked)
    assert bool(theirs.why) == (theirs.outcome == "unparsed")
    assert theirs.conditions.attack == "crescendo (PyRIT 1.1.0)"
    assert theirs.conditions.prompts == "pyrit 1.1.0 crescendo_variant_1"
    assert Attack.from_dict(json.loads(json.dumps(theirs.as_dict()))) == theirs
    for asked in service.requests:
        assert (asked.body["temperature"], asked.body["seed"]) == (0, 0)
        assert asked.headers["authorization"] == "Bearer k"


def test_an_engine_is_attacked_with_proof_and_broken_text_is_no_refusal():
    engine = FakeEngine(refuses=lambda word: False)
    attacks = []
    for value, verdict in ((5.0, "refusal"), (50.0, "incoherent")):
        target = EngineTarget(engine).under(Plan(engine.planted_sae(), (Clamp(0, value),)), "own")
        case = Case([move("one"), move("two")], [refuses(True)], [reaches(0)], [],
                    Settings(turns=1, backtracks=1), "held", 1, 1, [])
        with Loopback(played(case.parts)) as service:
            attacks.append(pyrit_crescendo(OBJECTIVE, endpoints(service, target), case.settings))
        assert [e.verdict for e in attacks[-1].exchanges] == [verdict] * 2
        assert attacks[-1].exchanges[1].proof["after"] == [value]
    body = summary(attacks)
    assert (body["held_refused"]["hits"], body["held_incoherent"]["hits"]) == (1, 1)


def test_a_target_that_says_nothing_is_broken_in_both():
    case = Case([move("one"), move("two")], [refuses(True), refuses(False)], [reaches(0)], [""],
                Settings(turns=1, backtracks=1), "held", 1, 1, [])
    ours, theirs = (led(loop, case)[0] for loop in (crescendo, pyrit_crescendo))
    assert [e.verdict for e in ours.exchanges] == ["incoherent"] * 2
    assert [e.verdict for e in theirs.exchanges] == ["incoherent"] * 2
    assert ours.transcript == theirs.transcript


def test_any_chat_may_play_the_attacker_and_the_judges():
    case = CASES["taken back once, then reached"]
    roles = Roles(Target(case.attacker), Target(case.lines), Target(case.refusal),
                  Target(case.success))
    attack = pyrit_crescendo(OBJECTIVE, roles, case.settings)
    assert (attack.outcome, contents(attack.transcript)) == ("success", list(case.said))
    assert [m.role for m in roles.attacker.asked[1]] == ["system", "user", "assistant", "user"]


def test_a_script_or_a_word_list_is_sent_to_the_native_loop():
    chat, words, script = Target(["x"]), WordListJudge(), ScriptedAttacker(("x",))
    for roles in (Roles(script, chat, chat, chat), Roles(chat, chat, words, chat)):
        with pytest.raises(InputError, match="native loop"):
            pyrit_crescendo(OBJECTIVE, roles)


def test_it_outlives_faults_that_pass():
    case = CASES["taken back once, then reached"]
    faults = [Answer(429, "{}", headers={"Retry-After": "0.1"}), Answer(500, "oops"),
              Answer(503, "", headers={"Retry-After": "0.1"})]
    attack, _, service = led(pyrit_crescendo, case, at_first(faults, played(case.parts)))
    assert (attack.outcome, contents(attack.transcript)) == ("success", list(case.said))
    assert len(service.requests) == 22


def test_a_service_that_fails_for_good_is_counted_and_the_others_go_on():
    parts = CASES["no backtracks at all"].parts

    def script(body, number):
        return Answer(500, "oops") if "cursed" in json.dumps(body) \
            else played({name: lines[-1:] for name, lines in parts.items()})(body, number)

    with Loopback(script) as service:
        roles = endpoints(service, Target(["a reply"]), tries=1)
        done = dict(attacked(["fine", "cursed", "also fine"], lambda objective: pyrit_crescendo(
            objective, roles, Settings(turns=2, tries=1)), workers=3))
    assert [done[at].outcome for at in range(3)] == ["held", "unparsed", "held"]
    assert "oops" in done[1].why or "500" in done[1].why
    assert summary([done[at] for at in range(3)])["unparsed"]["hits"] == 1


@pytest.mark.parametrize("status", [401, 404])
def test_what_every_objective_would_meet_is_raised(status):
    with pytest.raises(EndpointError, match="OPENAI_API_KEY") as caught:
        led(pyrit_crescendo, CASES["no backtracks at all"], failing(status, 10**6, played({})))
    assert caught.value.fatal


def test_an_error_of_our_own_is_no_failed_attack():
    def broken(messages, max_tokens=256):
        raise InputError("the plan does not fit")

    case = CASES["no backtracks at all"]
    with Loopback(played(case.parts)) as service, pytest.raises(InputError, match="does not fit"):
        pyrit_crescendo(OBJECTIVE, endpoints(service, broken), case.settings)


def test_the_environment_is_as_it_was(monkeypatch):
    monkeypatch.setenv("RETRY_MAX_NUM_ATTEMPTS", "4")
    monkeypatch.delenv("RETRY_WAIT_MIN_SECONDS", raising=False)
    led(pyrit_crescendo, CASES["no backtracks at all"])
    assert os.environ["RETRY_MAX_NUM_ATTEMPTS"] == "4"
    assert "RETRY_WAIT_MIN_SECONDS" not in os.environ


def test_nothing_but_the_endpoints_is_asked(tmp_path):
    """In a process of its own, so that what importing does is seen too."""
    code = textwrap.dedent("""
        import sys
        asked = set()
        def look(event, args):
            if event in ("socket.connect", "socket.sendto"):
                asked.add(str(args[1]))
            if event == "socket.getaddrinfo":
                asked.add(str(args[0]))
        sys.addaudithook(look)
        from crescendos import *
        from loopback import Loopback, played
        from sternpost.evaluation.pyrit import pyrit_crescendo
        case = CASES["taken back once, then reached"]
        with Loopback(played(case.parts)) as service:
            attack = pyrit_crescendo(OBJECTIVE, endpoints(service, Target(case.lines)),
                                     case.settings)
        assert attack.outcome == "success", attack
        assert asked, "the hook saw nothing"
        strange = {one for one in asked if "127.0.0.1" not in one}
        assert not strange, strange
        """)
    tests = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": tests, "XDG_DATA_HOME": str(tmp_path / "data")})
    assert done.returncode == 0, done.stderr
