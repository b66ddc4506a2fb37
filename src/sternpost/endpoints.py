"""The one client for services that speak as OpenAI's does: vLLM, Ollama, llama.cpp too.

    messages -> POST {base_url}/chat/completions, temperature 0, seed 0 -> the reply's text
    a text   -> POST {base_url}/moderations -> a score in [0, 1] a category

Asked again after 408, 409, 429 and 5xx, a timeout, a lost connection and a body without an answer.
The pause after try i is the service's Retry-After, else drawn evenly from [0, 2^(i - 1)] seconds;
never over a minute. Not covered: streaming, tools, images, services that heed no seed.
"""

import json
import math
import os
import time
from calendar import timegm
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import InitVar, asdict, dataclass, field, replace
from email.utils import parsedate
from queue import SimpleQueue
from random import Random
from threading import Event, Lock, Thread
from typing import Any, TypeVar
from weakref import finalize

import httpx

from sternpost.errors import EndpointError, InputError
from sternpost.types import Chat, Message

OPENAI = "https://api.openai.com/v1"
Answer = TypeVar("Answer")
LONGEST = 60.0  # seconds of pause, at most, whatever a service asks for


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the conversations or texts that a service was asked about."""

    asked: int = 0
    """Answered, failed, or still waited for."""
    answered: int = 0
    retried: int = 0
    """Tries after the first of each."""
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
        self._url, self._lock = url, Lock()
        self._client = httpx.Client(
            timeout=self.timeout, limits=httpx.Limits(max_connections=None),
            headers={"Content-Type": "application/json"} | (
                {"Authorization": f"Bearer {self._key}"} if self._key else {}),
            # a proxy cannot reach what runs on this machine
            trust_env=url.host not in ("127.0.0.1", "localhost", "::1"))
        finalize(self, self._client.close)

    def __call__(self, messages: Sequence[Message], max_tokens: int = 256) -> str:
        """The reply's text. Raises EndpointError: at once if refused, else after the last try."""
        return self.post("chat/completions", {
            "model": self.model, "messages": [asdict(m) for m in messages],
            "max_tokens": max_tokens, "temperature": 0, "seed": 0}, _reply)

    def post(self, path: str, payload: Mapping[str, Any],
             read: Callable[[Any], Answer | None]) -> Answer:
        """What `read` finds in the JSON that comes back; where it finds None, the body is broken
        and is asked for again. Raises EndpointError as above."""
        self._count("asked")
        # json escapes all that is not ASCII: half a surrogate pair in a prompt is sent too
        body = json.dumps(payload).encode()
        # the pauses are the same in every run, yet not the same for two requests
        jitter, last = Random(body), ""
        for i in range(1, self.tries + 1):
            try:
                return self._ask(path, body, read)
            except _Passing as trouble:
                last, wait = trouble.args
            if i < self.tries:
                drawn = jitter.uniform(0.0, min(LONGEST, 2.0 ** (i - 1)))
                self.pause(drawn if wait is None else wait)
                self._count("retried")
        raise self._failed(f"gave no reply. Asked {self.tries} times; what came last: {last}. "
                           "Check that it runs and that OPENAI_BASE_URL is its address, or wait.")

    def _ask(self, path: str, body: bytes, read: Callable[[Any], Answer | None]) -> Answer:
        try:
            got = self._client.post(f"{self._url}/{path}", content=body)
        except httpx.TimeoutException:
            raise _Passing(f"nothing within {self.timeout:g} s", None) from None
        except httpx.RequestError as error:
            raise _Passing(self._shown(str(error) or type(error).__name__), None) from None
        said: Any = None
        with suppress(ValueError):
            said = got.json()
        answer = read(said) if got.is_success else None
        if answer is not None:
            self._count("answered")
            return answer
        match said:
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


@dataclass(frozen=True, slots=True)
class Moderated:
    """What a moderation service says of one text."""

    scores: Mapping[str, float]
    """In [0, 1], by the service's own category names; empty where it only flags."""
    flagged: bool | None
    """Whether the service's own policy is broken; None where it does not say."""

    @property
    def harm(self) -> float:
        """The highest score, in [0, 1]; of a service without scores, 1 where it flags, else 0."""
        return max(self.scores.values(), default=float(bool(self.flagged)))


@dataclass(frozen=True)
class Moderation:
    """A moderation service behind HTTP: asked, retried and counted as the endpoint is."""

    endpoint: Endpoint

    @property
    def name(self) -> str:
        """As in records."""
        return self.endpoint.name

    @property
    def counts(self) -> Counts:
        """What became of the texts."""
        return self.endpoint.counts

    def __call__(self, text: str) -> Moderated:
        """What the service says of a text. Raises EndpointError as an Endpoint does."""
        return self.endpoint.post("moderations", {"model": self.endpoint.model, "input": text},
                                  _moderated)


def chat_from(spec: str) -> Endpoint:
    """The service that `openai:MODEL` names, at OPENAI_BASE_URL with the key OPENAI_API_KEY."""
    return _endpoint(spec, "A chat service", "gpt-4o-mini")


def moderation_from(spec: str) -> Moderation:
    """The moderation service that `openai:MODEL` names; the environment as of `chat_from`."""
    return Moderation(_endpoint(spec, "A moderation service", "omni-moderation-latest"))


def _endpoint(spec: str, what: str, example: str) -> Endpoint:
    kind, _, model = spec.partition(":")
    if kind != "openai" or not model.strip():
        raise InputError(f"{what} is openai:MODEL; got {spec!r}. Type openai:{example}; for "
                         "another service set OPENAI_BASE_URL, and name a model of its.")
    return Endpoint(model.strip(), os.environ.get("OPENAI_BASE_URL") or OPENAI,
                    os.environ.get("OPENAI_API_KEY"))


def many(chat: Chat, conversations: Sequence[Sequence[Message]], max_tokens: int = 256,
         workers: int = 4) -> Iterator[tuple[int, str | EndpointError]]:
    """Each conversation's index with its reply, or with what went wrong, as they come.

    `workers` are asked at a time. An error that would meet all the others too is raised. When the
    caller stops, no further conversation is begun, and none under way is waited for.
    """
    return each(lambda at: chat(conversations[at], max_tokens), len(conversations), workers)


def each(ask: Callable[[int], Answer], n: int,
         workers: int = 4) -> Iterator[tuple[int, Answer | EndpointError]]:
    """Each number below `n` with what `ask` gives for it, or with what went wrong; as `many`."""
    if workers < 1:
        raise InputError(f"A service is asked by at least 1 worker; got {workers}.")
    waiting: SimpleQueue[int | None] = SimpleQueue()
    came: SimpleQueue[tuple[int, Answer | BaseException]] = SimpleQueue()
    over = Event()

    def work() -> None:
        while (at := waiting.get()) is not None and not over.is_set():
            try:
                came.put((at, ask(at)))
            except BaseException as error:  # noqa: BLE001 (raised where it is waited for)
                came.put((at, error))

    for at in [*range(n), *[None] * workers]:
        waiting.put(at)
    try:
        for _ in range(workers):
            # daemons: after Ctrl-C, concurrent.futures would wait for all tries of those under way
            Thread(target=work, daemon=True).start()
        for _ in range(n):
            at, got = came.get()
            if isinstance(got, BaseException) and not (isinstance(got, EndpointError)
                                                       and not got.fatal):
                raise got
            yield at, got
    finally:
        over.set()


def _reply(said: Any) -> str | None:
    """The text of a chat completion; None where there is none."""
    match said:
        case {"choices": [{"message": {"content": str(text)}}, *_]}:
            return text
    return None


def _moderated(said: Any) -> Moderated | None:
    """The only result of a moderation; None where it says nothing, or no score from 0 to 1."""
    match said:
        case {"results": [{**result}]}:
            scores, flagged = result.get("category_scores") or {}, result.get("flagged")
        case _:
            return None
    if not isinstance(scores, dict) or not isinstance(flagged, bool | None):
        return None
    # a category that the model does not know has no score
    told = {name: score for name, score in scores.items() if score is not None}
    if not all(_is_score(score) for score in told.values()) or (not told and flagged is None):
        return None
    return Moderated({name: float(score) for name, score in told.items()}, flagged)


def _is_score(value: Any) -> bool:
    return (isinstance(value, int | float) and not isinstance(value, bool)
            and math.isfinite(value) and 0 <= value <= 1)


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
