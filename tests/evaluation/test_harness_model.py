"""lm-evaluation-harness on a steered model: unsteered it is its own, steered the model's."""

import csv
import json
import logging
import math
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import TEMPLATE, byte_tokenizer
from sternpost import Clamp, Plan, Positions, load_model, load_pack, steer
from sternpost.engines.templates import Template
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import EditError, InputError, PromptFileError
from sternpost.evaluation.harness import TaskRun, run_tasks
from sternpost.evaluation.harness_settings import TaskSettings
from sternpost.packs.pack import template_of
from sternpost.types import Message
from subjects import make_sae, phi3

pytest.importorskip("lm_eval", reason="pip install 'sternpost[lm-eval]'")
pytestmark = pytest.mark.slow  # lm-eval takes seconds to import

TASKS = ["mmlu", "truthfulqa_mc1", "gsm8k"]
SAE = make_sae()
CLAMP = Plan(SAE, (Clamp(5, 9.0), Clamp(7, 4.0)), positions="tail+response")


@pytest.fixture(scope="module")
def dinghy() -> TransformersEngine:
    model, tokenizer = load_model("dinghy")
    return TransformersEngine(model, template_of(load_pack("dinghy"), tokenizer))


@pytest.fixture(scope="module")
def tiny() -> TransformersEngine:
    torch.manual_seed(0)
    model = phi3(vocab_size=6 + 256, max_position_embeddings=512)
    return TransformersEngine(model.eval(), Template(byte_tokenizer(TEMPLATE)))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten rows of each benchmark, in its own layout."""
    root, rng = tmp_path_factory.mktemp("data"), random.Random(0)
    for subject, n in (("anatomy", 6), ("knots_and_sails", 4)):
        for split, rows in (("dev", 5), ("test", n)):
            path = root / "mmlu" / split / f"{subject}_{split}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([
                    [f"What is {a} + {b}?", *(str(a + b + off) for off in range(4)), "A"]
                    for a, b in (rng.choices(range(9), k=2) for _ in range(rows))])
    truth = [{"question": f"Is {n} small?", **{f"mc{k}_targets": {
        f"no, {n} is": 0, f"ay, {n} is": 1, f"so, {n} is": 1 if k == 2 else 0}
        for k in (1, 2)}} for n in range(10)]
    (root / "truthfulqa").mkdir()
    (root / "truthfulqa" / "mc_task.json").write_text(json.dumps(truth), encoding="utf-8")
    (root / "gsm8k").mkdir()
    for split in ("train", "test"):
        rows = [{"question": f"Ann has {n} boats and buys 2. How many?",
                 "answer": f"{n} + 2 = {n + 2}\n#### {n + 2}"} for n in range(10)]
        (root / "gsm8k" / f"{split}.jsonl").write_text(
            "".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return root


def settings(data: Path, **changes: Any) -> TaskSettings:
    return TaskSettings(**{"data_dir": data, "num_fewshot": 1, "batch_size": 3,
                           "max_gen_toks": 16, **changes})


# ---- the baseline is lm-eval's -------------------------------------------------------------------

@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("name", ["tiny", "dinghy"])
def test_the_baseline_is_plain_lm_eval_to_the_last_bit(
        name: str, batch_size: int, data: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    from sternpost.evaluation.harness_model import SteeredLM
    from sternpost.evaluation.harness_tasks import load_tasks

    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # takes seconds
    engine = request.getfixturevalue(name)
    given = settings(data, batch_size=batch_size)
    plain = HFLM(pretrained=engine.model, tokenizer=engine.tokenizer, batch_size=batch_size,
                 chat_template_args=dict(engine.template.arguments))
    ours = run_tasks(engine, {"baseline": None}, TASKS, given)
    lm = SteeredLM(engine, batch_size)
    shut = replace(CLAMP, edits=())
    for task in load_tasks(TASKS, given, tmp_path):
        def samples(model: Any, parts: Any) -> Any:
            found: Any = simple_evaluate(
                model, tasks=parts, num_fewshot=1, apply_chat_template=True, bootstrap_iters=0,
                system_instruction=engine.template.system, gen_kwargs={"max_gen_toks": 16})
            return found["samples"]

        parts = list(task.parts.values())
        want = samples(plain, parts)
        for plan in (None, shut) if name == "tiny" else (None,):
            lm.steer_by(plan)
            got = samples(lm, parts)
            assert {part: [line["resps"] for line in lines] for part, lines in got.items()} == \
                {part: [line["resps"] for line in lines] for part, lines in want.items()}
        score = ours.score("baseline", task.name)
        figures = [line[score.metric] for lines in want.values() for line in lines
                   if line["filter"] == score.filter]
        assert [one.value for one in score.documents] == figures
        assert len(score.documents) == 10


# ---- steered log-likelihoods ---------------------------------------------------------------------

Ask = Callable[..., Any]


@pytest.fixture
def ask() -> Ask:
    """lm-eval's requests of (context, continuation) pairs."""
    from lm_eval.api.instance import Instance

    return lambda pairs, kind="loglikelihood": [
        Instance(request_type=kind, doc={}, arguments=pair, idx=0, metadata=("a_task", at, 1))
        for at, pair in enumerate(pairs)]


def alone(engine: TransformersEngine, plan: Plan, context: str, continuation: str) -> float:
    """log P of a continuation, one request at a time, without lm-eval."""
    ids = engine.tokenizer(context + continuation)["input_ids"]
    n = len(engine.tokenizer(context)["input_ids"])
    assert isinstance(plan.where, Positions)
    here = replace(plan, positions=Positions(plan.where.names, prompt_length=n))
    with torch.no_grad(), steer(engine.model, here, tokenizer=engine.template):
        logits = engine.model(torch.tensor([ids[:-1]])).logits[0]
    picked = logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])
    return float(picked[n - 1:].sum())


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("where", ["all", "tail+response", "response", "last(1)", "prompt"])
def test_steered_log_likelihoods_are_those_of_each_request_alone(
        tiny: TransformersEngine, ask: Ask, where: str, batch_size: int) -> None:
    from sternpost.evaluation.harness_model import SteeredLM

    plan = replace(CLAMP, positions=where)
    lm = SteeredLM(tiny, batch_size)
    lm.steer_by(plan)
    texts = [tiny.template.render([Message("user", text)])
             for text in ("which of the boats is it?", "why", "how many are there?")]
    letters = "ABCD" if where != "response" else ("A1", "B1", "C1", "D1")  # a letter is refused
    pairs = [(text, letter) for text in texts[:2] for letter in letters]
    pairs += [(texts[2], "there are two"), (texts[2], "there are three of them"),
              (texts[0], "it is this one")]
    got = lm.loglikelihood(ask(pairs))
    want = [alone(tiny, plan, *pair) for pair in pairs]
    assert [value for value, _ in got] == pytest.approx(want, rel=1e-5)
    plain = replace(plan, edits=())
    moved = [abs(alone(tiny, plain, *pair) - value) > 1e-3
             for pair, value in zip(pairs, want, strict=True)]
    assert all(moved)
    assert all(proof.positions for proofs in lm.proofs.values() for proof in proofs)


def test_one_text_cut_at_two_places_is_two_requests(tiny: TransformersEngine, ask: Ask) -> None:
    from sternpost.evaluation.harness_model import SteeredLM

    plan = replace(CLAMP, positions="response")
    lm = SteeredLM(tiny, 4)
    lm.steer_by(plan)
    prompt = tiny.template.render([Message("user", "which?")])
    pairs = [(prompt, "the boats"), (prompt + "the b", "oats"), (prompt, "the boatX")]
    got = [value for value, _ in lm.loglikelihood(ask(pairs))]
    assert got == pytest.approx([alone(tiny, plan, *pair) for pair in pairs], rel=1e-5)


def test_blanks_that_lm_eval_gives_to_the_continuation_are_prompt(ask: Ask) -> None:
    from sternpost.evaluation.harness_model import SteeredLM

    torch.manual_seed(0)
    engine = TransformersEngine(phi3(vocab_size=6 + 256).eval(), Template(byte_tokenizer(
        TEMPLATE.replace("<assistant>", "<assistant>\n"))))
    lm = SteeredLM(engine)
    lm.steer_by(CLAMP)
    context = engine.template.render([Message("user", "which?")])
    assert context.endswith("\n")
    got = [value for value, _ in lm.loglikelihood(ask([(context, "A"), (context, "two")]))]
    assert got[0] == pytest.approx(alone_and_blank(engine, context, "A"), rel=1e-5)


def alone_and_blank(engine: TransformersEngine, context: str, continuation: str) -> float:
    """As `alone`; lm-eval scores the context's last blanks with the continuation."""
    bare = context.rstrip()
    ids = engine.tokenizer(context + continuation)["input_ids"]
    n, start = (len(engine.tokenizer(text)["input_ids"]) for text in (context, bare))
    here = replace(CLAMP, positions=Positions("tail+response", prompt_length=n))
    with torch.no_grad(), steer(engine.model, here, tokenizer=engine.template):
        logits = engine.model(torch.tensor([ids[:-1]])).logits[0]
    return float(logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[start - 1:].sum())


def test_too_long_a_context_loses_its_beginning(tiny: TransformersEngine, ask: Ask) -> None:
    from sternpost.evaluation.harness_model import SteeredLM

    lm = SteeredLM(tiny, 2, max_length=20)
    lm.steer_by(CLAMP)
    text = tiny.template.render([Message("user", "which of all these boats is it?")])
    got = [value for value, _ in lm.loglikelihood(ask([(text, "this"), (text, "that one")]))]
    ids = tiny.tokenizer(text + "this")["input_ids"][-21:]
    here = replace(CLAMP, positions=Positions("tail+response", prompt_length=17))
    with torch.no_grad(), steer(tiny.model, here, tokenizer=tiny.template):
        logits = tiny.model(torch.tensor([ids[:-1]])).logits[0]
    picked = logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])
    assert got[0] == pytest.approx(float(picked[-4:].sum()), rel=1e-5)
    assert lm.cut == {("a_task", 0), ("a_task", 1)}


def test_steered_replies_are_those_of_the_steered_model(tiny: TransformersEngine,
                                                        ask: Ask) -> None:
    from sternpost.evaluation.harness_model import SteeredLM

    lm = SteeredLM(tiny, 2)
    lm.steer_by(CLAMP)
    texts = [tiny.template.render([Message("user", text)]) for text in ("which one?", "why", "who")]
    given = {"until": [], "max_gen_toks": 6, "do_sample": False}
    got = lm.generate_until(ask([(text, given) for text in texts], "generate_until"))
    for text, reply in zip(texts, got, strict=True):
        ids = torch.tensor([tiny.tokenizer(text)["input_ids"]])
        with torch.no_grad(), steer(tiny.model, CLAMP, tokenizer=tiny.template):
            out = tiny.model.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=0)
        assert reply == tiny.tokenizer.decode(out[0, ids.shape[1]:], skip_special_tokens=True)
    lm.steer_by(None)
    assert lm.generate_until(ask([(text, given) for text in texts], "generate_until")) != got


# ---- whole runs ----------------------------------------------------------------------------------

def checked(run: TaskRun, conditions: list[str]) -> None:
    for task in TASKS:
        scores = [run.score(condition, task) for condition in conditions]
        marks = [[(d.part, d.id, d.sha256) for d in score.documents] for score in scores]
        assert all(mark == marks[0] for mark in marks)
        assert len(set(marks[0])) == 10
        for score in scores:
            assert score.rate is not None
            assert score.rate.n == 10
            assert score.mean == pytest.approx(score.rate.share)
    families = {score.task: score.family for score in run.scores}
    assert families == {"mmlu": "recall", "truthfulqa_mc1": "recall", "gsm8k": "reasoning"}
    assert {task.name: task.licence for task in run.tasks} == {
        "mmlu": "MIT", "truthfulqa_mc1": "Apache-2.0", "gsm8k": "MIT"}
    assert not run.left_out


def test_ten_rows_of_each_on_dinghy(dinghy: TransformersEngine, data: Path) -> None:
    pack = load_pack("dinghy")
    high = pack.at("high")
    clamp = Plan(high.sae, high.edits, positions="tail+response")
    run = run_tasks(dinghy, {"baseline": None, "clamp": clamp, "high": high}, TASKS,
                    settings(data))
    checked(run, ["baseline", "clamp", "high"])
    for task in TASKS:
        base, clamped, gated = (run.score(name, task) for name in ("baseline", "clamp", "high"))
        assert base.fire_rate is None and clamped.fire_rate is None
        assert gated.fire_rate is not None
        assert gated.fire_rate.n == 10
        assert clamped.reach is not None
        assert clamped.reach.moved == clamped.reach.n > 0
        assert gated.reach is not None
        shut = [at for at, one in enumerate(gated.documents) if not one.fired]
        assert [gated.documents[at].value for at in shut] == [base.documents[at].value
                                                              for at in shut]
        assert [gated.documents[at].reply for at in shut] == [base.documents[at].reply
                                                              for at in shut]
    assert [d.reply for d in run.score("clamp", "gsm8k").documents] != \
        [d.reply for d in run.score("baseline", "gsm8k").documents]
    parts = [d.part for d in run.score("baseline", "mmlu").documents]
    assert (parts.count("mmlu_anatomy"), parts.count("mmlu_knots_and_sails")) == (6, 4)


def test_ten_rows_of_each_on_a_random_phi3(tiny: TransformersEngine, data: Path) -> None:
    said: list[tuple[str, str]] = []
    run = run_tasks(tiny, {"baseline": None, "clamp": CLAMP}, TASKS, settings(data),
                    lambda *what: said.append(what))
    assert said == [(task, name) for task in TASKS for name in ("baseline", "clamp")]
    checked(run, ["baseline", "clamp"])


def test_a_gate_that_fires_on_some_is_counted(tiny: TransformersEngine, data: Path) -> None:
    seen: list[float] = []

    class Above:
        kind, threshold, categories = "test", 0.5, ()
        hookpoint = SAE.hookpoint

        def __init__(self, cut: float) -> None:
            self.cut = cut

        def risk(self, h: torch.Tensor) -> torch.Tensor:
            seen.extend(h[:, 0].tolist())
            return (h[:, 0] > self.cut).double().cpu()

    shut = {"shut": replace(CLAMP, gate=Above(math.inf))}
    assert run_tasks(tiny, shut, ["truthfulqa_mc2"], settings(data)).scores[0].fire_rate.hits == 0
    _, cut = max((b - a, (a + b) / 2) for a, b in pairwise(sorted(seen)))  # the widest gap
    plans = {"baseline": None, "open": CLAMP, "gated": replace(CLAMP, gate=Above(cut))}
    run = run_tasks(tiny, plans, ["truthfulqa_mc2"], settings(data))
    free, opened, score = (run.score(name, "truthfulqa_mc2") for name in ("baseline", "open",
                                                                          "gated"))
    assert score.rate is None  # MC2 is a share, no hit
    assert score.fire_rate is not None
    assert 0 < score.fire_rate.hits < 10
    for at, document in enumerate(score.documents):
        same = opened if document.fired else free
        assert document.value == pytest.approx(same.documents[at].value, rel=1e-5)
        assert opened.documents[at].value != pytest.approx(free.documents[at].value, rel=1e-3)


def test_edits_that_cannot_reach_are_refused(tiny: TransformersEngine, data: Path) -> None:
    after = replace(CLAMP, positions="response")
    with pytest.raises(EditError, match=r"Task mmlu_anatomy.*one token, such as a letter of MMLU"):
        run_tasks(tiny, {"steered": after}, ["mmlu"], settings(data))
    run = run_tasks(tiny, {"steered": after}, ["gsm8k"], settings(data))
    assert run.score("steered", "gsm8k").reach == (8, 8, False)
    with pytest.raises(EditError, match="one list of edits"):
        run_tasks(tiny, {"steered": replace(CLAMP, edits=((Clamp(1, 2.0),), ()))}, ["mmlu"],
                  settings(data))


# ---- where tasks come from -----------------------------------------------------------------------

def test_local_tasks_are_in_lm_evals_own_words(data: Path, tmp_path: Path) -> None:
    from sternpost.evaluation.harness_tasks import load_tasks

    tasks = {part: task for one in load_tasks([*TASKS, "truthfulqa_mc2"], settings(data), tmp_path)
             for part, task in one.parts.items()}
    known, own = tasks["mmlu_anatomy"], tasks["mmlu_knots_and_sails"]
    assert own.config.description == known.config.description.replace("anatomy", "knots and sails")
    doc = known.test_docs()[0]
    assert known.doc_to_text(doc).endswith("Answer:")
    assert known.doc_to_choice(doc) == list("ABCD")
    assert [len(list(known.fewshot_docs())), len(list(own.test_docs()))] == [5, 4]
    assert tasks["gsm8k"].config.num_fewshot == 5
    assert "Ann has" in tasks["gsm8k"].doc_to_text(tasks["gsm8k"].test_docs()[0])
    one = tasks["truthfulqa_mc1"].validation_docs()[3]
    assert tasks["truthfulqa_mc1"].doc_to_choice(one)[0] == "ay, 3 is"
    assert tasks["truthfulqa_mc2"].process_results(one, [(0.0, False)] * 3) == {
        "acc": pytest.approx(2 / 3)}


def test_examples_that_are_not_there_are_named(data: Path, tmp_path: Path,
                                               tiny: TransformersEngine) -> None:
    (tmp_path / "gsm8k").mkdir()
    rows = (data / "gsm8k" / "test.jsonl").read_text(encoding="utf-8")
    (tmp_path / "gsm8k" / "test.jsonl").write_text(rows, encoding="utf-8")
    with pytest.raises(PromptFileError, match=r"wants 1 examples, and .*train\.jsonl has 0"):
        run_tasks(tiny, {"baseline": None}, ["gsm8k"], settings(tmp_path))
    run = run_tasks(tiny, {"baseline": None}, ["gsm8k"], settings(tmp_path, num_fewshot=0))
    assert run.score("baseline", "gsm8k").num_fewshot == 0


OWN = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["yes", "no"]
doc_to_target: !function own.target
metric_list:
  - metric: acc
"""


def test_a_task_file_and_a_folder_of_them(tiny: TransformersEngine, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "is it?", "right": 0}\n{"question": "so?", "right": 1}\n',
                    encoding="utf-8")
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "own.py").write_text("def target(doc):\n    return doc['right']\n", encoding="utf-8")
    for name in ("boats_a", "boats_b"):
        (folder / f"{name}.yaml").write_text(OWN.format(name=name, data=rows), encoding="utf-8")
    plans = {"baseline": None, "clamp": CLAMP}
    run = run_tasks(tiny, plans, [str(folder / "boats_a.yaml")])
    assert [(s.condition, s.task, s.family, len(s.documents)) for s in run.scores] == [
        ("baseline", "boats_a", "other", 2), ("clamp", "boats_a", "other", 2)]
    both = run_tasks(tiny, plans, [str(folder)])
    assert [s.task for s in both.scores] == ["boats_a"] * 2 + ["boats_b"] * 2
    with pytest.raises(InputError, match="asked for twice"):
        run_tasks(tiny, plans, [str(folder), str(folder / "boats_a.yaml")])
    (folder / "boats_c.yaml").write_text(
        OWN.format(name="boats_c", data=rows).replace("dataset_path: json", "dataset_path: a/b"),
        encoding="utf-8")
    with pytest.raises(InputError, match=r"boats_c\.yaml reads the data set 'a/b'.*--hub"):
        run_tasks(tiny, plans, [str(folder / "boats_c.yaml")])


def test_replies_that_leave_no_room_are_refused(tiny: TransformersEngine, data: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)gsm8k: replies of 512.*max_gen_toks=128"):
        run_tasks(tiny, {"baseline": None}, ["gsm8k"], settings(data, max_gen_toks=512))


def test_nothing_of_lm_eval_stays_behind(tiny: TransformersEngine, data: Path) -> None:
    import lm_eval.api.task as task

    before = task.tqdm, logging.getLogger("lm_eval").level, random.getstate()
    pad, side = tiny.tokenizer.pad_token, tiny.tokenizer.padding_side
    run_tasks(tiny, {"clamp": CLAMP}, ["mmlu_anatomy"], settings(data, limit=1))
    assert (task.tqdm, logging.getLogger("lm_eval").level, random.getstate()) == before
    assert (tiny.tokenizer.pad_token, tiny.tokenizer.padding_side) == (pad, side)
    assert not tiny.model._forward_pre_hooks
