"""The page of a traced conversation: one file that opens offline and reads without JavaScript.

Nothing is told by colour alone: bars have heights, and sides of a line.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sternpost.report.html import asset, environment, policy
from sternpost.report.numerals import risk_text
from sternpost.report.trace_plots import lanes, pair, risk_plot
from sternpost.report.trace_words import (
    HIGHS,
    columns,
    most_surprise,
    plain,
    sentences,
    shown,
    signed,
    where,
)

Entry = Mapping[str, Any]
PARTS = {"prompt": "in the prompt", "t_inst": "where the request ends",
         "tail": "in the template's tail", "response": "in the reply"}
EXACT = ("ablated", "lead")
"""Columns of features that were ablated."""
GLUED = 8
"""Tokens that a line keeps together, at most."""
TITLES = {"active": "Activation, in the SAE's own units.",
          HIGHS: "Activation, in multiples of the feature's high one.",
          "surprise": "Powers of ten: 2 is one harmless token in a hundred.",
          "adds": "What it adds to the logit, over the whole prompt.",
          "ablated": "What the logit loses when the feature is 0 at all of the prompt's tokens.",
          "lead": "What the logit's lead over that of the token that the model says loses then."}


def render_trace(trace: Entry) -> str:
    """The page. A pure function of trace.json."""
    style, script = asset("report.css") + asset("trace.css"), asset("trace.js")
    features = [{**f, "where": where(trace, f), "columns": _columns(trace, f),
                 "bars": pair(f, _largest(trace["features"]))} for f in trace["features"]]
    return environment().get_template("trace.html.j2").render(
        trace=trace, style=Markup(style), script=Markup(script), policy=policy(style, script),
        told=sentences(trace), tokens=_tokens(trace), words=_words,
        titles=TITLES,
        checked=[f for f in features if f["ablation"] is not None],
        others=[f for f in features if f["ablation"] is None],
        plots=[] if trace["gate"] is None else [risk_plot(trace, (width, 330))
                                                for width in (1040, 358)])


def _largest(features: Sequence[Entry]) -> float:
    return max((abs(feature[key] or 0.0) for feature in features
                for key in ("contribution", "ablation")), default=0.0) or 1.0


def _tokens(trace: Entry) -> list[dict[str, Any]]:
    """The tokens with what the page shows of them; `glued`: no line ends before it."""
    tokens, out = trace["tokens"], []
    loud = max(tokens, key=lambda t: (abs(t["contribution"] or 0.0), t["part"] == "t_inst"))
    for token, (above, below) in zip(tokens, lanes(tokens, most_surprise(trace)), strict=True):
        rows = [{**entry, "columns": _columns(trace, entry)} for entry in token["features"]]
        out.append({**token, "shown": shown(token["text"]), "above": above, "below": below,
                    "spoken": _spoken(token), "of": PARTS[token["part"]], "features": rows,
                    "risk": None if token["risk"] is None else risk_text(token["risk"]),
                    "first": token is loud})
    return out


def _columns(trace: Entry, entry: Entry) -> dict[str, str]:
    """A feature's numbers, the exact ones where it was ablated."""
    exact = entry.get("ablation") is not None
    return {name: text for name, text in columns(trace, entry).items()
            if exact or name not in EXACT}


def _spoken(token: Entry) -> str:
    """What a screen reader says of a token."""
    parts = [shown(token["text"]).strip() or "space"]
    if token["contribution"] is not None:
        parts.append(f"contributes {signed(token['contribution'])}")
    if token["surprise"] is not None:
        parts.append(f"surprise {plain(token['surprise'])}")
    if token["risk"] is not None:
        parts.append(f"risk {risk_text(token['risk'])}")
    return ", ".join(parts)


def _words(tokens: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Tokens that a line keeps together: those of a word, with the stop after it."""
    word: list[Entry] = []
    for token in tokens:
        if word and (len(word) == GLUED or not _joins(word[-1]["text"], token["text"])):
            yield word
            word = []
        word.append(token)
    if word:
        yield word


def _joins(before: str, text: str) -> bool:
    """Whether a token goes on the word that the one before began: not in scripts without
    spaces, which break anywhere."""
    if not text:
        return True
    letters = before[-1:].isalnum() and text[0].isalnum() and ord(text[0]) < 0x2E80
    return letters or (text[0] in ".,;:!?)'" and not before[-1:].isspace())
