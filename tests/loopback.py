"""A chat service on this machine that does as its script says: late, broken and failing replies.

    with Loopback(failing(500, 2, good())) as service:
        chat = Endpoint("m", service.url)

A script says how to answer a request's body, number `number` from 0; scripts wrap one another.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service says to one request."""

    status: int = 200
    text: str = ""
    delay: float = 0.0
    """Seconds before the first word."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    """By name, in lower case."""
    body: dict[str, Any]


Script = Callable[[dict[str, Any], int], Answer]


def reply(content: str | None) -> Answer:
    """A chat completion that says `content`."""
    message = {"role": "assistant", "content": content}
    return Answer(text=json.dumps({"object": "chat.completion", "choices": [
        {"index": 0, "message": message, "finish_reason": "stop"}]}))


def last_user(body: dict[str, Any]) -> str:
    """What the user said last."""
    return [m["content"] for m in body["messages"] if m["role"] == "user"][-1]


def good(text_of: Callable[[dict[str, Any]], str | None] = last_user) -> Script:
    """Replies what `text_of` makes of the body; without one, what the user said."""
    return lambda body, number: reply(text_of(body))


def instead(answer: Answer, times: int, then: Script) -> Script:
    """The first `times` requests get `answer`; `then` has the others, numbered from 0."""
    return lambda body, number: answer if number < times else then(body, number - times)


def failing(status: int, times: int, then: Script, message: str = "not now",
            headers: Mapping[str, str] | None = None) -> Script:
    """The first `times` requests fail with an HTTP status."""
    text = json.dumps({"error": {"message": message}})
    return instead(Answer(status, text, headers=headers or {}), times, then)


def broken_json(times: int, then: Script) -> Script:
    """The first `times` requests get half a body."""
    return instead(Answer(text='{"choices": [{"mess'), times, then)


def slowly(seconds: float, times: int, then: Script) -> Script:
    """The first `times` answers of `then` come so late."""
    return lambda body, number: replace(then(body, number), delay=seconds if number < times else 0.)


def played(parts: Mapping[str, Sequence[str]]) -> Script:
    """Each model named in a body says its lines in order, one a request; the last for ever."""
    said: Counter[str] = Counter()
    turn = Lock()

    def answer(body: dict[str, Any], number: int) -> Answer:
        with turn:
            lines = parts[body["model"]]
            at = min(said[body["model"]], len(lines) - 1)
            said[body["model"]] += 1
        return reply(lines[at])

    return answer


def at_first(faults: Sequence[Answer], then: Script) -> Script:
    """Every new body meets a fault the first time, the faults in turn; `then` has it afterwards."""
    seen: list[str] = []
    turn = Lock()

    def answer(body: dict[str, Any], number: int) -> Answer:
        key = json.dumps(body, sort_keys=True)
        with turn:
            new = key not in seen
            seen.extend([key] * new)
            fault = faults[(len(seen) - 1) % len(faults)]
        return fault if new else then(body, number)

    return answer


class Loopback(ThreadingHTTPServer):
    """Serves `script` on a free port of 127.0.0.1 for as long as it is entered."""

    daemon_threads = False  # so that leaving waits for them, and no socket stays open
    request_queue_size = 64

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script, self.over, self.turn = script, Event(), Lock()
        self.requests: list[Asked] = []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self) -> "Loopback":
        self.thread = Thread(target=self.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.shutdown()
        self.thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Loopback  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.turn:
            number = len(self.server.requests)
            named = {name.lower(): value for name, value in self.headers.items()}
            self.server.requests.append(Asked(self.path, named, body))
        answer = self.server.script(body, number)
        self.server.over.wait(answer.delay)
        data = answer.text.encode()
        with suppress(ConnectionError):  # who asked may have gone
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json",
                                "Content-Length": str(len(data)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests look at `requests`."""
