"""Trainings that are killed at random, that several processes share, and that run for longer."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import sternpost
from sternpost.files import read_json

pytestmark = pytest.mark.slow


def corpus(folder: Path, documents: int = 60) -> str:
    rows = [{"prompt": f"How much is {i} and {i % 9}?", "response": f"It is {i + i % 9}. " * 3}
            for i in range(documents)]
    (folder / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "chat.jsonl")


def recipe(folder: Path, model: str, **changes: Any) -> Path:
    told = {"model": model, "layers": [1, 2], "corpus": [corpus(folder)], "d_sae": 64, "k": 4,
            "tokens": 120 * 64, "batch": 64, "buffer": 512, "context": 64, "every": 7,
            "dead_after": 640, **changes}
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in told.items()
                   if value is not None)
    (folder / "recipe.toml").write_text(text)
    return folder / "recipe.toml"


KILLED = """
import os, random, signal, sys, time
import torch
torch.set_num_threads(1)
import sternpost.jobs.train
from sternpost.cli import main
rng, words = random.Random(7), sys.argv[1:]
left, shortest = 20, 0.3
while True:
    child = os.fork()
    if child == 0:
        main(words)
        os._exit(0)
    started, done = time.time(), (0, 0)
    wait = rng.uniform(shortest, 2.2) if left else 600
    while done[0] == 0 and time.time() - started < wait:
        time.sleep(0.002)
        done = os.waitpid(child, os.WNOHANG)
    if done[0]:
        assert done[1] == 0, done
        print(20 - left)
        break
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    left -= 1
"""


def weights(out: Path) -> dict[str, torch.Tensor]:
    return {f"{layer} {name}": getattr(sternpost.load_sae(out / f"layers.{layer}"), name)
            for layer in (1, 2) for name in ("W_enc", "W_dec", "b_enc", "threshold")}


def test_kills_at_random_moments_change_no_bit(tiny_models: dict[str, str],
                                               tmp_path: Path) -> None:
    words = ["train", str(recipe(tmp_path, tiny_models["llama"], tokens=2000 * 64)), "--out"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    for out, script in ((straight, ["-m", "sternpost"]), (killed, ["-c", KILLED])):
        done = subprocess.run([sys.executable, *script, *words, str(out), "--resume"], env=env,
                              capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) == 20, "it was done before it was killed often enough"
    mine, theirs = weights(killed), weights(straight)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert not list(killed.rglob("*.tmp"))
    assert not (killed / "stages").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_from_outside_loses_no_step(tiny_models: dict[str, str], tmp_path: Path,
                                             number: signal.Signals) -> None:
    out, path = tmp_path / "out", recipe(tmp_path, tiny_models["llama"], tokens=20_000 * 64)
    words = [sys.executable, "-m", "sternpost", "train", str(path), "--out", str(out)]
    running = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    metrics = out / "metrics.jsonl"
    while not metrics.exists() or metrics.read_text().count("\n") < 4:
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(number)
    said = running.communicate(timeout=60)[1]
    assert running.returncode == (143 if number == signal.SIGTERM else 130)
    assert "Traceback" not in said
    step = read_json(out / "stages/training/latest.json")["step"]
    seen = json.loads(metrics.read_text().splitlines()[-1])["step"]
    assert step >= seen  # a line every so many steps; the checkpoint is of the very last


SHARED = """
import sys
import torch
from sternpost.training.team import Team, end
from sternpost.sae.settings import TrainSettings
from sternpost.sae.train import Trainer
torch.set_num_threads(1)
kind, out = sys.argv[1:]
g = torch.Generator().manual_seed(3)
data = torch.randn(20, 64, 16, generator=g, dtype=torch.float64)
with Team() as team:
    how = TrainSettings(48, 4, 20, 64, lr=3e-3, kind=kind, dead_after=3, aux_weight=0.5,
                        multi_weight=1 / 8 if kind == "topk" else 0.0, prefixes=(12, 48))
    trainer = Trainer(how, torch.zeros(16, dtype=torch.float64), 1.0, team.add_up)
    trainer.b_enc[36:] -= 1.5
    dead = 0.0
    for step in range(20):
        found = trainer.update(data[step, team.process::team.processes])
        dead = max(dead, found.dead_fraction)
    assert dead > 0
    if team.leads:
        torch.save({**trainer.learned, "fvu": torch.tensor(found.fvu), "level":
                    trainer.log_threshold}, out)
end()
"""


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "jumprelu"])
def test_two_processes_have_the_weights_of_one(kind: str, tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text(SHARED)
    ends = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.pt"
        torchrun(processes, [str(tmp_path / "shared.py"), kind, str(out)])
        ends.append(torch.load(out, weights_only=True))
    assert ends[0].keys() == ends[1].keys()
    for name, tensor in ends[0].items():
        assert torch.allclose(tensor, ends[1][name], rtol=0, atol=1e-6), name
    assert (ends[0]["W_enc"] - ends[0]["W_dec"]).abs().max() > 1e-3


def torchrun(processes: int, words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--nproc-per-node",
                           str(processes), "--master-port", str(random.randint(20_000, 40_000)),
                           *words], capture_output=True, text=True, timeout=300, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("harvested", [True, False])
def test_two_processes_end_at_the_fvu_of_one(tiny_models: dict[str, str], tmp_path: Path,
                                             harvested: bool) -> None:
    """From a harvest they see the same batches as one; reading a corpus, each its own documents."""
    path = recipe(tmp_path, tiny_models["llama"], tokens=400 * 64, buffer=2048)
    if harvested:
        sternpost.harvest(model=tiny_models["llama"], layers=(1, 2), out=str(tmp_path / "acts"),
                          corpus=(corpus(tmp_path),), tokens=20_000, context=64)
        path = recipe(tmp_path, tiny_models["llama"], tokens=400 * 64, corpus=[],
                      activations=str(tmp_path / "acts"))
    fvu = {}
    for processes in (1, 2):
        out = tmp_path / f"out-{processes}"
        torchrun(processes, ["-m", "sternpost", "train", str(path), "--out", str(out)])
        fvu[processes] = [sae["fvu"] for sae in read_json(out / "results.json")["saes"]]
    assert fvu[2] == pytest.approx(fvu[1], rel=0.005 if harvested else 0.2)


MEMORY = """
import sys
import torch
torch.set_num_threads(1)
import sternpost
verb, model, corpus, tokens, out = sys.argv[1:]
getattr(sternpost, verb)(model=model, layers=(1,), corpus=(corpus,), tokens=int(tokens), out=out,
                         d_sae=256, k=4, batch=256, buffer=8192, context=64, every=50)
status = open("/proc/self/status").read()  # getrusage would count the parent's peak too
print(status.split("VmHWM:")[1].split()[0])
"""


@pytest.mark.parametrize("verb", ["train", "harvest"])
def test_memory_does_not_grow_with_the_tokens(tiny_models: dict[str, str], tmp_path: Path,
                                              verb: str) -> None:
    peaks = []
    for tokens in (70_000, 700_000):
        path = corpus(tmp_path, tokens // 50)
        done = subprocess.run([sys.executable, "-c", MEMORY, verb, tiny_models["llama"], path,
                               str(tokens), str(tmp_path / f"{verb}-{tokens}")],
                              capture_output=True, text=True, timeout=900, check=False,
                              env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr[-2000:]
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] <= 1.05 * peaks[0]
