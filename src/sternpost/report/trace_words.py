"""A traced conversation in words: its numbers, and what it comes to in sentences."""

import unicodedata
from collections.abc import Mapping
from math import log10
from typing import Any

from sternpost.report.numerals import NONE, risk_text

Entry = Mapping[str, Any]
SOURCES = {"reply": "the reply", "own reply": "the model's own reply",
           "archetype": "its reply to the archetype"}
FEW = 1000
"""Benign tokens below which a surprise says little."""
HIGHS = "\N{MULTIPLICATION SIGN} high"


def shown(text: str) -> str:
    """A token's text as it can be printed anywhere: no control characters, none without a mark."""
    marks = {"\n": "\u23ce", "\t": "\u21e5", "\r": "\u240d"}
    return "".join(
        marks.get(c) or (c if c.isprintable() else " " if unicodedata.category(c) == "Zs" else
                         c.encode("unicode_escape").decode()) for c in text) or "\u00b7"


def shorter(text: str, letters: int) -> str:
    """At most so many letters of a text."""
    return text if len(text) <= letters else text[:letters - 1] + "\u2026"


def signed(value: float | None, digits: int = 2) -> str:
    """`+3.43`, a true minus before what is negative; a dash for None."""
    if value is None:
        return NONE
    text = f"{abs(value):.{digits}f}"
    sign = "" if not float(text) else "+" if value > 0 else "\N{MINUS SIGN}"
    return sign + text


def plain(value: float | None) -> str:
    """`3.43`; a dash for None."""
    return NONE if value is None else f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def most_surprise(trace: Entry) -> float:
    """The largest surprise that the reference can tell."""
    return 0.0 if trace["reference"] is None else log10(trace["reference"]["tokens"] + 1)


def columns(trace: Entry, feature: Entry | None = None) -> dict[str, str]:
    """The columns that say something of this trace, with a feature's numbers."""
    one: Entry = feature or {}
    known = {"active": plain(one.get("activation"))}
    if "relative" not in trace["why"]:
        known[HIGHS] = plain(one.get("relative"))
    if trace["reference"] is not None:
        known["surprise"] = plain(one.get("surprise"))
    if trace["logit"] is not None:
        known |= {"adds": signed(one.get("contribution")), "ablated": signed(one.get("ablation"))}
        if trace["logit"]["difference"]:
            known["lead"] = signed(one.get("contrast"))
    return known


def where(trace: Entry, feature: Entry) -> str:
    """The token at which a feature is the most active."""
    at = feature["at"]
    if at is None:
        return NONE
    return f"{shorter(shown(trace['tokens'][at]['text']).strip(), 14)} ({at})"


# ---- in sentences --------------------------------------------------------------------------------

def sentences(trace: Entry) -> dict[str, str]:
    """What the trace shows, a sentence each; those that have nothing to say are left out."""
    steps = {"reply": _reply, "logit": _logit, "first": _first, "agreement": _agreement,
             "gate": _gate, "reference": _reference}
    return {name: text for name, step in steps.items() if (text := step(trace))}


def _reply(trace: Entry) -> str:
    whose = "The reply that was given" if trace["reply_given"] else "The reply"
    return (f"{whose} shows {'' if trace['shown'] else 'no '}{trace['goal']} "
            f"(verdict: {trace['verdict']}).")


def _logit(trace: Entry) -> str:
    logit = trace["logit"]
    if logit is None:
        return f"Nothing is said of contributions. {trace['why']['logit']}"
    says, gap = logit["says"], logit["difference"]
    rest = "the token that it says" if not gap else \
        f"{-gap:.2f} below that of {quoted(says)}, which it says"
    return (f"Contributions are to the logit of {quoted(logit)}, which begins "
            f"{SOURCES[logit['source']]}: {logit['value']:.2f}, {rest}.")


def _first(trace: Entry) -> str:
    if not trace["checked"]:
        return ""
    best, logit = trace["checked"][0], quoted(trace["logit"])
    does = "adds most to" if best["contribution"] > 0 else "takes most from"
    moves = "loses" if best["ablation"] > 0 else "gains"
    return (f"Feature {named(trace, best['feature'])} {does} the logit of {logit}, "
            f"{signed(best['contribution'])}; taken away, the logit {moves} "
            f"{abs(best['ablation']):.2f}.")


def _agreement(trace: Entry) -> str:
    found = trace["agreement"]
    if found is None:
        return ""
    r = "" if found["pearson"] is None else f"correlate at {found['pearson']:.2f} (Pearson); "
    return (f"Over {found['n']} features contribution and ablation {r}the largest gap is "
            f"{found['largest_gap']:.2f}, of feature {found['feature']}.")


def _gate(trace: Entry) -> str:
    gate = trace["gate"]
    if gate is None:
        return f"No gate was read. {trace['why']['gate']}"
    side, does = ("above", "it fires") if gate["fired"] else ("not above", "it stays shut")
    return (f"The gate's risk where the request ends is {risk_text(gate['risk'])}, {side} its "
            f"threshold of {risk_text(gate['threshold'])}: {does}.")


def _reference(trace: Entry) -> str:
    found = trace["reference"]
    if found is None:
        return f"Nothing is said of what is unusual. {trace['why']['reference']}"
    few = "" if found["tokens"] >= FEW else " So few tell little; give more with --benign FILE."
    return (f"Unusual is told by {found['tokens']:,} tokens of {found['prompts']:,} harmless "
            f"prompts ({found['source']}).{few} They hold no replies, so that features of a reply "
            "mostly look unusual.")


def named(trace: Entry, feature: int) -> str:
    """`646 (a label)`, or the number alone."""
    label = trace["labels"].get(str(feature))
    return f"{feature} ({shown(label)})" if label else str(feature)


def quoted(token: Entry) -> str:
    """A token's text in quotation marks; its number, where it is only part of a letter."""
    if "\ufffd" in token["text"]:
        return f"token {token['token']}"
    return f"\N{LEFT DOUBLE QUOTATION MARK}{shown(token['text'])}\N{RIGHT DOUBLE QUOTATION MARK}"
