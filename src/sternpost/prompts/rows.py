"""One row of a table understood: its text or its conversation, and what is known of it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

from sternpost.errors import PromptFileError
from sternpost.files import canonical_json
from sternpost.prompts.tables import Row
from sternpost.types import SPLITS, Kind, LabelledPrompt, Message, Request, Split

PROMPT_COLUMNS = ("prompt", "goal", "Goal", "Behavior", "question", "instruction")
LABELS = ("category", "language", "harm_kind", "task", "answer", "group", "source",
          "viewpoint_pair", "family", "cluster", "split")
HARM_KINDS = ("harmful", "offensive", "sensitive", "none")
KINDS = get_args(Kind)
_ROLES = ("system", "user", "assistant")
_EXAMPLE = '[{"role": "user", "content": "..."}]'


def labelled(path: str, row: Row, column: str, kind: Kind,
             with_messages: bool = True) -> LabelledPrompt:
    """The row as a prompt of `kind`: its `messages` where it has any and they are wanted, else
    the text under `column`."""
    place = f"{path}, {row.where}"
    labels = {name: _text(row.cells.get(name), place, name) for name in LABELS}
    _check(labels, kind, place)
    split = cast(Split | None, labels.pop("split"))
    if with_messages and "messages" in row.cells:
        request = conversation(_messages(row.cells["messages"], place, kind))
    else:
        request = _request(row.cells, place, column, kind)
    harmful = _turns(row.cells.get("harmful"), request, place)
    return LabelledPrompt(request, kind, split=split, harmful=harmful, **labels)


def _turns(value: Any, request: Request, place: str) -> tuple[int, ...]:
    """User turns of a script, as a list or as text such as "2,3"."""
    text = _text(value if not isinstance(value, list) else ",".join(map(str, value)), place,
                 "harmful")
    if text is None:
        return ()
    n = sum(m.role == "user" for m in request.messages)
    turns = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) < n for part in turns):
        raise PromptFileError(f"{place}: harmful is {text!r}. It names user turns, counted from 0, "
                              f"of which this row has {n}, e.g. 0 or \"2,3\".")
    return tuple(map(int, turns))


def _check(labels: Mapping[str, str | None], kind: Kind, place: str) -> None:
    for name, known in (("harm_kind", HARM_KINDS), ("split", SPLITS)):
        if labels[name] is not None and labels[name] not in known:
            raise PromptFileError(f"{place}: {name} is {labels[name]!r}. It is one of "
                                  f"{', '.join(known)}, or empty.")
    if kind == "capability" and labels["answer"] is None:
        raise PromptFileError(f"{place}: no answer. A capability prompt needs its right reply in "
                              "the column answer: a number, a letter or a phrase.")


def _request(cells: Mapping[str, Any], place: str, column: str, kind: Kind) -> Request:
    text = _text(cells.get(column), place, column)
    if text is None:
        raise PromptFileError(f"{place}: the cell under {column} is blank. Write a prompt there "
                              "or take the row out.")
    if kind != "corpus":
        return Request((Message("user", text),), text)
    response = _text(cells.get("response"), place, "response")
    if column != "text" and response is not None:
        return conversation((Message("user", text), Message("assistant", response)))
    turns = (Message("user", text),) if column in PROMPT_COLUMNS else ()
    return Request(turns, text)


def conversation(messages: Sequence[Message]) -> Request:
    """A request of these turns, known by their canonical JSON."""
    turns = [{"role": m.role, "content": m.content} for m in messages]
    return Request(tuple(messages), canonical_json(turns))


def _messages(cell: Any, place: str, kind: Kind) -> tuple[Message, ...]:
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError) as error:
            raise _malformed(place, f"no JSON ({error})") from error
    if not isinstance(cell, list) or not cell:
        raise _malformed(place, "no list with a turn in it")
    messages = tuple(_message(turn, place, i) for i, turn in enumerate(cell, start=1))
    last = ("user", "assistant") if kind == "corpus" else ("user",)
    if messages[-1].role not in last:
        raise _malformed(place, f"the last turn is of the {messages[-1].role}, not of the "
                                f"{' or '.join(last)}")
    return messages


def _message(turn: Any, place: str, number: int) -> Message:
    if not isinstance(turn, Mapping):
        raise _malformed(place, f"turn {number} is no object")
    role, content = turn.get("role"), turn.get("content")
    if role not in _ROLES:
        raise _malformed(place, f"turn {number} has the role {role!r}, not one of "
                                f"{', '.join(_ROLES)}")
    if not isinstance(content, str) or not content.strip():
        raise _malformed(place, f"turn {number} has no text as its content")
    return Message(role, content)


def _malformed(place: str, what: str) -> PromptFileError:
    return PromptFileError(f"{place}: messages: {what}. Write {_EXAMPLE}, in a CSV cell the same "
                           "as one JSON string.")


def _text(value: Any, place: str, column: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a whole number that stood beside empty cells
    if isinstance(value, str | int | float):
        return str(value).strip()
    raise PromptFileError(f"{place}: {column} holds a {type(value).__name__}. Write text there; "
                          f"a conversation goes into the column messages: {_EXAMPLE}")
