"""The pages that `benchmarks/results` fills: speed, conformance, seeds, damage,
generality; for `reference.py`."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
CHECKS = {
    "off": "nothing asked for: logits bit-identical to the plain model's",
    "rows": "every row of a batch is written",
    "decode": "a reply is written token by token, not the prompt alone",
    "padding": "a left-padded row gives what it gives alone",
    "cache": "the same reply with and without a cache, from a column on where one can be named",
    "clamp": "a clamped SAE feature is h + (value - a) d",
    "scored": "the edit reaches the log-likelihoods that benchmarks score",
    "exception": "after an exception inside, the model is what it was"}
MARKS = {True: "yes", False: "**no**", None: "–"}


def _read(name: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return body


def conformance() -> list[str]:
    """The parts of the page on conformance."""
    body = _read("conformance")
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for row in body["rows"]:
        table.setdefault(row["name"], {})[row["check"]] = row
    lines = [f"| {name} | " + " | ".join(MARKS[row[check]["passed"]] for check in CHECKS) + " |"
             for name, row in table.items()]
    said = {name: {r["detail"] for r in row.values()} for name, row in table.items()}
    why = [f"- {name}, {check}: {row[check]['detail']}." for name, row in table.items()
           for check in CHECKS if row[check]["passed"] is not True and len(said[name]) > 1]
    gone = [f"- {name}: {next(iter(said[name]))}." for name in table if len(said[name]) == 1]
    return [
        "The same checks on sternpost and on libraries that one might take instead, from outside: "
        "ids in, logits and ids out, against a hook written by hand. A small random Llama, "
        "float32, logits within 1e-4 relative. Each library is driven as its own documentation "
        "says: those that add a vector add one, those that clamp an SAE feature clamp one. "
        f"{body['date'][:10]}; again: `sh benchmarks/peers.sh`, then "
        "`.venv-bench/bin/python -m benchmarks conformance`.",
        "\n".join(f"- **{check}**: {what}" for check, what in CHECKS.items()),
        "\n".join(["| | " + " | ".join(CHECKS) + " |", "|---|" + "---|" * len(CHECKS), *lines]),
        "yes: passed; **no**: did not; –: not offered, or not promised.",
        "\n".join([*why, *gone]),
        "What failed has a reproduction of some ten lines in `benchmarks/conformance/repro`. The "
        "libraries do what this page does not ask for: nnsight runs any code at any module, "
        "SAELens trains and shares SAEs, lm-eval scores hundreds of tasks."]


def speed() -> list[str]:
    """The parts of the page on speed."""
    engine, sweep, steps = _read("engine"), _read("sweep"), _read("sae_train")
    batches = sorted({int(key.rpartition(" ")[2]) for key in engine["ratios"]})
    pairs = list(dict.fromkeys(key.partition(",")[0] for key in engine["ratios"]))
    lines = [f"| {_PAIRS.get(pair, pair)} | " + " | ".join(
        f"{engine['ratios'][key]:.3f}" if (key := f"{pair}, batch {batch}") in engine["ratios"]
        else "–" for batch in batches) + " |" for pair in pairs]
    seconds = {row["name"]: row["median"] for row in sweep["rows"]}
    cases = [f"| {what} | {seconds[f'{name}, naive']:.1f} | {seconds[f'{name}, ours']:.1f} | "
             f"**{sweep['ratios'][name]:.2f}** | {sweep['ratios'][name + '_full']:.2f} |"
             for name, what in _SWEEPS.items()]
    growth = [f"| {name.partition('= ')[2]} | {took:.2f} |" for name, took in seconds.items()
              if "= " in name]
    return [
        "Ratios of times, medians of rounds in which all variants ran by turns in one process, one "
        f"thread, float32. {engine['machine'].partition(',')[0]}, {engine['date'][:10]}; not "
        "measured on a GPU so far. Again: `sh benchmarks/peers.sh`, then "
        "`.venv-bench/bin/python -m benchmarks engine sweep sae_train`.",
        "## What steering costs while a model decodes",
        f"{engine['note']}. n = {engine['n']} rounds. Below 1 the first is the faster.",
        "\n".join(["| | " + " | ".join(f"batch {batch}" for batch in batches) + " |",
                   "|---|" + "---|" * len(batches), *lines]),
        "## Many settings on the same prompts",
        f"A hooked `generate` a setting against the sweep engine, both at most 64 rows a forward, "
        f"n = {sweep['n']} rounds. The last column lets every reply run to its end; the one before "
        "ends it when a word-list judge has its verdict. Verdicts that are the same as on the "
        "naive reply's own beginning, and as on the whole of it: "
        f"{sweep['note'].partition(': ')[2]}.",
        "\n".join(["| | a `generate` a setting, s | sweep, s | times as fast | whole replies |",
                   "|---|---|---|---|---|", *cases]),
        "How the sweep's time grows, on dinghy:",
        "\n".join(["| features x values x prompts | s |", "|---|---|", *growth]),
        "## A training step of a TopK SAE", *_training(steps)]


def _training(steps: dict[str, Any]) -> list[str]:
    speeds = {row["name"]: row["median"] for row in steps["rows"] if row["unit"] == "tokens/s"}
    ratios = steps["ratios"]
    lines = [f"| {what} | {speeds[name]:,.0f} | " + " | ".join(
        f"**{ratios[key]:.2f}**" if (key := f"{ours}/{name}") in ratios else "–"
        for ours in ("sternpost_fp32", "sternpost_bf16")) + " |" for name, what in _STEPS.items()]
    grown = [f"| {name.partition(', ')[2]} | {value:,.0f} |" for name, value in speeds.items()
             if ", " in name]
    fvu = {row["name"]: row["median"] for row in steps["rows"] if row["name"].startswith("fvu")}
    return [
        f"{steps['note'].partition(';')[0]}, {steps['date'][:10]}, n = {steps['n']} rounds. Every "
        "library runs the step of its own trainer with Adam and its defaults; dead features there "
        "are none yet. The encoder's product alone is what no step can do without.",
        "\n".join(["| | tokens a second | sternpost is so many times as fast | with bfloat16 |",
                   "|---|---|---|---|", *lines]),
        "How sternpost's speed falls, float32:",
        "\n".join(["| | tokens a second |", "|---|---|", *grown]),
        "After the same tokens of one recipe, held-out FVU: "
        f"{fvu['fvu, autograd']:.4f} by autograd over dense matrices, {fvu['fvu, fp32']:.4f} by "
        f"hand, {fvu['fvu, bf16']:.4f} where bfloat16 proposes."]


_STEPS = {
    "sternpost_fp32": "sternpost, float32", "sternpost_bf16": "sternpost, bfloat16 proposes",
    "sparsify_adam": "sparsify", "saelens_topk": "SAELens",
    "dictionary_learning_topk": "dictionary_learning", "dense_pytorch": "dense, by hand",
    "encoder_matmul_fp32": "the encoder's product alone"}


_PAIRS = {
    "threshold_1/unsteered": "1 feature clamped / unsteered",
    "threshold_8/unsteered": "8 features / unsteered",
    "threshold_64/unsteered": "64 features / unsteered",
    "exact_1/unsteered": "1 feature, mode `exact` / unsteered",
    "threshold_1_32x/unsteered": "1 feature, SAE of 32 x d_model / unsteered",
    "add/unsteered": "a vector added / unsteered",
    "settings/one_setting": "a setting a row / one setting for all",
    "splice_16x/threshold_1": "encode and decode in the hook / 1 feature, 16 x d_model",
    "splice_32x/threshold_1_32x": "encode and decode in the hook / 1 feature, 32 x d_model",
    "add/steering_vectors": "a vector added / by steering-vectors",
    "add/repeng": "a vector added / by repeng"}
_SWEEPS = {
    "dinghy": "dinghy, 24 features x 6 values x 64 prompts, 24 tokens, `tail+response`",
    "dinghy_all": "the same, `all`: the prompt's upper blocks run anew in every setting",
    "deep": "24 blocks, 100M, written at 16; 4 x 3 x 8 prompts of 512 tokens, 32 tokens"}


def seeds() -> list[str]:
    """The parts of the page on seeds."""
    demo, dinghy = _read("demo_seeds"), _read("dinghy_seeds")
    return [
        "What is shipped, and what README and tutorial show, is the first seed. A cell is a share "
        "in percent with its 95 % interval.",
        "## The demo: seeds of SAE, search and gate, on the shipped dinghy", _table(demo),
        "## dinghy: seeds of its training", _table(dinghy),
        "Again (two hours): `python -m benchmarks seeds`."]


def _table(body: dict[str, Any]) -> str:
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for row in body["rows"]:
        seed, _, name = row["name"].partition(", ")
        rows.setdefault(name.replace("_", " "), {})[seed] = row
    names = list(next(iter(rows.values())))
    head = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    return "\n".join([*head, *(f"| {name} | " + " | ".join(
        f"{100 * row[seed]['median']:.1f} [{100 * row[seed]['low']:.0f}, "
        f"{100 * row[seed]['high']:.0f}]" for seed in names) + " |"
        for name, row in rows.items())])


def damage() -> list[str]:
    """The parts of the page on what a clamp breaks."""
    body = _read("damage")
    rows = {row["name"]: row for row in body["rows"]}
    ways = list(dict.fromkeys(name.partition(": ")[2].rpartition(", ")[0] for name in rows
                              if name.startswith("drop: ") and name.endswith(", capability")))
    named = {way: way.replace("every features", "every active feature") for way in ways}
    lines = [f"| {said} | " + " | ".join(_cell(rows.get(f"{form}: {way}, {what}"))
                                         for form in ("drop", "keep")
                                         for what in ("capability", "returned")) + " |"
             for way, said in named.items()]
    left = ", ".join(f"{_cell(rows[f'{form}: all together, unexplained'])} of the loss with "
                     f"error='{form}'" for form in ("drop", "keep"))
    return [
        "The reference clamp of dinghy's demo lowers the share of right answers. In the paper's "
        "form (error='drop') the edited reconstruction replaces the stream; in the demo's own "
        "(error='keep') only the change is added. Each suspect is undone alone, and what that "
        "returns of the lost capability is its share, with a paired interval; shares overlap, so "
        "they do not add up.",
        f"{body['note'].partition(';')[0]}. n = {body['n']} capability prompts, "
        f"{body['date'][:10]}. Without a clamp {_cell(rows['baseline, capability'])} are answered "
        "right. A cell is in percent with its 95 % interval.",
        "\n".join(["| undone | drop: right | returned | keep: right | returned |",
                   "|---|---|---|---|---|", *lines]),
        f"Unexplained: {left}.",
        "*Switched features* are features of later layers' SAEs that are on in one of the two runs "
        "and off in the other, put back to what they are without the clamp; *some* are as many "
        "switched, and unswitched, ones at random. They are what the damage passes through, not a "
        "cause beside the others.",
        "Again: `python -m benchmarks damage`."]


def _cell(row: dict[str, Any] | None) -> str:
    if row is None or row["median"] is None:
        return "–"
    return f"{100 * row['median']:.1f} [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"


def generality() -> list[str]:
    """The parts of the page on whether the findings hold elsewhere."""
    body = _read("generality")
    done = [row for row in body["rows"] if "change" in row]
    missing = [row["name"] for row in body["rows"] if "change" not in row]
    lines = [f"| {row['name']} | {row['fvu']:.2f} | {row['gate_auroc']['value']:.3f} | "
             + " | ".join(f"{_d(row[which])} | {_shares(row[which])}"
                          for which in ("baseline", "reference", "gated")) + " |" for row in done]
    held = [f"| {name} | {len(found['holds'])} of {len(found['holds']) + len(found['fails'])} | "
            f"{', '.join(found['fails']) or '–'} |" for name, found in body["findings"].items()]
    counts = done[0]["n"]
    return [
        "The whole experiment again on other SAEs, layers and bodies, on dinghy's prompts thinned: "
        f"{counts['unsafe']} unsafe, {counts['safe']} safe and {counts['capability']} capability "
        f"test prompts a case, one seed, {body['date'][:10]}. Where nothing else is said: a TopK "
        "SAE of 8 x d_model at layer 2 of dinghy. The bodies were trained on dinghy's corpus and "
        "are not shipped.",
        "D in points with its 95 % interval; then unsafe refusal / over-refusal / capability in "
        "percent.",
        "\n".join(["| | FVU | gate AUROC | D alone | | D, reference clamp | | D, gated | |",
                   "|---|---|---|---|---|---|---|---|---|", *lines]),
        "Which findings hold, beyond a paired interval:",
        "\n".join(["| | holds in | not in |", "|---|---|---|", *held]),
        "A gate's AUROC here is on prompts of the kinds that it was fitted on.",
        f"Not run so far: {', '.join(missing)}." if missing else "All cases were run.",
        "Again: `make generality`."]


def _d(condition: dict[str, Any]) -> str:
    d = condition["discrimination"]
    return f"{d['points']:.0f} [{d['low']:.0f}, {d['high']:.0f}]"


def _shares(condition: dict[str, Any]) -> str:
    return " / ".join(f"{100 * condition[rate]['hits'] / condition[rate]['n']:.0f}" for rate in (
        "unsafe_refusal", "over_refusal", "capability"))
