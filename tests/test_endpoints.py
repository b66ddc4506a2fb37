"""One client for chat services: it waits, asks again, gives up with a reason, and keeps its key."""

import socket
import threading
import time
from email.utils import formatdate
from functools import partial
from typing import Any

import httpx
import pytest

from loopback import (
    Answer,
    Loopback,
    Script,
    broken_json,
    failing,
    good,
    instead,
    last_user,
    reply,
    slowly,
)
from sternpost.endpoints import LONGEST, OPENAI, Counts, Endpoint, chat_from, many
from sternpost.errors import EndpointError, InputError, SternpostError
from sternpost.types import Chat, Message

KEY = "sk-tiller-7c1f"
HELLO = [Message("system", "Be brief."), Message("user", "Hello?")]


@pytest.fixture(autouse=True)
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading them takes 30 ms a client, and nothing here speaks TLS."""
    monkeypatch.setattr(httpx, "Client", partial(httpx.Client, verify=False))


def at(service: Loopback, pauses: list[float] | None = None, **settings: Any) -> Endpoint:
    """A client of the service that notes its pauses and makes none."""
    noted = [] if pauses is None else pauses
    return Endpoint("m", service.url, KEY, pause=noted.append, **settings)


def talks(n: int) -> list[list[Message]]:
    return [[Message("user", str(i))] for i in range(n)]


# ---- one conversation ----------------------------------------------------------------------------

def test_a_request_is_what_such_services_take():
    with Loopback(good()) as service:
        chat: Chat = at(service)
        assert chat(HELLO, max_tokens=7) == "Hello?"
        assert chat.name == "openai:m"
    asked, = service.requests
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["content-type"] == "application/json"
    assert asked.body == {"model": "m", "max_tokens": 7, "temperature": 0, "seed": 0, "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]}


def test_without_a_key_none_is_sent_and_a_slash_at_the_end_does_no_harm():
    with Loopback(good()) as service:
        assert Endpoint("m", service.url + "/", "")(HELLO) == "Hello?"
    assert service.requests[0].path == "/v1/chat/completions"
    assert "authorization" not in service.requests[0].headers


@pytest.mark.parametrize("text", ["", "Nein — 不行", "half a pair: \ud83d", 'a "quoted"\nline'])
def test_any_text_goes_there_and_back(text):
    with Loopback(good()) as service:
        assert at(service)([Message("user", text)]) == text


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with Loopback(good()) as service:
        assert at(service, tries=1)(HELLO) == "Hello?"


@pytest.mark.parametrize(("script", "retried"), [
    (failing(500, 2, good()), 2), (failing(429, 1, good()), 1), (failing(408, 1, good()), 1),
    (failing(409, 1, good()), 1), (failing(503, 4, good()), 4), (broken_json(1, good()), 1),
    (instead(reply(None), 1, good()), 1), (instead(Answer(text='{"choices": []}'), 1, good()), 1),
    (instead(Answer(text="[]"), 2, good()), 2), (instead(Answer(text="\ufeff{}"), 1, good()), 1),
    (failing(502, 1, broken_json(1, instead(reply(None), 1, good()))), 3)])
def test_a_trouble_that_passes_is_waited_out(script, retried):
    pauses: list[float] = []
    with Loopback(script) as service:
        chat = at(service, pauses)
        assert chat(HELLO) == "Hello?"
    assert chat.counts == Counts(asked=1, answered=1, retried=retried)
    assert len(pauses) == retried == len(service.requests) - 1
    assert len({str(asked.body) for asked in service.requests}) == 1


def test_a_late_reply_is_asked_for_again():
    with Loopback(slowly(30, 1, good())) as service:
        chat, begun = at(service, timeout=0.4), time.monotonic()
        assert chat(HELLO) == "Hello?"
        assert time.monotonic() - begun < 4
        assert chat.counts == Counts(asked=1, answered=1, retried=1)
    with Loopback(slowly(30, 2, good())) as service, pytest.raises(EndpointError,
                                                                   match=r"nothing within 0\.1 s"):
        at(service, timeout=0.1, tries=2)(HELLO)


# ---- pauses --------------------------------------------------------------------------------------

@pytest.mark.parametrize(("header", "low", "high"), [
    ("7", 7, 7), ("0.25", 0.25, 0.25), ("3600", LONGEST, LONGEST), ("inf", LONGEST, LONGEST),
    ("-5", 0, 0), ("in 20 s", 10, 20), ("in 2 h", LONGEST, LONGEST), ("past", 0, 0)])
def test_retry_after_is_obeyed_up_to_a_minute(header, low, high):
    dates = {"in 20 s": 20, "in 2 h": 7200, "past": -100}
    if header in dates:
        header = formatdate(time.time() + dates[header], usegmt=True)
    pauses: list[float] = []
    with Loopback(failing(429, 1, good(), headers={"Retry-After": header})) as service:
        assert at(service, pauses)(HELLO) == "Hello?"
    assert len(pauses) == 1
    assert low <= pauses[0] <= high


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system cannot change its time zone")
def test_a_date_is_of_greenwich_wherever_the_client_is(monkeypatch):
    pauses: list[float] = []
    header = formatdate(time.time() + 20, usegmt=True)
    monkeypatch.setenv("TZ", "XXX+5")
    time.tzset()
    try:
        with Loopback(failing(429, 1, good(), headers={"Retry-After": header})) as service:
            assert at(service, pauses)(HELLO) == "Hello?"
    finally:
        monkeypatch.undo()
        time.tzset()
    assert 10 <= pauses[0] <= 20


@pytest.mark.parametrize("header", ["soon", "", "nan", "Wed, 21 Oct 99999999999 07:28:00 GMT"])
def test_a_retry_after_that_says_nothing_is_passed_over(header):
    pauses: list[float] = []
    with Loopback(failing(503, 1, good(), headers={"Retry-After": header})) as service:
        assert at(service, pauses)(HELLO) == "Hello?"
    assert 0 <= pauses[0] <= 1


def test_pauses_grow_are_drawn_and_are_the_same_every_time():
    pauses: list[float] = []
    with Loopback(failing(500, 10**6, good())) as service:
        chat = at(service, pauses, tries=8)
        for text in [*map(str, range(25)), "0"]:
            with pytest.raises(EndpointError):
                chat([Message("user", text)])
    drawn = [pauses[i:i + 7] for i in range(0, len(pauses), 7)]
    assert len(drawn) == 26
    assert drawn[0] == drawn[-1]
    assert len({row[0] for row in drawn}) == 25
    for i, column in enumerate(zip(*drawn, strict=True)):
        most = min(LONGEST, 2.0 ** i)
        assert most * 0.8 < max(column) <= most
        assert min(column) < most * 0.2


def test_a_pause_is_a_real_one_unless_another_is_given():
    with Loopback(failing(500, 1, good(), headers={"Retry-After": "0.1"})) as service:
        begun = time.monotonic()
        assert Endpoint("m", service.url)(HELLO) == "Hello?"
        assert time.monotonic() - begun >= 0.1


# ---- giving up -----------------------------------------------------------------------------------

def test_after_the_last_try_it_says_how_often_and_what_came_last():
    pauses: list[float] = []
    with Loopback(failing(429, 2, failing(500, 9, good(), "out of\n steam"))) as service:
        chat = at(service, pauses, tries=3)
        with pytest.raises(EndpointError) as caught:
            chat(HELLO)
    said = str(caught.value)
    assert "Asked 3 times; what came last: HTTP 500: out of steam." in said
    assert "openai:m" in said
    assert service.url in said
    assert len(service.requests) == 3
    assert len(pauses) == 2
    assert not caught.value.fatal
    assert chat.counts == Counts(asked=1, retried=2, failed=1)


@pytest.mark.parametrize(("status", "fatal"), [(400, False), (401, True), (403, True), (404, True),
                                               (413, False), (422, False), (301, False)])
def test_a_refused_request_is_not_sent_twice(status, fatal):
    with Loopback(failing(status, 9, good(), "no such " + "x" * 500)) as service:
        chat = at(service)
        with pytest.raises(EndpointError) as caught:
            chat(HELLO)
    said = str(caught.value)
    assert f"HTTP {status}: no such {'x' * 192}. Check" in said
    for word in ("OPENAI_API_KEY", "model's name", "OPENAI_BASE_URL"):
        assert word in said
    assert len(service.requests) == 1
    assert (caught.value.status, caught.value.fatal) == (status, fatal)
    assert chat.counts == Counts(asked=1, failed=1)


@pytest.mark.parametrize(("text", "shown"), [
    ('{"error": "no model"}', "HTTP 400: no model."), ('{"message": "too long"}', "400: too long."),
    ("<p>lost</p>", "HTTP 400: <p>lost</p>."), ("[1]", "HTTP 400: [1].")])
def test_the_services_own_words_are_shown(text, shown):
    with Loopback(lambda body, number: Answer(400, text)) as service, \
            pytest.raises(EndpointError) as caught:
        at(service)(HELLO)
    assert shown in str(caught.value)


def test_a_reply_in_an_errors_body_is_no_reply():
    with Loopback(instead(Answer(500, reply("a ghost").text), 1, good())) as service:
        assert at(service)(HELLO) == "Hello?"


def test_nobody_there():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening: whoever knocks is refused
        chat = Endpoint("m", f"http://127.0.0.1:{taken.getsockname()[1]}/v1", KEY, tries=3,
                        pause=lambda seconds: None)
        with pytest.raises(SternpostError, match=r"Asked 3 times; what came last: .*refused"):
            chat(HELLO)
    assert chat.counts == Counts(asked=1, retried=2, failed=1)


@pytest.mark.parametrize("script", [
    failing(401, 9, good(), f"wrong key {KEY}"), failing(500, 9, good(), f"wrong key {KEY}"),
    lambda body, number: Answer(200, f"<p>{'x' * 190} {KEY}</p>")])
def test_the_key_is_never_shown(script: Script):
    with Loopback(script) as service:
        chat = at(service, tries=2)
        with pytest.raises(EndpointError) as caught:
            chat(HELLO)
    said = str(caught.value) + repr(caught.value) + repr(chat)
    assert not any(KEY[:n] in said for n in range(5, len(KEY) + 1))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# ---- what it is made from ------------------------------------------------------------------------

def test_a_spec_reads_the_environment(monkeypatch):
    with Loopback(good()) as service:
        monkeypatch.setenv("OPENAI_BASE_URL", service.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY + "\n")
        chat = chat_from("openai:llama3:8b")
        assert chat(HELLO) == "Hello?"
    assert (chat.name, chat.model) == ("openai:llama3:8b", "llama3:8b")
    assert service.requests[0].body["model"] == "llama3:8b"
    assert service.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_without_an_environment_it_is_openais_own(monkeypatch):
    for value in (None, ""):
        for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
            monkeypatch.delenv(name, raising=False)
            if value is not None:
                monkeypatch.setenv(name, value)
        assert chat_from("openai:m").base_url == OPENAI


@pytest.mark.parametrize("spec", ["gpt-4o-mini", "openai:", "openai: ", "azure:m", "", "OpenAI:m"])
def test_another_spec_says_what_to_type(spec):
    with pytest.raises(InputError, match=r"openai:MODEL; got .*Type openai:gpt-4o-mini"):
        chat_from(spec)


@pytest.mark.parametrize("url", ["127.0.0.1:8000/v1", "localhost:8000/v1", "ftp://host/v1", "/v1",
                                 "http://me:sesame@host/v1", "http://host/v1?key=sesame",
                                 "http://", "http://host:port/v1", "http://host/#sesame"])
def test_an_address_that_is_none(url):
    with pytest.raises(InputError, match=r"OPENAI_BASE_URL.*127\.0\.0\.1:8000/v1") as caught:
        Endpoint("m", url)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("key", ["sesame\nX-Evil: 1", "sesame open", "sésame", "\x00sesame"])
def test_a_key_that_is_none(key):
    with pytest.raises(InputError, match="OPENAI_API_KEY") as caught:
        Endpoint("m", OPENAI, key)
    assert "same" not in str(caught.value)


# ---- many ----------------------------------------------------------------------------------------

def test_many_come_with_their_index_as_they_are_ready():
    def first_waits(body: dict[str, Any], number: int) -> Answer:
        late = 0.3 if last_user(body) == "0" else 0.0
        return Answer(text=reply(f"re {last_user(body)}").text, delay=late)

    with Loopback(first_waits) as service:
        chat = at(service)
        found = list(many(chat, talks(20), max_tokens=5))
    assert sorted(found) == [(i, f"re {i}") for i in range(20)]
    assert found[-1] == (0, "re 0")
    assert {asked.body["max_tokens"] for asked in service.requests} == {5}
    assert chat.counts == Counts(asked=20, answered=20)


def test_so_many_are_asked_at_a_time_as_there_are_workers():
    class Together:
        name = "together"

        def __init__(self, n: int) -> None:
            self.begun, self.most, self.turn = 0, 0, threading.Lock()
            self.gate = threading.Barrier(n)  # lets nobody through before n have come

        def __call__(self, messages: Any, max_tokens: int = 256) -> str:
            with self.turn:
                self.begun += 1
                self.most = max(self.most, self.begun)
            self.gate.wait(5)
            with self.turn:
                self.begun -= 1
            return "done"

    for workers in (1, 3):
        chat = Together(workers)
        assert len(list(many(chat, talks(9), workers=workers))) == 9
        assert chat.most == workers


def test_one_that_fails_does_not_stop_the_others():
    def two_fail(body: dict[str, Any], number: int) -> Answer:
        return {"3": Answer(400, "too long"), "5": Answer(500)}.get(last_user(body), reply("ok"))

    with Loopback(two_fail) as service:
        chat = at(service, tries=2)
        found = dict(many(chat, talks(8)))
    assert {i for i, got in found.items() if got == "ok"} == {0, 1, 2, 4, 6, 7}
    assert "too long" in str(found[3])
    assert "Asked 2 times" in str(found[5])
    assert chat.counts == Counts(asked=8, answered=6, retried=1, failed=2)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_all_would_meet_stops_all(status):
    script = instead(reply("ok"), 5, failing(status, 999, good(), "no entry"))
    kept = []
    with Loopback(script) as service:
        with pytest.raises(EndpointError, match="no entry"):
            for index, text in many(at(service), talks(500), workers=2):
                kept.append((index, text))
        assert 5 < len(service.requests) < 100
    assert 4 <= len(kept) <= 5  # one may have been under way beside the first refusal
    assert {text for _, text in kept} == {"ok"}


def test_once_the_caller_stops_no_more_are_begun():
    begun, go = [], threading.Event()

    class FirstIsQuick:
        name = "first is quick"

        def __call__(self, messages: Any, max_tokens: int = 256) -> str:
            begun.append(messages[0].content)
            return "quick" if messages[0].content == "0" else str(go.wait(5))

    before = set(threading.enumerate())
    replies = many(FirstIsQuick(), talks(200), workers=3)
    assert next(replies) == (0, "quick")
    workers = set(threading.enumerate()) - before
    replies.close()  # those under way are not waited for: they would hold it for 5 seconds
    assert not go.is_set()
    assert any(worker.is_alive() for worker in workers)
    go.set()
    for worker in workers:
        worker.join(5)
    assert len(begun) <= 4


def test_a_bug_in_a_chat_is_raised_where_it_is_asked():
    class Broken:
        name = "broken"

        def __call__(self, messages: Any, max_tokens: int = 256) -> str:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(many(Broken(), talks(3)))


def test_counts_are_right_under_threads():
    def every_third_fails(body: dict[str, Any], number: int) -> Answer:
        return Answer(503) if number % 3 == 0 else reply("ok")

    with Loopback(every_third_fails) as service:
        chat = at(service, tries=50)
        assert len(list(many(chat, talks(120), workers=16))) == 120
    counts = chat.counts
    assert counts == Counts(asked=120, answered=120, retried=len(service.requests) - 120)
    assert counts.retried == (len(service.requests) + 2) // 3


def test_many_of_none_and_no_worker():
    with Loopback(good()) as service:
        assert list(many(at(service), [])) == []
        with pytest.raises(InputError, match="at least 1 worker; got 0"):
            next(many(at(service), talks(1), workers=0))
    assert not service.requests


def test_connections_are_closed_with_the_client():
    with Loopback(good()) as service:
        chat = at(service)
        assert chat(HELLO) == "Hello?"
        client = chat._client
        del chat
        assert client.is_closed
