"""What needs no lm-eval: rows and their steering, reach, settings, where tasks come from."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import TEMPLATE, byte_tokenizer
from sternpost import Add, Clamp, Floor, Plan, Positions, steer
from sternpost.engines.templates import Template
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import EditError, InputError, MissingExtra, PromptFileError
from sternpost.evaluation.harness import run_tasks
from sternpost.evaluation.harness_files import READERS
from sternpost.evaluation.harness_rows import Row, Subject, apart, reach, steered, unpadded
from sternpost.evaluation.harness_settings import TaskSettings
from sternpost.evaluation.harness_tasks import counts_hits, family_of, load_tasks, main_of
from sternpost.types import Hookpoint, Message
from subjects import MODELS, D, close, make_sae

EDITS = (Clamp(5, 9.0), Add(torch.ones(D), 0.7, "raw"))
SUBJECT = Subject("some_task", False)


@pytest.fixture(scope="module", params=["phi3", "llama"])
def engine(request: pytest.FixtureRequest) -> TransformersEngine:
    torch.manual_seed(0)
    model = MODELS[request.param]()
    model.resize_token_embeddings(6 + 256, mean_resizing=False)  # a token a byte
    return TransformersEngine(model.eval(), Template(byte_tokenizer(TEMPLATE)))


def row(engine: TransformersEngine, question: str, answer: str) -> Row:
    """A request as lm-eval would make it."""
    prompt = engine.encode(engine.template.render([Message("user", question)]))
    rest = engine.encode(answer)
    return Row(tuple([*prompt, *rest][:-1]), len(prompt), len(rest), False)


def batch(rows: list[Row]) -> Tensor:
    ids = torch.zeros(len(rows), max(len(one.ids) for one in rows), dtype=torch.long)
    for at, one in enumerate(rows):
        ids[at, :len(one.ids)] = torch.tensor(one.ids)
    return ids


def logits_of(engine: TransformersEngine, plan: Plan | None, rows: list[Row]) -> list[Tensor]:
    return scored(engine)(rows, plan)[0]


def scored(engine: TransformersEngine) -> Any:
    """As SteeredLM's own, without lm-eval."""
    def call(rows: list[Row], plan: Plan | None) -> tuple[list[Tensor], list[Any]]:
        ids = batch(rows)
        with torch.no_grad():
            if plan is None:
                out, proofs = engine.model(ids).logits, []
            else:
                with steered(engine, plan, rows, ids) as run:
                    out = engine.model(ids).logits
                proofs = [one.own(proof) for one, proof in zip(rows, run.proof, strict=True)]
        return [out[at, len(one.ids) - one.scored:len(one.ids)]
                for at, one in enumerate(rows)], proofs

    return call


# ---- rows ----------------------------------------------------------------------------------------

def test_padding_is_the_zeros_at_the_end() -> None:
    assert unpadded([3, 0, 4, 0, 0]) == (3, 0, 4)
    assert unpadded([0, 0]) == ()


def test_rows_that_look_alike_and_are_not_are_told_apart() -> None:
    same, other_end = Row((5, 6, 7), 2, 2, False), Row((5, 6, 7), 3, 1, False)
    zero, padded = Row((5, 6, 0), 2, 2, False), Row((5, 6), 2, 1, False)
    assert apart([same, same, zero]) == [[0, 1, 2]]
    assert apart([same, other_end, same, other_end]) == [[0, 2], [1, 3]]
    assert apart([zero, padded]) == [[0], [1]]
    assert apart([]) == []


@pytest.mark.parametrize("where", ["all", "prompt", "t_inst", "tail", "response", "last(2)",
                                   "tail+response"])
def test_a_row_is_steered_as_it_would_be_alone(engine: TransformersEngine, where: str) -> None:
    plan = Plan(make_sae(), EDITS, positions=where)
    rows = [row(engine, "how many boats are there?", "two of them"), row(engine, "why", "so")]
    got = logits_of(engine, plan, rows)
    for one, logits in zip(rows, got, strict=True):
        ids = torch.tensor([one.ids])
        alone = replace(plan, positions=Positions(where, prompt_length=one.prompt))
        with torch.no_grad(), steer(engine.model, alone, tokenizer=engine.template):
            want = engine.model(ids).logits[0, -one.scored:]
        close(logits, want)
        with torch.no_grad():
            assert not torch.equal(engine.model(ids).logits[0, -one.scored:], want) \
                or where == "response"


def test_nothing_written_is_the_plain_forward_bit_for_bit(engine: TransformersEngine) -> None:
    rows = [row(engine, "how many boats are there?", "two"), row(engine, "why", "so it is")]
    plain = logits_of(engine, None, rows)
    for plan in (Plan(make_sae(), ()), Plan(make_sae(), EDITS, gate=Gate(lambda h: 0 * h[:, 0]))):
        for a, b in zip(plain, logits_of(engine, plan, rows), strict=True):
            assert torch.equal(a, b)


def test_hooks_are_gone_also_after_an_error(engine: TransformersEngine) -> None:
    rows = [row(engine, "why", "so")]
    plain = logits_of(engine, None, rows)
    with pytest.raises(ZeroDivisionError), steered(engine, Plan(make_sae(), EDITS), rows,
                                                   batch(rows)):
        _ = 1 / 0
    assert torch.equal(plain[0], logits_of(engine, None, rows)[0])
    assert not engine.model._forward_pre_hooks
    assert not engine.blocks.trunk._forward_pre_hooks


class Gate:
    """A gate by a function of the residual streams."""

    kind, threshold, categories = "test", 0.5, ()

    def __init__(self, risk: Any, layer: int = 1) -> None:
        self.read, self.hookpoint = risk, Hookpoint(layer)

    def risk(self, h: Tensor) -> Tensor:
        return self.read(h).double().cpu()


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_a_gate_reads_the_end_of_the_question_below_at_and_above(engine: TransformersEngine,
                                                                 layer: int) -> None:
    seen: list[Tensor] = []

    def risk(h: Tensor) -> Tensor:
        seen.append(h)
        return torch.tensor([1.0, 0.0])[:len(h)]

    plan = Plan(make_sae(), EDITS, positions="tail+response", gate=Gate(risk, layer))
    rows = [row(engine, "how many boats are there?", "two"), row(engine, "why", "so it is")]
    ids = batch(rows)
    with torch.no_grad():
        with steered(engine, plan, rows, ids) as run:
            engine.model(ids)
        assert [proof.fired for proof in run.proof] == [True, False]
        kept: list[Tensor] = []
        handle = engine.blocks.blocks[layer].register_forward_hook(
            lambda block, args, out: kept.append(out[0] if isinstance(out, tuple) else out))
        engine.model(ids)
        handle.remove()
    ends = engine.template.t_inst([one.ids[:one.prompt] for one in rows])
    assert engine.template.decode([rows[0].ids[ends[0]]]) in "? "
    close(seen[0], kept[0][torch.arange(2), torch.tensor(ends)])
    shut, free = logits_of(engine, plan, rows)[1], logits_of(engine, None, rows)[1]
    assert torch.equal(shut, free)
    opened = logits_of(engine, Plan(plan.sae, EDITS, positions="tail+response"), rows)[0]
    close(logits_of(engine, plan, rows)[0], opened)


# ---- reach ---------------------------------------------------------------------------------------

LETTERS = "ABCD"


def test_an_edit_after_the_prompt_does_not_reach_a_letter(engine: TransformersEngine) -> None:
    rows = [row(engine, f"which {n}?", LETTERS[n]) for n in range(3)]
    plan = Plan(make_sae(), EDITS, positions="response")
    with pytest.raises(EditError, match=r"(?s)3 of 3 rows.*continuation of one token.*MMLU.*"
                                        r"positions='tail\+response'"):
        reach(SUBJECT, plan, rows, scored(engine))
    found = reach(SUBJECT, replace(plan, positions="tail+response"), rows, scored(engine))
    assert found == (3, 3, False)
    longer = [row(engine, f"which {n}?", "this one") for n in range(3)]
    assert reach(SUBJECT, plan, longer, scored(engine)) == (3, 3, False)


def test_an_edit_of_the_last_block_before_the_scored_tokens_does_not_reach(
        engine: TransformersEngine) -> None:
    rows = [row(engine, "which?", "this one")]
    plan = Plan(make_sae(hookpoint=Hookpoint(3)), EDITS, positions="t_inst")
    with pytest.raises(EditError, match="move no scored logit of 1 rows"):
        reach(SUBJECT, plan, rows, scored(engine))
    lower = replace(plan, sae=make_sae(hookpoint=Hookpoint(2)))
    assert reach(SUBJECT, lower, rows, scored(engine)) == (1, 1, False)


def test_a_gate_that_stays_shut_is_tried_open(engine: TransformersEngine) -> None:
    rows = [row(engine, "which?", "this one")]
    plan = Plan(make_sae(), EDITS, positions="tail", gate=Gate(lambda h: 0 * h[:, 0]))
    assert reach(SUBJECT, plan, rows, scored(engine)) == (1, 1, False)
    assert reach(SUBJECT, replace(plan, edits=()), rows, scored(engine)) is None


def test_an_edit_that_lawfully_changes_nothing_is_told_from_one_out_of_reach(
        engine: TransformersEngine) -> None:
    rows = [row(engine, "which?", "this one")]
    plan = Plan(make_sae(), (Floor(5, -1e6),), positions="tail")
    assert reach(SUBJECT, plan, rows, scored(engine)) == (0, 1, True)


def test_a_reply_that_ends_at_once_is_no_reason_to_refuse_a_task(
        engine: TransformersEngine) -> None:
    rows = [row(engine, "which?", "A"), row(engine, "which?", "this one")]
    plan = Plan(make_sae(), EDITS, positions="response")
    assert reach(Subject("t", True), plan, rows, scored(engine)) == (1, 2, False)
    with pytest.raises(EditError, match="1 of 2 rows"):
        reach(SUBJECT, plan, rows, scored(engine))
    with pytest.raises(EditError, match="1 of 1 rows"):
        reach(Subject("t", True), plan, rows[:1], scored(engine))


# ---- settings and tasks --------------------------------------------------------------------------

def test_families_and_the_figure_that_stands_for_a_task() -> None:
    wanted = {"mmlu": "recall", "mmlu_anatomy": "recall", "truthfulqa_mc1": "recall",
              "gsm8k": "reasoning", "ifeval": "instructions", "a_task_of_mine": "other"}
    assert {name: family_of(name) for name in wanted} == wanted
    both = [("exact_match", "strict-match"), ("exact_match", "flexible-extract")]
    assert main_of("gsm8k", both) == both[1]
    assert main_of("gsm8k", [("acc", "none")]) == ("acc", "none")
    assert main_of("mine", both) == both[0]
    assert counts_hits("mmlu", [0.0, 1.0])
    assert not counts_hits("mmlu", [0.0, 0.5])
    assert not counts_hits("truthfulqa_mc2", [1.0, 1.0])


@pytest.mark.parametrize("name, value", [("limit", 0), ("batch_size", 0), ("num_fewshot", -1),
                                         ("max_gen_toks", 2.5), ("limit", True)])
def test_settings_that_mean_nothing_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name):
        TaskSettings(**{name: value})


def test_the_data_folder_is_the_one_given_or_the_environments(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STERNPOST_DATA", "/some/where")
    assert TaskSettings().folder == Path("/some/where")
    assert TaskSettings(data_dir="else").folder == Path("else")
    monkeypatch.delenv("STERNPOST_DATA")
    assert TaskSettings().folder is None


@pytest.mark.parametrize("task, says", [
    ("mmlu", r"mmlu/test/SUBJECT_test\.csv; columns: question, A, B, C, D.*licence: MIT"),
    ("mmlu_anatomy", r"mmlu/dev/anatomy_dev\.csv"),
    ("truthfulqa_mc1", r"truthfulqa/mc_task\.json; columns: .*mc1_targets.*licence: Apache-2\.0"),
    ("gsm8k", r"gsm8k/test\.jsonl; columns: question, answer.*licence: MIT.*--hub"),
    ("hellaswag", r"none that is read from local files \(gsm8k, mmlu.*--hub")])
def test_what_is_missing_is_named(tmp_path: Path, task: str, says: str) -> None:
    with pytest.raises(PromptFileError, match=f"(?s){says}"):
        load_tasks([task], TaskSettings(data_dir=tmp_path), tmp_path)


@pytest.mark.parametrize("reader, text, says", [
    ("mmlu", "what?,a,b,c,A\n", "row 1.*question, A, B, C, D"),
    ("mmlu", "what?,a,b,c,d,E\n", "row 1"),
    ("truthfulqa", '[{"question": "q"}]', "item 1.*mc1_targets"),
    ("truthfulqa", "{", "mc1_targets"), ("truthfulqa", "[]", "no row"),
    ("gsm8k", '{"question": "q"}\n', "line 1.*question, answer"), ("gsm8k", "", "no row")])
def test_a_file_with_other_columns_is_refused(tmp_path: Path, reader: str, text: str,
                                              says: str) -> None:
    (tmp_path / "file").write_text(text, encoding="utf-8")
    with pytest.raises(PromptFileError, match=says):
        READERS[reader](tmp_path / "file", "boats")


def test_rows_are_read_as_lm_eval_wants_them(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text('"what, then?",a,"b, or c",c,d,C\n', encoding="utf-8")
    assert READERS["mmlu"](file, "boats") == [
        {"question": "what, then?", "subject": "boats", "choices": ["a", "b, or c", "c", "d"],
         "answer": 2}]
    file.write_text('[{"question": "q", "mc1_targets": {"no": 0, "yes": 1}, "mc2_targets": '
                    '{"no": 0, "yes": 1, "nay": 0, "aye": 1}}]', encoding="utf-8")
    (one,) = READERS["truthfulqa"](file, "")
    assert one["mc1_targets"] == {"choices": ["yes", "no"], "labels": [1, 0]}
    assert one["mc2_targets"] == {"choices": ["yes", "aye", "no", "nay"], "labels": [1, 1, 0, 0]}


def test_without_lm_eval_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", None)
    monkeypatch.delitem(sys.modules, "sternpost.evaluation.harness_model", raising=False)
    with pytest.raises(MissingExtra, match=r"sternpost\[lm-eval\]"):
        run_tasks(None, {"baseline": None}, ["gsm8k"])
