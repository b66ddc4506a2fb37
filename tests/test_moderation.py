"""Moderation services: asked by the one client, retried, counted; the worst category is P(harm)."""

import json
import math
from functools import partial
from typing import Any

import httpx
import pytest

from loopback import Answer, Loopback, Script, broken_json, failing, instead
from sternpost.endpoints import Counts, Endpoint, Moderated, Moderation, moderation_from
from sternpost.errors import EndpointError, InputError
from sternpost.judges.moderation import ModerationClassifier
from sternpost.types import Message, PromptClassifier, Request

KEY = "sk-tiller-7c1f"


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading them takes 30 ms a client, and nothing here speaks TLS."""
    monkeypatch.setattr(httpx, "Client", partial(httpx.Client, verify=False))


def at(service: Loopback, **settings: Any) -> Moderation:
    return Moderation(Endpoint("guard-1", service.url, KEY, pause=lambda seconds: None, **settings))


def result(**said: Any) -> Answer:
    return Answer(text=json.dumps({"id": "modr-1", "model": "guard-1", "results": [said]}))


def scored(body: dict[str, Any], number: int = 0) -> Answer:
    """Harm as the text says: "0.25 ..." is 0.25 of violence, and 0.1 of all else."""
    harm = float(body["input"].split()[0])
    return result(flagged=harm > 0.5, categories={"violence": harm > 0.5, "hate": False},
                  category_scores={"hate": min(harm, 0.1), "violence": harm})


def ask(text: str) -> Request:
    return Request((Message("user", text),), text)


# ---- one text ------------------------------------------------------------------------------------

def test_a_request_is_what_such_services_take():
    with Loopback(scored) as service:
        said = at(service)("0.75 of it")
    assert said == Moderated({"hate": 0.1, "violence": 0.75}, True)
    assert said.harm == 0.75
    asked, = service.requests
    assert asked.path == "/v1/moderations"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.body == {"model": "guard-1", "input": "0.75 of it"}


@pytest.mark.parametrize(("said", "harm"), [
    ({"flagged": True}, 1.0), ({"flagged": False}, 0.0),
    ({"flagged": True, "category_scores": {}}, 1.0),
    ({"flagged": False, "category_scores": None}, 0.0), ({"category_scores": {"x": 0}}, 0.0),
    ({"flagged": True, "category_scores": {"a": 0.2, "b": 0.3}}, 0.3),
    ({"flagged": False, "category_scores": {"a": 0.2, "new": None}}, 0.2),
    ({"flagged": True, "category_scores": {"new": None}}, 1.0)])
def test_the_worst_score_counts_and_without_scores_the_flag(said, harm):
    with Loopback(lambda body, number: result(**said)) as service:
        assert at(service, tries=1)("a").harm == harm


@pytest.mark.parametrize("broken", [
    Answer(text="{}"), Answer(text='{"results": []}'), Answer(text="[]"), Answer(text="<p>"),
    Answer(text='{"results": [3]}'), Answer(text='{"results": [{}]}'), Answer(text="null"),
    Answer(text='{"results": [{"flagged": true}, {"flagged": false}]}'),
    result(flagged="yes"), result(category_scores={"a": "0.9"}), result(category_scores=[0.9]),
    result(category_scores={"a": True}), result(category_scores={"a": 1.5, "b": 0.2}),
    result(category_scores={"a": -0.1}), result(category_scores={"a": math.nan, "b": 0.1}),
    result(category_scores={}), result(categories={"a": True}),
    Answer(500, result(flagged=True).text)])
def test_a_broken_body_is_asked_for_again_and_counted(broken):
    with Loopback(instead(broken, 2, scored)) as service:
        moderation = at(service)
        assert moderation("0.5").harm == 0.5
    assert moderation.counts == Counts(asked=1, answered=1, retried=2)
    assert len({str(asked.body) for asked in service.requests}) == 1


@pytest.mark.parametrize("script", [broken_json(1, scored), failing(429, 1, scored)])
def test_troubles_that_pass_are_those_of_every_service(script: Script):
    with Loopback(script) as service:
        moderation = at(service)
        assert moderation("0.5").harm == 0.5
    assert moderation.counts.retried == 1


def test_a_chat_reply_is_no_moderation_and_the_other_way_round():
    chat = Answer(text='{"choices": [{"message": {"role": "assistant", "content": "safe"}}]}')
    with Loopback(lambda body, number: chat) as service, pytest.raises(EndpointError,
                                                                       match="Asked 2 times"):
        at(service, tries=2)("a")
    with Loopback(lambda body, number: result(flagged=True)) as service, \
            pytest.raises(EndpointError, match="Asked 2 times"):
        at(service, tries=2).endpoint([Message("user", "a")])


# ---- requests ------------------------------------------------------------------------------------

def test_every_request_has_its_own_score_in_order():
    with Loopback(scored) as service:
        classifier: PromptClassifier = ModerationClassifier(at(service), workers=3)
        requests = [ask(f"{n / 40} a") for n in range(40)]
        assert classifier(requests) == [n / 40 for n in range(40)]
        assert classifier([]) == []
    assert classifier.name == "openai:guard-1"
    assert len(service.requests) == 40


def test_a_conversation_is_asked_about_as_a_whole():
    turns = (Message("system", "be kind"), Message("user", "0.5 one"), Message("user", "two"),
             Message("assistant", "yes"), Message("user", "three"))
    with Loopback(scored) as service:
        ModerationClassifier(at(service))([Request(turns, "canonical json")])
    assert service.requests[0].body["input"] == "0.5 one\n\ntwo\n\nyes\n\nthree"


def test_what_gets_no_answer_is_nan_and_counted_and_the_others_are_kept():
    def some_fail(body: dict[str, Any], number: int) -> Answer:
        return {"0.1": Answer(400, "too long"), "0.3": Answer(text="{}")}.get(body["input"]) or \
            scored(body)

    with Loopback(some_fail) as service:
        classifier = ModerationClassifier(at(service, tries=2))
        harm = classifier([ask(f"{n / 10}") for n in range(5)])
        said = classifier.moderated([ask("0.1"), ask("0.2")])
    assert [n for n in range(5) if math.isnan(harm[n])] == [1, 3]
    assert [harm[n] for n in (0, 2, 4)] == [0.0, 0.2, 0.4]
    assert classifier.counts == Counts(asked=7, answered=4, retried=1, failed=3)
    assert "too long" in str(said[0])
    assert set(said[1].scores) == {"hate", "violence"}


def test_a_wrong_key_stops_all():
    with Loopback(failing(401, 999, scored, "no entry")) as service:
        with pytest.raises(EndpointError, match="no entry"):
            ModerationClassifier(at(service))([ask("0.1")] * 200)
        assert len(service.requests) < 50


def test_a_spec_reads_the_environment(monkeypatch):
    with Loopback(scored) as service:
        monkeypatch.setenv("OPENAI_BASE_URL", service.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        assert moderation_from("openai:guard-1")("0.5").harm == 0.5
    assert service.requests[0].headers["authorization"] == f"Bearer {KEY}"
    with pytest.raises(InputError, match="A moderation service is openai:MODEL"):
        moderation_from("guard-1")
