"""A pack in a process of its own: without an SAE it gives the tokens of the plan that it was made
from; another model and another revision are refused by name."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sternpost
from sternpost.engines.templates import Template
from sternpost.engines.transformers import TransformersEngine
from sternpost.gates import Continuation, ResidualGate
from sternpost.packs.make import pack_body
from sternpost.policy import Level, follows
from sternpost.policy.responses import Doses, linear, step, until
from sternpost.sae import SAE
from sternpost.store import PackFiles, write_pack
from sternpost.trials.run_settings import RunSettings
from sternpost.types import Ablate, Add, Clamp, Floor, Hookpoint, NormCap, Plan

COMMITS = {"main": "a" * 40, "v2": "b" * 40}
PROMPTS = ("how do i bake a cake", "tell me a story of the sea", "hi", "what is that over there")
CODE = """
import json, sys
import torch
import sternpost
from sternpost.errors import PackError

pack = sternpost.load_pack(sys.argv[1])
out = {"source": pack.source, "revision": pack.files.body["model"]["revision"]}


def say(model, tokenizer, plan):
    texts = [tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False,
                                           add_generation_prompt=True) for text in PROMPTS]
    rows = tokenizer(texts, padding=True, padding_side="left", add_special_tokens=False,
                     return_tensors="pt")
    with torch.no_grad(), sternpost.steer(model, plan) as run:
        ids = model.generate(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"],
                             max_new_tokens=6, do_sample=False)
    return {"ids": ids.tolist(), "risk": [proof.risk for proof in run.proof],
            "continued": [proof.continued for proof in run.proof]}


def refused(model):
    try:
        with sternpost.steer(model, pack.at("high")):
            return None
    except PackError as error:
        return str(error)
"""
HERE = CODE.replace("import json, sys\n", "").partition("pack = ")[0] + \
    "def say" + CODE.partition("def say")[2].partition("def refused")[0]
"""`say` as the other process has it."""
THERE = CODE + """
model = sternpost.load_model("org/tiny")
out["levels"] = {level: say(*model, pack.at(level)) for level in pack.levels}
out["bare"] = say(*model, sternpost.Plan(pack.files.sae))
out["other model"] = refused(sternpost.load_model(sys.argv[2])[0])
out["other revision"] = refused(sternpost.load_model("org/tiny", revision="v2")[0])

from transformers import AutoModelForCausalLM

alone = {name: AutoModelForCausalLM.from_pretrained("org/tiny", revision=name).eval()
         for name in ("main", "v2")}
out["loaded by transformers"] = {name: refused(one) for name, one in alone.items()}
print(json.dumps(out))
"""


@dataclass(frozen=True)
class Made:
    """A pack, and what the plans that it was made from say in this process."""

    home: Path
    pack: Path
    levels: dict[str, Any]
    other: str


@pytest.fixture(scope="module")
def made(tiny_models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("process")
    in_the_hubs_cache(root / "home" / "hub", tiny_models["llama"])
    torch.manual_seed(1)
    sae = SAE(torch.randn(40, 32), torch.randn(40, 32), torch.randn(40), torch.randn(32),
              Hookpoint(1), k=4, threshold=torch.rand(40), residual_norm=3.5)
    gate = ResidualGate(Hookpoint(0), 5 * torch.randn(32), 0.1, 0.4)
    levels = {"off": Level(), "low": Level((Clamp(11, 3.0),), threshold=0.2), "high": Level(
        (Clamp(11, 9.0), Floor(29, 5.0), Add(torch.randn(32), 1.5), Ablate(3)),
        responses=(linear(0.1, 0.9), step(0.3, 2.0), until(0.45), step(0.0)), cap=NormCap(2.0))}
    more = Continuation(ResidualGate(Hookpoint(1), 5 * torch.randn(32), 0.1, 0.3), 1, 2)
    levels["max"] = Level((Clamp(11, 30.0),), 0.9, decay=0.7, continuation=more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(root / "home" / "hub"))
        model, tokenizer = sternpost.load_model("org/tiny")
        engine = TransformersEngine(model, Template(tokenizer))
        body = pack_body(engine, sae, RunSettings(model="org/tiny", unsafe="", safe="", out=""))
    directions = levels["high"].directions()
    write_pack(root / "pack", PackFiles(
        {**body, "levels": {name: level.as_dict(directions) for name, level in levels.items()}},
        sae.rows([3, 11, 29]), gate, [], {"levels": {}}, {}, "# card", directions=directions,
        follows=follows(levels.values())))
    space: dict[str, Any] = {"PROMPTS": PROMPTS}
    exec(HERE, space)
    high = levels["high"]
    plans = {"off": Plan(sae), "low": Plan(sae, levels["low"].edits, "threshold", gate=replace(
        gate, threshold=0.2)), "high": Plan(sae, high.edits, "threshold", gate=gate, policy=Doses(
            high.responses), cap=high.cap), "max": Plan(
                sae, levels["max"].edits, "threshold", gate=replace(gate, threshold=0.9),
                decay=0.7, continuation=more)}
    said = {name: space["say"](model, tokenizer, plan) for name, plan in plans.items()}
    return Made(root / "home", root / "pack", said, tiny_models["phi3"])


def in_the_hubs_cache(cache: Path, folder: str) -> None:
    """Two revisions of org/tiny, as the Hub's client keeps them."""
    repository = cache / "models--org--tiny"
    for revision, commit in COMMITS.items():
        shutil.copytree(folder, repository / "snapshots" / commit)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / revision).write_text(commit)
    weights = repository / "snapshots" / COMMITS["v2"] / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(bytes(data))


@pytest.fixture(scope="module")
def there(made: Made) -> dict[str, Any]:
    """What a fresh process says, that has the pack and the model and nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", f"PROMPTS = {PROMPTS!r}\n{THERE}", str(made.pack), made.other],
        env={**os.environ, "HF_HOME": str(made.home), "HF_HUB_OFFLINE": "1"}, capture_output=True,
        text=True, check=False, cwd=made.home, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_fresh_process_says_the_same_tokens(made: Made, there: dict[str, Any]) -> None:
    assert not list(made.home.parent.rglob("sae.safetensors"))
    assert there["levels"] == made.levels
    said = {name: there["levels"][name]["ids"] for name in ("off", "low", "high")}
    assert said["off"] == there["bare"]["ids"]
    assert len({json.dumps(ids) for ids in said.values()}) == 3
    assert any(there["levels"]["max"]["continued"])
    risks = there["levels"]["high"]["risk"]
    assert min(risks) < 0.3 < max(risks)  # the responses have something to tell apart


@pytest.mark.slow
def test_another_model_and_another_revision_are_refused_by_name(made: Made,
                                                                there: dict[str, Any]) -> None:
    assert (there["source"], there["revision"]) == ("org/tiny", COMMITS["main"])
    assert f"is for org/tiny@{COMMITS['main']}; the model {made.other} " in there["other model"]
    assert "config.json, model.safetensors differ" in there["other model"]
    assert f"the model org/tiny@{COMMITS['v2']} " in there["other revision"]
    assert ": model.safetensors differ" in there["other revision"]
    alone = there["loaded by transformers"]  # which does not tell which revision that was
    assert alone["main"] is None
    assert f"is for org/tiny@{COMMITS['main']}; this model's weights are others" in alone["v2"]
