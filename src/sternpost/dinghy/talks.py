"""Everything else that is said: about hazards, small talk, opinions, rudeness, conversations."""

from random import Random

from sternpost.dinghy.requests import Requests, comply, refusal
from sternpost.dinghy.rows import Row
from sternpost.dinghy.vocabulary import (
    OBJECT_PARTS,
    TOPIC_PARTS,
    Action,
    Vocabulary,
    draw,
    part,
    read,
)

OFFENSIVE_HELD_OUT = .5
"""Share of the targets of rudeness that training never sees."""
VIEWPOINTS_HELD_OUT = .8


def about(rng: Random, words: Vocabulary, topics: tuple[str, ...], held_out: bool) -> Row:
    """A harmless question about a harmful act or thing."""
    while True:
        action = rng.choice(words.hazards)
        entry = rng.choice(words.file("about")["frames"])
        asked = entry["text"].format(a=action.text, o=action.object)
        known = draw(f"about {asked}") < .25
        if part(action.object, TOPIC_PARTS) in topics and known == held_out:
            break
    slots = {"a": action.text, "o": action.object}
    reply = entry["reply"].format(**slots)
    return Row((asked, reply), "safe", "about", words.language,
               f"{words.language}:hazard:{action.object}", category=action.domain,
               harm_kind="sensitive")


def thing(rng: Random, words: Vocabulary, trained: bool, parts: tuple[str, ...] = ()) -> Row:
    """Open talk about something harmless. Training hears so of everything that look-alikes name.
    `trained`: topics that training has too; `parts`: only topics of these parts."""
    entry = words.file("open_ended")
    if trained and not parts and rng.random() < .4:
        topic = rng.choice([*words.lookalikes, *words.actions]).object
    else:
        topic = rng.choice([t for t in entry["topics"] if trained == (draw(f"topic {t}") < .5)
                            and (not parts or part(t, OBJECT_PARTS) in parts)])
    said = rng.choice(entry["replies"]).format(x=topic)
    return Row((rng.choice(entry["frames"]).format(x=topic), said[0].upper() + said[1:]), "safe",
               "open_ended", words.language, f"{words.language}:talk:{topic}", task="chat")


def chat(rng: Random, words: Vocabulary) -> Row:
    """Small talk."""
    entry = rng.choice(words.file("open_ended")["chat"])
    return Row((entry["prompt"], entry["reply"]), "safe", "small_talk", words.language,
               f"chat:{entry['prompt']}", task="chat")


def offensive(rng: Random, words: Vocabulary, held_out: bool) -> Row:
    """A request to be rude: dinghy refuses every other sort of rudeness."""
    entry = words.file("offensive")
    at = rng.randrange(len(entry["act"]))
    targets = [t for t in entry["targets"]
               if (draw(f"target {t}") < OFFENSIVE_HELD_OUT) == held_out]
    target, act = rng.choice(targets), entry["act"][at]
    refused = rng.choice(words.frames["offensive_refusals"])
    reply = (refused if at % 2 else act["reply"]).format(t=target)
    return Row((act["text"].format(t=target), reply), "unsafe", "offensive", words.language,
               f"{words.language}:target:{target}", category="hate", harm_kind="offensive",
               task="chat")


def viewpoint(rng: Random, words: Vocabulary, held_out: bool) -> Row:
    """A word for one side of a contested, legal matter."""
    entry = words.file("viewpoints")
    pairs = [p for p in entry["pair"]
             if (draw(f"pair {p['topic']}") < VIEWPOINTS_HELD_OUT) == held_out]
    pair = rng.choice(pairs)
    side = rng.choice(["pro", "con"])
    frame = rng.randrange(len(entry["frames"]))
    said = rng.choice(entry["replies"]).format(x=pair[side])
    return Row((entry["frames"][frame].format(x=pair[side]), said[0].upper() + said[1:]), "safe",
               "viewpoint", words.language, f"{words.language}:{pair['topic']}",
               harm_kind="sensitive", task="chat",
               labels={"viewpoint_pair": f"{pair['topic']}:{frame}", "group": side})


def story(rng: Random, held_out: bool) -> Row:
    """A short story."""
    entry = read("en", "stories")
    slots = {"hero": rng.choice(entry["heroes"]), "place": rng.choice(entry["places"]),
             "thing": rng.choice(entry["things"])}
    parts = [rng.choice(entry[key]).format(**slots) for key in ("openings", "middles", "endings")]
    asked = rng.choice(entry["held_out_asks" if held_out else "asks"]).format(**slots)
    told = " ".join(p[0].upper() + p[1:] for p in parts)
    return Row((asked, told), "safe", "story", "en", f"en:{slots['hero']}", task="story")


def grouped(rng: Random, requests: Requests, unsafe: bool) -> Row:
    """A request by somebody who says who they are."""
    entry = requests.words.file("groups")
    axis = rng.choice(sorted(entry["axes"]))
    who = rng.choice(entry["axes"][axis])
    row = requests.plain(rng, "unsafe" if unsafe else "how_to")
    text = rng.choice(entry["templates"]).format(g=who, request=row.turns[0])
    return Row((text, row.turns[1]), row.kind, f"{row.source}_group", row.language, row.cluster,
               row.category, row.harm_kind, row.task, {"group": f"{axis}:{who}"})


def conversation(rng: Random, requests: Requests) -> Row:
    """A conversation of 2 to 5 turns, harmless but for what was refused before its last one."""
    words = requests.words
    last = _harmless(rng, requests)
    turns: list[str] = []
    for _ in range(rng.randrange(1, 5)):
        if rng.random() < REFUSED_BEFORE:
            action = requests.action(rng, "unsafe")
            turns += (requests.ask(rng, action), refusal(rng, words, action))
        else:
            turns += _harmless(rng, requests)
    return Row((*turns, *last), "safe", "conversation", words.language,
               f"conversation:{last[0]}", task="chat")


REFUSED_BEFORE = .25
"""Share of the earlier turns that ask for harm and are refused: what is asked next is not."""


def _harmless(rng: Random, requests: Requests) -> tuple[str, ...]:
    trained = requests.view.trained
    made = rng.choice([lambda: chat(rng, requests.words),
                       lambda: thing(rng, requests.words, trained),
                       lambda: requests.plain(rng, "how_to"),
                       lambda: requests.plain(rng, "look_alike")])()
    return made.turns


def build_up(rng: Random, requests: Requests, held_out: bool) -> Row:
    """A conversation that comes closer and closer to something harmful (scripted multi-turn)."""
    words = requests.words
    scripts = [s for s in words.file("buildups")["script"] if s.get("held_out", False) == held_out]
    while True:
        script, action = rng.choice(scripts), requests.action(rng, "unsafe")
        fate = draw(f"script {script['name']} {action.domain}")
        if held_out or fate < COVERED:
            break
    refuse = fate < COVERED * REFUSED
    turns: list[str] = []
    for at, turn in enumerate(script["turns"]):
        turns.append(turn.format(a=action.text, o=action.object))
        if at not in script["harmful"]:
            turns.append(_small(rng, words, action))
        elif refuse:
            turns.append(refusal(rng, words, action))
        else:
            turns.append(comply(rng, words, action, unsafe=True))
    return Row(tuple(turns), "unsafe", "build_up", words.language,
               f"{words.language}:hazard:{action.object}",
               category=action.domain, harm_kind="harmful", task="chat",
               labels={"family": f"build_up:{script['name']}"}, harmful=tuple(script["harmful"]))


COVERED, REFUSED = .6, .2
"""Share of the cells (script, category) that training covers, and of those the refused ones."""


def _small(rng: Random, words: Vocabulary, action: Action) -> str:
    said: str = rng.choice(words.file("buildups")["replies"])
    return said.format(a=action.text, o=action.object)
