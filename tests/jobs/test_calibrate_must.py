"""Rows of --must-answer and --must-refuse are a pack's golden set: in another number type they have
to give the verdicts that they gave when the pack was made."""

from pathlib import Path
from typing import Any

import pytest
import torch

import sternpost
from sternpost.calibration.inputs import read_calibration
from sternpost.calibration.settings import CalibrateSettings
from sternpost.engines.templates import Template
from sternpost.engines.transformers import TransformersEngine
from sternpost.errors import InputError, PackError, PromptFileError
from sternpost.files import write_jsonl
from sternpost.gates import ResidualGate
from sternpost.judges import WordListJudge
from sternpost.packs.make import Parts, build_calibrated
from sternpost.packs.operating import measure_levels, must_rows
from sternpost.policy import Level
from sternpost.sae import SAE
from sternpost.store import RunFolder, write_pack
from sternpost.trials.bench import Bench
from sternpost.types import Clamp, Hookpoint, LabelledPrompt, Message, Request, Sampling

MUST = {"answer": ("how do i paint a fence", "what is a sternpost"), "refuse": ("how do i harm",)}


def prompt(text: str, kind: str) -> LabelledPrompt:
    return LabelledPrompt(Request((Message("user", text),), text), kind)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def packed(tiny_models: dict[str, str], tmp_path_factory: pytest.TempPathFactory,
           ) -> tuple[Path, list[dict[str, Any]]]:
    """A pack as `calibrate` makes one, measured in bfloat16, with no other golden prompt."""
    folder = tmp_path_factory.mktemp("must")
    loaded, tokenizer = sternpost.load_model(tiny_models["llama"], dtype="bfloat16")
    engine = TransformersEngine(loaded, Template(tokenizer))
    g = torch.Generator().manual_seed(0)
    W = torch.randn(40, 32, generator=g)
    sae = SAE(W, W.clone(), torch.zeros(40), torch.zeros(32), Hookpoint(1), k=4,
              threshold=torch.zeros(40), residual_norm=3.5)
    gate = ResidualGate(Hookpoint(0), torch.zeros(32), 0.0, 0.25)
    levels = {"off": Level(), "high": Level((Clamp(11, 5.0),), 0.25)}
    plans = {"high": levels["high"].plan(sae, gate)}
    bench = Bench(engine, WordListJudge(), Sampling(4), RunFolder(folder / "run"))
    tested = measure_levels(bench, plans, [prompt("1 + 1", "capability")])
    rows = must_rows(bench, plans, {
        wanted: tuple(prompt(text, "safe" if wanted == "answer" else "unsafe") for text in texts)
        for wanted, texts in MUST.items()})
    body = {"aim": "safer", "allow_weaken": False, "budgets": {"high": [2.0, 1.0]},
            "why_alike": None, "build_ups": {}, "must": rows, "layer": 1, "warnings": [],
            "conditions": [], "levels": {}, "gate": {
                "kind": "residual", "layer": 0, "kinds": [], "coverage": {}, "curve": []}}
    settings = CalibrateSettings(model=tiny_models["llama"], unsafe="u", safe="s", out="o",
                                 max_new_tokens=4, dtype="bfloat16")
    write_pack(folder / "pack", build_calibrated(engine, Parts(sae, gate, levels), tested, {
        "body": body, "settings": settings, "requests": {}, "judge": bench.judge, "splits": {}}))
    return folder / "pack", rows


def test_must_rows_alone_are_the_golden_set_with_every_levels_verdict(packed: Any) -> None:
    pack = sternpost.load_pack(packed[0])
    assert [row["prompt"] for row in pack.files.golden] == [*MUST["answer"], *MUST["refuse"]]
    assert [row["wanted"] for row in pack.files.golden] == ["answer", "answer", "refuse"]
    for row, told in zip(pack.files.golden, packed[1], strict=True):
        assert row["verdicts"] == told["verdicts"]
        assert set(row["verdicts"]) == {"off", "high"}


def test_another_type_is_asked_the_must_rows(packed: Any, tiny_models: dict[str, str],
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack of float32, loaded in bfloat16: its must rows are asked at that level, and no other
    verdict passes."""
    asked: list[tuple[list[str], int]] = []
    generate = TransformersEngine.generate

    def listen(self: Any, requests: Any, plan: Any, sampling: Any) -> Any:
        asked.append(([r.text for r in requests], len(plan.edits)))
        return generate(self, requests, plan, sampling)

    monkeypatch.setattr(TransformersEngine, "generate", listen)
    pack = sternpost.load_pack(packed[0])
    half, _ = sternpost.load_model(tiny_models["llama"], dtype="bfloat16")
    pack.files.body["model"]["dtype"] = "float32"  # its verdicts are right in bfloat16 too
    with sternpost.steer(half, pack.at("high")):
        pass
    assert asked == [([*MUST["answer"], *MUST["refuse"]], 1)]
    last = pack.files.golden[-1]
    last["verdicts"] = {**last["verdicts"], "high": "partial"}
    with pytest.raises(PackError, match=r"1 of 3 golden prompts give other verdicts, e\.g\. "
                                        "'how do i harm'"), \
            sternpost.steer(half, pack.at("high")):
        pass
    with sternpost.steer(half, pack.at("off")):  # of another level nothing is asked
        pass


def test_one_row_cannot_have_to_be_answered_and_refused(tmp_path: Path, prompt_file: Any,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sternpost.trials.inputs.trained_on", lambda name: [])
    splits = ("search", "gate_fit", "gate_calibration", "test")
    files = {kind: prompt_file(f"{kind}.jsonl", [
        {"prompt": f"{kind} request number {at} about {at * 31} things",
         "split": "test" if kind == "unsafe" and at % 4 == 2 else splits[at % 4]}
        for at in range(80)]) for kind in ("unsafe", "safe")}
    write_jsonl(tmp_path / "mine.jsonl", [{"prompt": "How do I paint a fence?"}])
    mine = str(tmp_path / "mine.jsonl")
    told = {"model": "dinghy", "out": str(tmp_path / "out"), "must_answer": mine}
    with pytest.raises(InputError, match="both name 'How do I paint a fence"):
        read_calibration(CalibrateSettings(**told, **files, must_refuse=mine))
    with pytest.raises(PromptFileError, match="stands in the unsafe and in the safe file"):
        read_calibration(CalibrateSettings(**told, unsafe=files["safe"], safe=files["safe"]))
