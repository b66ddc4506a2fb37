"""A part of a prompt file, the same for the same seed."""

from collections.abc import Sequence

from sternpost.errors import InputError
from sternpost.files import sha256_text
from sternpost.types import LabelledPrompt


def sample(prompts: Sequence[LabelledPrompt], limit: int | None,
           seed: int) -> tuple[LabelledPrompt, ...]:
    """At most `limit` prompts, drawn by `seed`, in file order; all of them for None.

    The draw does not depend on the order, and a larger limit keeps what a smaller one drew.
    """
    if limit is None:
        return tuple(prompts)
    if limit < 1:
        raise InputError(f"A limit is a number of prompts from 1 up; got {limit}. Type --limit "
                         "100, or leave it out to take all.")
    drawn = sorted(range(len(prompts)), key=lambda i: seeded(seed, prompts[i]))[:limit]
    return tuple(prompts[i] for i in sorted(drawn))


def seeded(seed: int, prompt: LabelledPrompt) -> str:
    """A random-looking sort key that depends on the seed and the prompt's text alone."""
    return sha256_text(f"{seed} {prompt.request.sha256}")
