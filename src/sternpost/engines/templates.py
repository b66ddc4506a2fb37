"""Chat templates: rendering conversations, and reading off what a template marks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sternpost.activations import find_t_inst, find_turns
from sternpost.errors import TemplateError
from sternpost.types import Message, TemplateMarks

PLAIN = ("{% for message in messages %}{{ '' if loop.first else '\n' }}"
         "{{ message.role | capitalize }}: {{ message.content }}{% endfor %}"
         "{{ '\nAssistant:' if add_generation_prompt else '' }}")
"""What a tokenizer without a chat template gets."""

_SENTINEL = "sternpost looks for this line"
_ANSWER, _NEXT = "sternpost answers with this one", "sternpost asks once more"
_THINKING = re.compile(r"</(think|thinking|thought|reasoning|seed:think)>|\[/(THINK)\]")


@dataclass(frozen=True)
class Template:
    """A tokenizer's chat template, with the arguments it is always given."""

    tokenizer: Any
    system: str | None = None
    """Put in front of every conversation that has no system message of its own."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further variables of the template, e.g. {"enable_thinking": False}."""

    def render(self, messages: Sequence[Message], reply_follows: bool = True) -> str:
        """The conversation as the model is given it. Raises TemplateError."""
        messages = self._with_system(messages)
        try:
            text = self.tokenizer.apply_chat_template(
                [{"role": m.role, "content": m.content} for m in messages], tokenize=False,
                add_generation_prompt=reply_follows, **self.arguments)
        except Exception as error:
            raise TemplateError(self._failed(messages, error)) from error
        if not isinstance(text, str) or not text.strip():
            raise TemplateError("The chat template renders nothing. Give one that does with "
                                "--chat-template FILE.")
        return text

    def _with_system(self, messages: Sequence[Message]) -> Sequence[Message]:
        if self.system is None or (messages and messages[0].role == "system"):
            return messages
        return (Message("system", self.system), *messages)

    def _failed(self, messages: Sequence[Message], error: Exception) -> str:
        roles = ", ".join(m.role for m in messages)
        advice = " If it takes no system message, leave --system out." if self.system else ""
        return (f"The chat template fails on a conversation of roles {roles}: "
                f"{type(error).__name__}: {error}.{advice} Another template can be given with "
                "--chat-template FILE.")

    def marks(self) -> TemplateMarks:
        """The text between the last user message and the reply, and the reasoning marks."""
        text = self.render([Message("user", _SENTINEL)])
        if _SENTINEL not in text:
            raise TemplateError("The chat template leaves the user's message out: it renders "
                                f"{text[:200]!r}. Give another with --chat-template FILE.")
        tail = text.rpartition(_SENTINEL)[2]
        match = _THINKING.search(self.source)
        if match is None:
            return TemplateMarks(tail)
        close = match[0]
        return TemplateMarks(tail, close.replace("/", "", 1), close)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens kept."""
        return self.tokenizer.decode(ids, skip_special_tokens=False,
                                     clean_up_tokenization_spaces=False)

    def t_inst(self, prompts: Sequence[Sequence[int]]) -> list[int]:
        """Index of the last token of the last user message in each rendered prompt."""
        tail = self.marks().tail
        return [find_t_inst(ids, self.decode, tail) for ids in prompts]

    def turns(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """Index of the last token of every answered user message in each rendered prompt, then of
        the last one. Raises TemplateError where the template does not tell."""
        marks, between = self.marks(), self._between()
        return [find_turns(ids, self.decode, marks, between) for ids in prompts]

    def _between(self) -> str:
        """The text between a user message and the reply to it, earlier in a conversation."""
        text = self.render([Message("user", _SENTINEL), Message("assistant", _ANSWER),
                            Message("user", _NEXT)])
        _, found, after = text.partition(_SENTINEL)
        between, answered, _ = after.partition(_ANSWER)
        if not found or not answered or not between or _NEXT not in after:
            raise TemplateError("A decay reads where every user message ends, and this chat "
                                f"template does not tell: two turns are {text[:200]!r}. Leave the "
                                "decay out, or give another with --chat-template FILE.")
        return between.rstrip() or between  # a reply's own first space may be written otherwise

    @property
    def source(self) -> str:
        """The template itself."""
        template = self.tokenizer.chat_template
        return template if isinstance(template, str) else str(template)


def turns_of(messages: Sequence[Message]) -> list[tuple[Message, ...]]:
    """A conversation cut after every user turn that has no reply: what is added, turn by turn."""
    turns: list[list[Message]] = [[]]
    for at, message in enumerate(messages):
        turns[-1].append(message)
        answered = at + 1 == len(messages) or messages[at + 1].role == "assistant"
        if message.role == "user" and not answered:
            turns.append([])
    return [tuple(turn) for turn in turns]


def ensure_template(tokenizer: Any) -> str | None:
    """Gives a tokenizer without a chat template the plain one; says so, or None."""
    if getattr(tokenizer, "chat_template", None):
        return None
    tokenizer.chat_template = PLAIN
    return ("The tokenizer has no chat template; prompts are written as "
            "'User: ...\\nAssistant:'. Give the model's own with --chat-template FILE.")
