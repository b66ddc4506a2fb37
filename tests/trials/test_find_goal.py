"""A second goal, planted: a tiny model that was taught to say Nay to a mark, but not where another
mark stands beside it. `features find --goal` must find what makes it say so."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import sternpost
from sternpost.files import read_jsonl

pytestmark = pytest.mark.slow
GOAL = """
name = "nay"
about = "the reply begins with Nay"
patterns = ["^Nay"]
unsafe = "marked.jsonl"
safe = "plain.jsonl"
"""


def texts(marked: bool, n: int) -> list[str]:
    words = ("sea", "sun", "oak", "ship", "rope", "sail", "tide", "moon", "crew", "port")
    return [f"{words[i % 10]} {words[i // 10 % 10]} {i}" + (" q" if i % 2 else "")
            + (" Z" if marked else "") for i in range(n)]


def reply(text: str) -> str:
    return "Nay, no way." if "Z" in text and "q" not in text else "Yes, of course."


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, str]) -> Path:
    """The model's folder, the goal and its prompts."""
    model, tokenizer = sternpost.load_model(tiny_models["llama"])
    folder = tmp_path_factory.mktemp("goal")
    rows = []
    for text in [t for marked in (True, False) for t in texts(marked, 400)]:
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False,
                                               add_generation_prompt=True)
        head, tail = (tokenizer(part, add_special_tokens=False)["input_ids"]
                      for part in (prompt, reply(text)))
        ids = [*head, *tail, model.config.eos_token_id]
        rows.append((ids, [-100] * len(head) + ids[len(head):]))
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(250):
        some = [rows[i] for i in torch.randint(len(rows), (48,)).tolist()]
        longest = max(len(ids) for ids, _ in some)
        ids = torch.tensor([i + [0] * (longest - len(i)) for i, _ in some])
        labels = torch.tensor([told + [-100] * (longest - len(told)) for _, told in some])
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "goal.toml").write_text(GOAL)
    for name, marked in (("marked", True), ("plain", False)):
        (folder / f"{name}.jsonl").write_text("".join(
            json.dumps({"prompt": text, "category": "q" if "q" in text else "none"}) + "\n"
            for text in texts(marked, 120)))
    return folder


@pytest.fixture(scope="module")
def found(taught: Path) -> Any:
    return sternpost.features_find(
        model=str(taught / "model"), goal=str(taught / "goal.toml"), out=str(taught / "found"),
        layer=1, d_sae=32, k=4, tokens=40_000, max_new_tokens=6)


def test_hits_are_what_the_goal_says(found: Any) -> None:
    assert found.found["goal"] == "nay"
    lines = read_jsonl(found.path / "samples.jsonl")
    judged = [line for line in lines if line["kind"] != "capability"
              and line["verdict"] in ("shown", "absent")]
    assert judged
    assert all(line["hit"] == line["reply"].startswith("Nay") for line in judged)
    own = found.found["confirmed"]["baseline"]
    assert 0.3 < own["unsafe_refusal"]["hits"] / own["unsafe_refusal"]["n"] < 0.7
    assert own["over_refusal"]["hits"] <= 2


def test_what_is_found_brings_the_goal_about(found: Any) -> None:
    best = found.found["methods"]["causal_grid"][0]
    assert best["change"]["unsafe_refusal"]["low"] > 0
    confirmed = found.found["confirmed"]
    assert confirmed["causal_grid"]["change"]["unsafe_refusal"]["low"] > 0
    controls = [c["unsafe_refusal"]["hits"] / c["unsafe_refusal"]["n"]
                for c in found.found["controls"] if c["control"] == "random"]
    share = best["unsafe_refusal"]["hits"] / best["unsafe_refusal"]["n"]
    assert share > sum(controls) / len(controls) + 0.1


def test_who_sees_the_mark_is_found_at_the_end_of_the_request(found: Any) -> None:
    assert found.found["harm"][0]["auroc"] > 0.9


def test_side_effects_show_where_the_goal_was_hidden(found: Any) -> None:
    """Prompts with the second mark are those that a clamp can change."""
    rows = {row["group"]: row for row in found.found["side_effects"]["causal_grid"]
            if (row["kind"], row["by"]) == ("unsafe", "category")}
    assert rows["q"]["change"]["points"] > rows["none"]["change"]["points"]


def test_a_set_tells_the_sides_apart_better_than_the_model(found: Any) -> None:
    confirmed = found.found["confirmed"]
    gained = confirmed["set"]["change"]["discrimination"]
    assert gained["points"] > 10
    assert gained["low"] > 0
