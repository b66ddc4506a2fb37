"""The one client for chat services that speak as OpenAI's does: vLLM, Ollama, llama.cpp too.

    messages -> POST {base_url}/chat/completions, temperature 0, seed 0 -> the reply's text

Asked again after 408, 409, 429 and 5xx, a timeout, a lost connection and a body without a reply.
The pause after try i is the service's Retry-After, else drawn evenly from [0, 2^(i - 1)] seconds;
never over a minute. Not covered: streaming, tools, images, services that heed no seed.
"""

import json
import os
import time
from calendar import timegm
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import InitVar, asdict, dataclass, field, replace
from email.utils import parsedate
from queue import SimpleQueue
from random import Random
from threading import Event, Lock, Thread
from typing import Any
from weakref import finalize

import httpx

from sternpost.errors import EndpointError, InputError
from sternpost.types import Chat, Message

OPENAI = "https://api.openai.com/v1"
LONGEST = 60.0  # seconds of pause, at most, whatever a service asks for


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the conversations that a service was asked about."""

    asked: int = 0
    """Conversations: answered, failed, or still waited for."""
    answered: int = 0
    retried: int = 0
    """Tries after a conversation's first."""
    failed: int = 0


class _Passing(Exception):
    """A trouble that may be over at the next try: what it was, and seconds to wait or None."""


@dataclass(eq=False)
class Endpoint:
    """A `Chat` behind HTTP; threads may share it. Its connections close when it is forgotten."""

    model: str
    base_url: str = OPENAI
    key: InitVar[str | None] = None
    """None for a service that wants none. Never shown."""
    timeout: float = 60.0
    """Seconds without a word from the service after which a try is over."""
    tries: int = 5
    pause: Callable[[float], object] = field(default=time.sleep, repr=False)
    counts: Counts = field(default=Counts(), init=False, repr=False)

    def __post_init__(self, key: str | None) -> None:
        self._key = (key or "").strip()
        if not (self._key.isascii() and self._key.isprintable()) or " " in self._key:
            raise InputError("The key, OPENAI_API_KEY (not shown here), has blanks, line ends or "
                             "characters other than ASCII in it. Copy it again.")
        url = _address(self.base_url)
        self.name = f"openai:{self.model}"
        self._url, self._lock = f"{url}/chat/completions", Lock()
        self._client = httpx.Client(
            timeout=self.timeout, limits=httpx.Limits(max_connections=None),
            headers={"Content-Type": "application/json"} | (
                {"Authorization": f"Bearer {self._key}"} if self._key else {}),
            # a proxy cannot reach what runs on this machine
            trust_env=url.host not in ("127.0.0.1", "localhost", "::1"))
        finalize(self, self._client.close)

    def __call__(self, messages: Sequence[Message], max_tokens: int = 256) -> str:
        """The reply's text. Raises EndpointError: at once if refused, else after the last try."""
        self._count("asked")
        # json escapes all that is not ASCII: half a surrogate pair in a prompt is sent too
        body = json.dumps({"model": self.model, "messages": [asdict(m) for m in messages],
                           "max_tokens": max_tokens, "temperature": 0, "seed": 0}).encode()
        # the pauses are the same in every run, yet not the same for two conversations
        jitter, last = Random(body), ""
        for i in range(1, self.tries + 1):
            try:
                return self._ask(body)
            except _Passing as trouble:
                last, wait = trouble.args
            if i < self.tries:
                drawn = jitter.uniform(0.0, min(LONGEST, 2.0 ** (i - 1)))
                self.pause(drawn if wait is None else wait)
                self._count("retried")
        raise self._failed(f"gave no reply. Asked {self.tries} times; what came last: {last}. "
                           "Check that it runs and that OPENAI_BASE_URL is its address, or wait.")

    def _ask(self, body: bytes) -> str:
        try:
            got = self._client.post(self._url, content=body)
        except httpx.TimeoutException:
            raise _Passing(f"nothing within {self.timeout:g} s", None) from None
        except httpx.RequestError as error:
            raise _Passing(self._shown(str(error) or type(error).__name__), None) from None
        said: Any = None
        with suppress(ValueError):
            said = got.json()
        match said:
            case {"choices": [{"message": {"content": str(text)}}, *_]} if got.is_success:
                self._count("answered")
                return text
            case {"error": {"message": str(words)} | str(words)} | {"message": str(words)}:
                pass
            case _:
                words = got.text
        what = f"HTTP {got.status_code}: {self._shown(words)}"
        if got.is_success or got.status_code in (408, 409, 429) or got.status_code >= 500:
            raise _Passing(what, _asked_wait(got.headers.get("Retry-After", "")))
        raise self._failed(f"refused the request. {what}. Check the key (OPENAI_API_KEY), the "
                           "model's name, and OPENAI_BASE_URL (most services want /v1 at its end).",
                           got.status_code)

    def _failed(self, what: str, status: int | None = None) -> EndpointError:
        self._count("failed")
        return EndpointError(f"{self.name} at {self.base_url} {what}", status)

    def _shown(self, text: str) -> str:
        """Its first 200 characters, in one line; a service may repeat the key that it was sent."""
        return " ".join((text.replace(self._key, "***") if self._key else text).split())[:200]

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts = replace(self.counts, **{what: getattr(self.counts, what) + 1})


def chat_from(spec: str) -> Endpoint:
    """The service that `openai:MODEL` names, at OPENAI_BASE_URL with the key OPENAI_API_KEY."""
    kind, _, model = spec.partition(":")
    if kind != "openai" or not model.strip():
        raise InputError(f"A chat service is openai:MODEL; got {spec!r}. Type openai:gpt-4o-mini; "
                         "for another service set OPENAI_BASE_URL, and name a model of its.")
    return Endpoint(model.strip(), os.environ.get("OPENAI_BASE_URL") or OPENAI,
                    os.environ.get("OPENAI_API_KEY"))


def many(chat: Chat, conversations: Sequence[Sequence[Message]], max_tokens: int = 256,
         workers: int = 4) -> Iterator[tuple[int, str | EndpointError]]:
    """Each conversation's index with its reply, or with what went wrong, as they come.

    `workers` are asked at a time. An error that would meet all the others too is raised. When the
    caller stops, no further conversation is begun, and none under way is waited for.
    """
    if workers < 1:
        raise InputError(f"Conversations are asked by at least 1 worker; got {workers}.")
    waiting: SimpleQueue[int | None] = SimpleQueue()
    came: SimpleQueue[tuple[int, str | BaseException]] = SimpleQueue()
    over = Event()

    def work() -> None:
        while (at := waiting.get()) is not None and not over.is_set():
            try:
                came.put((at, chat(conversations[at], max_tokens)))
            except BaseException as error:  # noqa: BLE001 (raised where it is waited for)
                came.put((at, error))

    for at in [*range(len(conversations)), *[None] * workers]:
        waiting.put(at)
    try:
        for _ in range(workers):
            # daemons: after Ctrl-C, concurrent.futures would wait for all tries of those under way
            Thread(target=work, daemon=True).start()
        for _ in conversations:
            at, got = came.get()
            if isinstance(got, str) or (isinstance(got, EndpointError) and not got.fatal):
                yield at, got
            else:
                raise got
    finally:
        over.set()


def _address(text: str) -> httpx.URL:
    with suppress(httpx.InvalidURL):
        url = httpx.URL(text.strip().rstrip("/"))
        if url.scheme in ("http", "https") and url.host and not set("?#@") & set(text):
            return url
    raise InputError("OPENAI_BASE_URL (not shown: it may hold a password) is no address such as "
                     "http://127.0.0.1:8000/v1, without user, password or query in it. The key "
                     "goes into OPENAI_API_KEY.")


def _asked_wait(retry_after: str) -> float | None:
    """Seconds, from a number of them or an HTTP date; None where it is neither."""
    try:
        date = parsedate(retry_after)
        wait = timegm(date) - time.time() if date else float(retry_after)
        return min(max(0.0, wait), LONGEST)
    except (ValueError, OverflowError):
        return None
