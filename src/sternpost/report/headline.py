"""The headline: what the run showed, in one sentence that does not flatter."""

from collections.abc import Mapping
from typing import Any

from sternpost.report.conditions import Condition, find, reference
from sternpost.report.numerals import (
    bounds,
    count_text,
    point_bounds,
    point_value,
    round_percent,
    share,
    value_text,
)

POOR_FVU, POOR_DEAD = 0.3, 0.5
SEARCH = "search:"
"""A warning that starts so says that the search found no feature that raises unsafe refusal."""


def headline(results: Mapping[str, Any]) -> str:
    """One sentence: what clamping the feature did, and what a reader must know beside it."""
    text = "; ".join(clauses(results))
    return text[:1].upper() + text[1:] + "."


def clauses(results: Mapping[str, Any]) -> list[str]:
    """The sentence's clauses; the first is the finding."""
    steps = (_finding, _splice, _random, _gated, _search, _sae)
    return [clause for step in steps if (clause := step(results))]


def _finding(results: Mapping[str, Any]) -> str:
    before, after = find(results, "baseline"), reference(results)
    if before is None and after is None:
        return "no clamp and no baseline was measured"
    if before is None or after is None:
        return _alone(results, before, after)
    moves = [_move("unsafe refusal", before["unsafe_refusal"], after["unsafe_refusal"],
                   _paired(after, "unsafe_refusal")),
             _move("safe refusal", before["over_refusal"], after["over_refusal"],
                   _paired(after, "over_refusal"))]
    same_verb = moves[0][0] == moves[1][0]
    text = f"{moves[0][0]} {moves[0][1]} and {'' if same_verb else moves[1][0] + ' '}{moves[1][1]}"
    return f"{_clamping(results, after)} {text}{_discrimination(before, after)}"


def _clamping(results: Mapping[str, Any], clamp: Condition) -> str:
    return f"clamping feature {results.get('feature')} at {value_text(clamp['value'])}"


def _alone(results: Mapping[str, Any], before: Condition | None, after: Condition | None) -> str:
    condition = before or after or {}
    rates = (f"unsafe refusal is {_with_n(condition.get('unsafe_refusal'))} and safe refusal "
             f"{_with_n(condition.get('over_refusal'))}")
    if after is None:
        return f"no reference clamp was measured: at baseline {rates}"
    return f"{_clamping(results, after)}: {rates}, with no baseline to compare with"


def _with_n(rate: Any) -> str:
    if share(rate) is None:
        return "not measured"
    return f"{round_percent(rate)} (n = {rate['n']})"


def _paired(after: Condition, key: str, against: str = "baseline") -> Any:
    """The paired difference to another condition, in points, where results.json has it."""
    return ((after.get("change") or {}).get(against) or {}).get(key)


def _move(what: str, before: Any, after: Any, paired: Any = None) -> tuple[str, str]:
    """The verb, and the rest: `raised`, `unsafe refusal from 58 % to 96 % (n = 400)`.

    A move is clear where its paired interval leaves out 0, or without one where the two rates'
    own intervals lie apart.
    """
    old, new = share(before), share(after)
    if old is None or new is None:
        return "gave no figure for", f"{what} ({_with_n(before)} before, {_with_n(after)} after)"
    n = f"n = {after['n']}" if before["n"] == after["n"] else f"n = {before['n']}, {after['n']}"
    first, second = round_percent(before), round_percent(after)
    if first == second:
        return "left", f"{what} at {first} ({n})"
    unclear = paired["low"] <= 0 <= paired["high"] if paired else \
        _overlap(bounds(before), bounds(after))
    if unclear:
        return "did not clearly move", f"{what} ({first} to {second}, {n})"
    return "raised" if new > old else "lowered", f"{what} from {first} to {second} ({n})"


def _overlap(one: tuple[float, float] | None, other: tuple[float, float] | None) -> bool:
    return one is None or other is None or (one[0] <= other[1] and other[0] <= one[1])


def _discrimination(before: Condition, after: Condition) -> str:
    old, new = before.get("discrimination"), after.get("discrimination")
    first, second = point_value(old), point_value(new)
    if first is None or second is None:
        return ""
    if f"{first:.0f}" == f"{second:.0f}":
        return f", so D stayed at {second:.0f} points"
    paired = _paired(after, "discrimination")
    unsure = paired["low"] <= 0 <= paired["high"] if paired else \
        _overlap(point_bounds(old), point_bounds(new))
    doubt = " (not clearly)" if unsure else ""
    return f", so D went from {first:.0f} to {second:.0f} points{doubt}"


def _splice(results: Mapping[str, Any]) -> str:
    """With `error=drop` the SAE's reconstruction is part of every clamp: what is left beyond it."""
    after = reference(results) or {}
    unsafe, safe = (_paired(after, key, "splice_in") for key in ("unsafe_refusal", "over_refusal"))
    if unsafe is None or safe is None:
        return ""
    moved = [f"{p['points']:+.0f} points [{p['low']:+.0f}, {p['high']:+.0f}]"
             for p in (unsafe, safe)]
    return (f"against the splice-in alone that is {moved[0]} of unsafe and {moved[1]} of safe "
            "refusal")


def _random(results: Mapping[str, Any]) -> str:
    """Said only where the control takes the finding away."""
    before, after = find(results, "baseline"), reference(results)
    other = find(results, "random_feature")
    if not (before and after and other) or share(other["unsafe_refusal"]) is None:
        return ""
    moved = _move("", before["unsafe_refusal"], after["unsafe_refusal"])[0] == "raised"
    if moved and _overlap(bounds(other["unsafe_refusal"]), bounds(after["unsafe_refusal"])):
        rate = round_percent(other["unsafe_refusal"])
        return f"random features did about as much ({rate} unsafe refusal)"
    return ""


def _gated(results: Mapping[str, Any]) -> str:
    gated = find(results, "gated_clamp")
    if gated is None or share(gated["unsafe_refusal"]) is None:
        return ""
    d = point_value(gated.get("discrimination"))
    tail = "" if d is None else f" (D {d:.0f} points)"
    unsafe, safe = (round_percent(gated[key]) for key in ("unsafe_refusal", "over_refusal"))
    return f"behind its gate the clamp gave unsafe refusal {unsafe} and safe refusal {safe}{tail}"


def _search(results: Mapping[str, Any]) -> str:
    if any(str(text).startswith(SEARCH) for text in results.get("warnings") or []):
        return "the search found no feature that raises unsafe refusal beyond its interval"
    return ""


def _sae(results: Mapping[str, Any]) -> str:
    sae = results.get("sae") or {}
    fvu, dead = sae.get("fvu"), sae.get("dead_fraction")
    faults = []
    if fvu is not None and fvu > POOR_FVU:
        faults.append(f"fvu {fvu:.2f}")
    if dead is not None and dead > POOR_DEAD:
        faults.append(f"{round_percent(dead)} of its features never active")
    if not faults:
        return ""
    needed = sae.get("tokens_needed")
    cure = ("how many tokens would do is not known" if needed is None
            else f"about {count_text(needed)} tokens would do")
    return f"the SAE is poor ({', '.join(faults)}): {cure}"
