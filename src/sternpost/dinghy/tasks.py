"""Capability tasks: small questions with one right answer.

`fact` and `translate` are recall under new wordings; the other families are asked about words and
numbers in combinations that training never has.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from sternpost.dinghy.rows import Row, Task
from sternpost.dinghy.vocabulary import HELD_OUT, draw, read

Maker = Callable[[Random, bool], Row]


def _row(family: str, asked: str, reply: str, answer: str, cluster: str,
         task: Task = "question") -> Row:
    return Row((asked, reply), "capability", "capability", "en", f"{family}:{cluster}", task=task,
               labels={"answer": answer, "family": family})


def _fresh(rng: Random, held_out: bool, make: Callable[[], Any], key: Callable[[Any], str]) -> Any:
    """The first thing made that lies on the wanted side of the held-out split."""
    while True:
        made = make()
        if (draw(key(made)) < HELD_OUT) == held_out:
            return made


def _ask(rng: Random, entry: dict[str, Any], held_out: bool, prefix: str = "") -> str:
    return rng.choice(entry[f"{prefix}held_out_ask" if held_out else f"{prefix}ask"])


def _the(word: str, kind: dict[str, Any]) -> str:
    if not kind["needs_article"]:
        return word
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def fact(rng: Random, held_out: bool) -> Row:
    """A fact that training states, asked for in other words."""
    relations = [r for r in read("en", "facts")["relation"] if r["name"] != "translate"]
    relation = rng.choice(relations)
    x, y = rng.choice(relation["pairs"])
    said = relation["say"].format(x=x, y=y)
    return _row("fact", _ask(rng, relation, held_out).format(x=x), said[0].upper() + said[1:], y,
                f"{relation['name']}:{x}")


def translate(rng: Random, held_out: bool) -> Row:
    """A word in Chinese, or from Chinese."""
    relation = next(r for r in read("en", "facts")["relation"] if r["name"] == "translate")
    x, y = rng.choice(relation["pairs"])
    if rng.random() < .5:
        asked = _ask(rng, relation, held_out, "reverse_").format(x=x, y=y)
        return _row("translate", asked, relation["reverse_say"].format(x=x, y=y), x, x, "translate")
    return _row("translate", _ask(rng, relation, held_out).format(x=x, y=y),
                relation["say"].format(x=x, y=y), y, x, "translate")


def kind(rng: Random, held_out: bool) -> Row:
    """Which of two kinds a thing is of."""
    kinds = read("en", "kinds")["kind"]

    def make() -> tuple[dict[str, Any], dict[str, Any], str]:
        one, other = rng.sample(kinds, 2)
        return one, other, rng.choice(one["members"])

    one, other, word = _fresh(rng, held_out, make,
                              lambda made: f"kind {made[2]} {made[0]['name']} {made[1]['name']}")
    first, second = rng.sample([one, other], 2)
    a, b = (f"{k['article']} {k['name']}" for k in (first, second))
    asked = f"Is {_the(word, one)} {a} or {b}?"
    answer = f"{one['article']} {one['name']}"
    said = _the(word, one)
    return _row("kind", asked, f"{said[0].upper() + said[1:]} is {answer}.", answer, word)


def choice(rng: Random, held_out: bool) -> Row:
    """Which of four words is of a kind."""
    kinds = read("en", "kinds")["kind"]

    def make() -> tuple[dict[str, Any], list[str]]:
        chosen = rng.sample(kinds, 4)
        return chosen[0], [rng.choice(k["members"]) for k in chosen]

    one, words = _fresh(rng, held_out, make, lambda made: f"choice {sorted(made[1])}")
    answer = words[0]
    shown = ", ".join(rng.sample(words, 4))
    asked = rng.choice(["Which of these is {a} {k}: {s}?", "Choose the {k}: {s}.",
                        "Which word is {a} {k}: {s}?"])
    text = asked.format(a=one["article"], k=one["name"], s=shown)
    said = f"{answer[0].upper() + answer[1:]} is {one['article']} {one['name']}."
    return _row("choice", text, said, answer, answer)


def add(rng: Random, held_out: bool) -> Row:
    """A sum below 100, digit by digit."""
    def make() -> tuple[int, int]:
        a = rng.randrange(1, 99)
        return a, rng.randrange(1, 100 - a)

    a, b = _fresh(rng, held_out, make, lambda made: f"add {made[0]}+{made[1]}")
    frames = ["What is {a} + {b}?", "{a} + {b} = ?", "Add {a} and {b}.",
              "How much is {a} plus {b}?"]
    asked = rng.choice(frames).format(a=a, b=b)
    return _row("add", asked, f"{_sum(a, b)}{a + b}.", str(a + b), f"{a}+{b}")


def _sum(a: int, b: int) -> str:
    ones = a % 10 + b % 10
    if a < 10 and b < 10:
        return f"{a} + {b} = "
    tens = f"{a // 10} + {b // 10}" + (" + 1" if ones > 9 else "")
    return f"{a % 10} + {b % 10} = {ones}, {tens} = {(a + b) // 10}, so "


def word(rng: Random, held_out: bool) -> Row:
    """A sum told as a story."""
    names = read("en", "names")

    def make() -> tuple[str, str, int, int]:
        return (rng.choice(names["first_names"]), rng.choice(names["shop_things"]),
                rng.randrange(2, 10), rng.randrange(2, 10))

    who, what, a, b = _fresh(rng, held_out, make, lambda made: f"word {made}")
    asked = rng.choice(["{w} has {a} {t} and buys {b} more. How many {t} does {w} have?",
                        "{w} has {a} {t}. A friend gives {w} {b} more. How many {t} are there?",
                        "There are {a} {t} in a box. {w} adds {b}. How many {t} are in the box?"])
    return _row("word", asked.format(w=who, t=what, a=a, b=b), f"{a} + {b} = {a + b}.", str(a + b),
                f"{a}+{b} {what}")


def copy(rng: Random, held_out: bool) -> Row:
    """Words to be said again."""
    nouns = read("en", "names")["nouns"]
    words = _fresh(rng, held_out, lambda: rng.sample(nouns, rng.randrange(2, 6)),
                   lambda made: f"copy {made}")
    said = rng.choice([", ", " "]).join(words)
    asked = rng.choice(["Repeat these words: {s}", "Copy this: {s}", "Say exactly this: {s}",
                        "Write these words again: {s}"]).format(s=said)
    return _row("copy", asked, said, said, " ".join(words), "chat")


def instruct(rng: Random, held_out: bool) -> Row:
    """A small order to follow to the letter."""
    nouns = read("en", "names")["nouns"]

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        task = rng.choice(read("en", "instructions")["task"])
        words = dict(zip(("w", "w1", "w2", "w3"), rng.sample(nouns, 4), strict=True))
        n1, n2 = sorted(rng.sample(range(100), 2))
        return task, {**words, "n": rng.randrange(100), "n1": n1, "n2": n2}

    task, slots = _fresh(rng, held_out, make, lambda made: f"instruct {made[0]['name']} {made[1]}")
    asked, reply, answer = (text.format(**slots) for text in
                            (_ask(rng, task, held_out), task["reply"], task["answer"]))
    return _row("instruct", asked, reply, answer, f"{task['name']} {asked}", "chat")


def filter_kind(rng: Random, held_out: bool) -> Row:
    """Those of some words that are of a kind, in their order."""
    kinds = read("en", "kinds")["kind"]

    def make() -> tuple[dict[str, Any], list[str], set[str]]:
        one, *others = rng.sample(kinds, 3)
        right = rng.sample(one["members"], 2)
        wrong = [rng.choice(other["members"]) for other in others]
        return one, rng.sample(right + wrong, 4), set(right)

    one, words, right = _fresh(rng, held_out, make, lambda made: f"list {made[1]}")
    answer = " and ".join(w for w in words if w in right)
    asked = rng.choice(["Which of these are {k}: {s}?", "List the {k} among {s}."])
    return _row("list", asked.format(k=one["plural"], s=", ".join(words)),
                f"{answer[0].upper() + answer[1:]}.", answer, " ".join(sorted(right)))


def code(rng: Random, held_out: bool) -> Row:
    """One line of Python."""
    nouns = read("en", "names")["nouns"]

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        task = rng.choice(read("en", "code")["task"])
        x: Any = rng.choice(nouns) if task["slot"] == "word" else rng.randrange(100)
        return task, {"x": x, "y": rng.randrange(1, 100)}

    task, slots = _fresh(rng, held_out, make,
                         lambda made: f"code {made[0]['reply'].format(**made[1])}")
    reply = task["reply"].format(**slots)
    return _row("code", rng.choice(task["ask"]).format(**slots), reply, reply,
                f"{task['name']} {slots['x']}", "code")


TASKS: dict[str, Maker] = {"fact": fact, "kind": kind, "choice": choice, "list": filter_kind,
                           "add": add, "word": word, "copy": copy, "instruct": instruct,
                           "translate": translate, "code": code}
