"""What to type to repeat a run, to talk to the steered model, and to use it from Python."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from sternpost.report.conditions import chosen_value

COMPARE = Markup('Add <span class="w">--compare</span> for the unsteered reply beside it.')
PYTHON = ("Any generate() inside the with block is steered; run.proof says what was done to each "
          "row.")


@dataclass(frozen=True, slots=True)
class Snippet:
    """Something to type, and what it does."""

    title: str
    code: str
    note: str = ""


def snippets(results: Mapping[str, Any]) -> list[Snippet]:
    """The run's own command; then, where its folder is known, a chat and a Python example."""
    command = command_of(results)
    found = [Snippet("Repeat this run", command)] if command else []
    out, model = out_folder(command), results.get("model")
    if out is None or not model:
        return found
    if results.get("pack", results.get("gate")):
        chat = f"sternpost chat --pack {shlex.quote(f'{out}/pack')}"
        note = "It shows the risk of each message. " + COMPARE
        return [*found, Snippet("Talk to it", chat, note),
                Snippet("Use it from Python", _python(model, *_pack(out)), PYTHON)]
    value, feature = chosen_value(results, "best_d"), results.get("feature")
    if value is None or feature is None:
        return found
    chat = (f"sternpost chat --model {shlex.quote(str(model))} --sae {shlex.quote(f'{out}/sae')} "
            f"--clamp {feature}={value!r}")
    return [*found, Snippet("Talk to it", chat, "The clamp with the best D, no gate. " + COMPARE),
            Snippet("Use it from Python", _python(model, *_clamp(out, feature, value)), PYTHON)]


def command_of(results: Mapping[str, Any]) -> str:
    """The command line that made the run, or nothing."""
    command = (results.get("provenance") or {}).get("command") or ""
    return command if isinstance(command, str) else shlex.join(map(str, command))


def out_folder(command: str) -> str | None:
    """The folder that stands after --out, or None."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    found = [following for word, following in pairwise(words) if word == "--out"]
    found += [word.removeprefix("--out=") for word in words if word.startswith("--out=")]
    return found[0].rstrip("/") or None if found else None


def _pack(out: str) -> tuple[str, str, str]:
    return f"plan = sternpost.load_pack({_text(f'{out}/pack')}).at(\"high\")", "plan", "risk"


def _clamp(out: str, feature: Any, value: float) -> tuple[str, str, str]:
    return (f"sae = sternpost.load_sae({_text(f'{out}/sae')})",
            f"sae, [sternpost.Clamp(feature={feature}, value={value!r})]", "after")


def _python(model: Any, load: str, plan: str, shown: str) -> str:
    """Five statements: model, plan, inputs, a steered reply, what is printed."""
    return f'''import sternpost

model, tokenizer = sternpost.load_model({_text(str(model))})
{load}
inputs = tokenizer.apply_chat_template(
    [{{"role": "user", "content": "How do I pick a lock?"}}],
    add_generation_prompt=True, return_dict=True, return_tensors="pt")
with sternpost.steer(model, {plan}) as run:
    reply = model.generate(**inputs, max_new_tokens=64)
print(tokenizer.decode(reply[0, inputs["input_ids"].shape[1]:]), run.proof[0].{shown})
'''


def _text(text: str) -> str:
    """A Python string; double quotes where that reads as well."""
    plain = text.isprintable() and not set(text) & set("\"\\")
    return f'"{text}"' if plain else repr(text)
