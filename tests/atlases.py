"""Made-up features in the shape that the atlas is drawn from: plain, dead, and hostile ones."""

import math
from typing import Any

NASTY = ("<script>alert(1)</script>\n<img src=x onerror=alert(1)> \u202egnp.exe\u202c \x00\x1b"
         "\u05e9\u05dc\u05d5\u05dd \U0001f9ed \ud800 </script><!-- &amp; \"'")
"""Whatever a text may hold: markup, controls, directions, an emoji, half of a pair."""


def rate(hits: int, n: int) -> dict[str, Any]:
    spread = math.sqrt(hits / n * (1 - hits / n) / n)
    return {"hits": hits, "n": n, "low": hits / n - spread, "high": hits / n + spread}


def about(**changes: Any) -> dict[str, Any]:
    return {"model": "a/model", "layer": 6, "d_sae": 40, "tokens": 1_234_567, "texts": 4321,
            "goal": "refusal", "labels": {"by": "words", "date": None}, "warnings": [], **changes}


def context(word: str, quantile: float, activation: float, kind: str) -> dict[str, Any]:
    return {"quantile": quantile, "activation": activation, "kind": kind,
            "category": "weapons" if kind == "unsafe" else None, "part": "prompt", "at": 2,
            "tokens": ["How", " to", f" {word}", "\n", " it", "?"],
            "acts": [0.0, activation / 3, activation, activation / 20, 0.0, None]}


def category(name: str, lift: float | None, active: int, q: float | None) -> dict[str, Any]:
    return {"category": name, "name": name.capitalize(), "concept": f"{name}_concept",
            "lift": lift, "active": active, "n": 20, "q": q}


def feature(at: int, word: str = "river", **changes: Any) -> dict[str, Any]:
    """Feature `at`, about a word; its neighbours are the next two."""
    return {"feature": at, "label": f'fires on "{word}"', "label_by": "words", "label_date": None,
            "score": {"detection": rate(17, 20), "fuzzing": rate(12, 20)},
            "density": 0.001 * (at + 1), "density_safe": 0.01, "high": 35.2, "max": 51.0,
            "mean": 9.1, "histogram": {"edges": [0.0, 20.0, 40.0, 60.0], "counts": [900, 80, 1]},
            "contexts": [context(word, 1.0, 51.0, "corpus"), context(word, 1.0, 44.0, "unsafe"),
                         context(word, 0.5, 8.0, "safe")],
            "promoted": [[f" {word}s", 1.23], ["\n", 0.5]], "suppressed": [["stone", -0.75]],
            "near": {"cosine": [[at + 1, 0.83]], "coactive": [[at + 2, 0.31]]},
            "parts": {"prompt": 0.7, "tail": 0.1, "response": 0.2},
            "categories": [category("weapons", 0.6, 2, 0.8)], "concepts": [], "found": None,
            **changes}


def hazardous(at: int, word: str, points: float) -> dict[str, Any]:
    """One that is linked to a hazard, found by two methods, and clamped."""
    change = {"points": points, "low": points - 7, "high": points + 7}
    return feature(at, word, concepts=["weapons", "unsafe"], found={
        "methods": {"paper": 1, "integrated_gradients": 4}, "effect": {
            "value": 70.1, "unsafe_refusal": change, "over_refusal": {**change, "points": 3.5}}},
        categories=[category("fraud", 0.4, 1, 0.9), category("weapons", 4.25, 17, 0.0001),
                    {**category("unsafe", 9.0, 18, 0.001), "name": "Any unsafe request"}])


def dead(at: int) -> dict[str, Any]:
    """One that was never active: hardly anything is known of it."""
    return feature(at, label="never active", score=None, density=0.0, density_safe=0.0, high=None,
                   max=None, mean=None, histogram=None, contexts=[], parts=None, categories=[],
                   near={"cosine": [], "coactive": []})


def unmeasured(at: int) -> dict[str, Any]:
    """Every number that may be missing is."""
    nothing = {"points": 1.0, "low": None, "high": None}
    one = context("fog", 0.5, 4.0, "corpus")
    return feature(at, label_by=None, score={"detection": None, "fuzzing": None, "why": {
                       "detection": "nobody asked", "fuzzing": "nobody asked"}}, density=None,
                   density_safe=None, high=None, max=None, mean=None,
                   histogram={"edges": [], "counts": []}, parts=None,
                   promoted=[["fog", None]], near={"cosine": [[at, None]], "coactive": []},
                   contexts=[{**one, "quantile": None, "activation": None, "part": None,
                              "acts": [None] * 6}],
                   categories=[{**category("theft", None, 0, None), "n": 0, "name": None}],
                   found={"methods": {"paper": 9}, "effect": {
                       "value": None, "unsafe_refusal": nothing, "over_refusal": None}})


def hostile(at: int) -> dict[str, Any]:
    """Every text is NASTY."""
    bad = {**context(NASTY, 1.0, 51.0, NASTY), "category": NASTY, "part": NASTY}
    return feature(at, label=NASTY, label_by=NASTY, label_date=NASTY, contexts=[bad],
                   concepts=[NASTY],
                   promoted=[[NASTY, 1.0]], suppressed=[[NASTY, -1.0]],
                   categories=[{**category("a", 2.0, 9, 0.01), "category": NASTY, "name": NASTY,
                                "concept": NASTY}],
                   found={"methods": {NASTY: 1}, "effect": None})


def some(n: int = 12) -> list[dict[str, Any]]:
    """Plain ones, two hazardous, one dead, one unmeasured, one hostile."""
    special = {2: hazardous(2, "bomb", 38.2), 3: hazardous(3, "knife", -4.0), 5: dead(5),
               7: unmeasured(7), 8: hostile(8)}
    words = ("river", "kitchen", "letter", "garden")
    return [special.get(at) or feature(at, words[at % 4]) for at in range(n)]
