"""Capability tasks in Chinese."""

from random import Random
from typing import Any

from sternpost.dinghy.rows import Row, Task
from sternpost.dinghy.vocabulary import HELD_OUT, draw, read


def _row(family: str, asked: str, reply: str, answer: str, cluster: str,
         task: Task = "question") -> Row:
    return Row((asked, reply), "capability", "capability", "zh", f"zh:{family}:{cluster}",
               task=task, labels={"answer": answer, "family": family})


def _held_out(key: str) -> bool:
    return draw(f"zh {key}") < HELD_OUT


def fact(rng: Random, held_out: bool) -> Row:
    """The capital of a country."""
    entry = read("zh", "tasks")
    x, y = rng.choice(entry["capitals"])
    asked = rng.choice(entry["fact_held_out" if held_out else "fact_frames"])
    return _row("fact", asked.format(x=x), entry["fact_reply"].format(x=x, y=y), y, x)


def kind(rng: Random, held_out: bool) -> Row:
    """Which of two kinds a thing is of."""
    entry = read("zh", "tasks")
    while True:
        one, other = rng.sample(entry["kind"], 2)
        word = rng.choice(one["members"])
        if _held_out(f"kind {word} {other['name']}") == held_out:
            break
    first, second = rng.sample([one["name"], other["name"]], 2)
    return _row("kind", entry["kind_frame"].format(x=word, k1=first, k2=second),
                entry["kind_reply"].format(x=word, k=one["name"]), one["name"], word)


def add(rng: Random, held_out: bool) -> Row:
    """A sum of two digits."""
    entry = read("zh", "tasks")
    while True:
        a, b = rng.randrange(1, 10), rng.randrange(1, 10)
        if _held_out(f"add {a}+{b}") == held_out:
            break
    slots: dict[str, Any] = {"n1": a, "n2": b, "n": a + b}
    return _row("add", rng.choice(entry["addition_frames"]).format(**slots),
                entry["addition_reply"].format(**slots), str(a + b), f"{a}+{b}")


def copy(rng: Random, held_out: bool) -> Row:
    """Words to be said again."""
    entry = read("zh", "tasks")
    while True:
        words = rng.sample(entry["nouns"], 3)
        if _held_out(f"copy {words}") == held_out:
            break
    slots = dict(zip(("w1", "w2", "w3"), words, strict=True), sep=rng.choice(entry["separators"]))
    said = entry["copy_reply"].format(**slots)
    return _row("copy", rng.choice(entry["copy_frames"]).format(**slots), said, said,
                " ".join(words), "chat")


TASKS = {"fact": fact, "kind": kind, "add": add, "copy": copy}
