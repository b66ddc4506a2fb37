"""How tasks of lm-evaluation-harness are run. Light: lm-eval is not imported."""

import os
from dataclasses import dataclass
from pathlib import Path

from sternpost.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """How tasks are run."""

    num_fewshot: int | None = None
    """Examples before each document; None: the task's own number."""
    limit: int | None = None
    """Documents a task at most, of MMLU a subject; None: all."""
    batch_size: int = 1
    """Rows a forward. Another size may move the last digits."""
    max_gen_toks: int | None = None
    """Tokens a reply at most; None: the task's own number, else lm-eval's 256."""
    max_length: int | None = None
    """Tokens the model is given at most; None: as many as it takes."""
    apply_chat_template: bool = True
    """Whether prompts are put in the chat template, where positions and gates are found."""
    fewshot_as_multiturn: bool = True
    """Whether examples are turns of their own, in the template."""
    data_dir: str | Path | None = None
    """Folder of local benchmark files; None: STERNPOST_DATA."""
    hub: bool = False
    """Whether lm-eval's own tasks and data sets may be fetched from the Hub."""
    unsafe_code: bool = False
    """Whether tasks that run the model's code on this machine may."""

    def __post_init__(self) -> None:
        for name, least in (("num_fewshot", 0), ("limit", 1), ("batch_size", 1),
                            ("max_gen_toks", 1), ("max_length", 2)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)
                                      or value < least):
                raise InputError(f"{name} is a whole number from {least} up; got {value!r}.")

    @property
    def folder(self) -> Path | None:
        """Where local benchmark files lie."""
        named = self.data_dir or os.environ.get("STERNPOST_DATA")
        return None if named is None else Path(named).expanduser()
