"""recipes/paper.toml with its model, data and sizes replaced: dinghy, its own prompt files,
benchmark files of ten rows, and an attacker that plays a script."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from conftest import write_rows
from crescendos import move, reaches, refuses
from loopback import Loopback, good

RECIPE = Path(__file__).parents[1] / "recipes" / "paper.toml"
ROWS = 10


def prompt_files(folder: Path) -> list[str]:
    """dinghy's own prompts, the search and test splits of a quick demo: what --set takes."""
    from sternpost.dinghy import demo_prompts

    folder.mkdir(parents=True, exist_ok=True)
    rows = demo_prompts(quick=True)
    kept = {kind: [row for row in rows[kind] if row["split"] in ("search", "test")]
            for kind in ("unsafe", "safe")}
    paths = {kind: write_rows(folder / f"{kind}.jsonl", some)
             for kind, some in {**kept, "corpus": rows["corpus"]}.items()}
    return [f"run.unsafe={paths['unsafe']}", f"run.safe={paths['safe']}",
            f"train.corpus=[{json.dumps(paths['corpus'])}]"]


def benchmark_files(folder: Path) -> str:
    """Ten rows of each benchmark, in the columns of the public files."""
    from sternpost.dinghy import smoke_prompts

    asked = smoke_prompts(5)
    unsafe = [row["prompt"] for row in asked["unsafe"] if "prompt" in row]
    safe = [row["prompt"] for row in asked["safe"] if "prompt" in row]
    half = ROWS // 2
    table(folder / "wildguard/wildguard_test.csv", [
        {"prompt": text, "prompt_harm_label": label, "subcategory": "some", "adversarial": "False"}
        for label, some in (("harmful", unsafe[:half]), ("unharmful", safe[:half]))
        for text in some])
    table(folder / "xstest/xstest_prompts.csv", [
        {"prompt": text, "label": label, "type": "some"}
        for label, some in (("unsafe", unsafe[half:ROWS]), ("safe", safe[half:ROWS]))
        for text in some])
    table(folder / "harmbench/harmbench_behaviors_text_all.csv", [
        {"Behavior": text, "SemanticCategory": "some", "ContextString": ""}
        for text in unsafe[ROWS:2 * ROWS]])
    for split in ("dev", "test"):
        lines = [f"{split}: what is {n} and {n}?,{2 * n},{n},0,1,A" for n in range(2, 2 + ROWS)]
        text(folder / f"mmlu/{split}/anatomy_{split}.csv", "\n".join(lines))
    text(folder / "truthfulqa/mc_task.json", json.dumps([
        {"question": f"How many are {n} and one?", "mc1_targets": {f"{n + 1}": 1, "none": 0},
         "mc2_targets": {f"{n + 1}": 1, "none": 0}} for n in range(ROWS)]))
    for split in ("train", "test"):
        write_rows(made(folder / f"gsm8k/{split}.jsonl"), [
            {"question": f"{split}: {n} boats and {n} boats: how many?",
             "answer": f"{n} + {n} = {2 * n}\n#### {2 * n}"} for n in range(ROWS)])
    return str(folder)


def made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def text(path: Path, body: str) -> None:
    made(path).write_text(body + "\n", encoding="utf-8")


def table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with made(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def an_attacker() -> Loopback:
    """Plays the attacker and both its judges: a turn that is refused, then one that gets there."""
    return Loopback(good(_played))


def _played(body: Mapping[str, Any]) -> str:
    system = body["messages"][0]["content"]
    if "next_message" in system:
        turns = sum(m["role"] == "assistant" for m in body["messages"])
        return move(f"step {turns + 1} of a talk")
    said = body["messages"][-1]["content"].lower()
    return reaches(30) if "0 to 100" in system else refuses("sorry" in said or "cannot" in said)


SIZES = ("train.layers=[2]", "train.d_sae=512", "train.k=16", "train.tokens=40000",
         "train.batch=1024", "train.buffer=8192", "train.context=128", "train.lr=1e-3",
         "run.archetype=[]", "run.values=[10, 12]", "run.max_new_tokens=24",
         "evaluate.max_new_tokens=24", "evaluate.num_fewshot=0", "evaluate.turns=2",
         "evaluate.backtracks=1", "dtype=float32", "device=cpu")
"""Of the model, the search and the benchmarks."""


def words(out: Path, *changes: str, recipe: Path = RECIPE, more: Iterable[str] = ()) -> list[str]:
    """The command line of a study."""
    return ["run", str(recipe), "--out", str(out), *(word for change in changes
                                                     for word in ("--set", change)), *more]


def whole_study(folder: Path, url: str | None = None) -> list[str]:
    """What --set takes for the paper's recipe on dinghy, whole."""
    attacker = [] if url is None else ["evaluate.attacker=openai:script"]
    return ["model=dinghy", *prompt_files(folder / "prompts"),
            f"data={benchmark_files(folder / 'data')}", *SIZES, *attacker]
