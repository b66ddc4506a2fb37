"""`train` and `harvest` on a tiny model: what is written, that a stop changes nothing, errors."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sternpost
from sternpost.errors import (
    HookpointError,
    InputError,
    MissingExtra,
    OutputError,
    PromptFileError,
)
from sternpost.files import read_json, read_jsonl
from sternpost.jobs import harvest as harvests
from sternpost.jobs import train as trainings
from sternpost.sae import measure_fit
from sternpost.sae.settings import Progress
from sternpost.sae.train import Trainer
from sternpost.training import inputs as training_inputs
from sternpost.training.metrics import Metrics
from sternpost.training.plan import TrainPlan
from sternpost.training.recipe import Recipe
from sternpost.training.sources import FromModel
from sternpost.training.team import Team

STEPS, BATCH = 24, 64
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """45 conversations and 30 plain texts, of different lengths."""
    folder = tmp_path_factory.mktemp("corpus")
    chat = [{"prompt": f"What is {i} plus {i % 7}?", "response": f"It is {i + i % 7}, " * (i % 4)
             + "I think."} for i in range(45)]
    text = [{"text": " ".join(f"w{(i * j) % 23}" for j in range(5 + i % 11))} for i in range(30)]
    for name, rows in (("chat.jsonl", chat), ("text.jsonl", text)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "chat.jsonl"), str(folder / "text.jsonl")


def settings(model: str, corpus: tuple[str, str], out: Path) -> dict[str, Any]:
    """Of a training that takes a second or two."""
    return {"model": model, "layers": (1, 2), "corpus": corpus, "d_sae": 48, "k": 4,
            "tokens": STEPS * BATCH, "batch": BATCH, "buffer": 6 * BATCH, "context": 48,
            "every": 5, "dead_after": 10 * BATCH, "lr": 3e-3, "out": str(out)}


@pytest.fixture
def told(tiny_models: dict[str, str], corpus: tuple[str, str], tmp_path: Path) -> dict[str, Any]:
    return settings(tiny_models["llama"], corpus, tmp_path / "out")


@pytest.fixture(scope="module")
def straight(tiny_models: dict[str, str], corpus: tuple[str, str],
             tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training that nothing stopped has left."""
    out = tmp_path_factory.mktemp("straight") / "out"
    return sternpost.train(**settings(tiny_models["llama"], corpus, out)).path


def weights(folder: Path) -> dict[str, torch.Tensor]:
    out = {}
    for layer in sorted(folder.glob("layers.*")):
        sae = sternpost.load_sae(layer)
        out |= {f"{layer.name} {name}": getattr(sae, name)
                for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")}
    return out


def assert_same(one: Path, other: Path) -> None:
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    assert len(mine) >= 5
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name
    untimed = [[{k: v for k, v in line.items() if k != "tokens_per_s"} for line in
                read_jsonl(folder / "metrics.jsonl")] for folder in (one, other)]
    assert untimed[0] == untimed[1]


def test_it_trains_every_layer_and_says_how_well(told: dict[str, Any]) -> None:
    done = sternpost.train(**told)
    saes = done.results["saes"]
    assert [entry["layer"] for entry in saes] == [1, 2]
    assert sorted(path.name for path in done.path.iterdir()) == [
        "layers.1", "layers.2", "metrics.jsonl", "report.html", "results.json", "run.json"]
    for entry in saes:
        sae = sternpost.load_sae(done.path / entry["folder"])
        assert (sae.hookpoint.layer, sae.d_sae, sae.k) == (entry["layer"], 48, 4)
        assert sae.threshold is not None
        assert sae.residual_norm == pytest.approx(entry["residual_norm"])
        assert 0 < entry["fvu"] < 1
        assert entry["l0"] <= 4
        ce = entry["ce"]
        if ce["mean"] > ce["plain"] + 1e-6:
            assert entry["ce_recovered"] == pytest.approx(
                (ce["mean"] - ce["spliced"]) / (ce["mean"] - ce["plain"]))
        else:  # random weights may as well be left out
            assert "costs the model nothing" in entry["why"]["ce_recovered"]
        assert sum(entry["density_histogram"]["features"]) == 48
    lines = read_jsonl(done.path / "metrics.jsonl")
    assert [(line["step"], line["layer"]) for line in lines] == [
        (step, layer) for step in range(1, STEPS + 1) for layer in (1, 2)]
    assert lines[-1]["fvu"] < 0.7 * lines[0]["fvu"]
    assert lines[-1]["tokens"] == STEPS * BATCH
    page = (done.path / "report.html").read_text()
    assert page.count("<svg") == 4 + 2
    assert "FVU" in done.headline
    assert len(done.to_pandas()) == 2


def test_the_measured_fvu_is_that_of_documents_that_were_not_trained_on(
        told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    streams = trainings.Reader.__call__.__globals__["streams"]

    def looking(engine: Any, texts: Any, *rest: Any) -> Any:
        seen.extend(str(text) for text in texts)
        return streams(engine, texts, *rest)

    kept: dict[str, Any] = {}
    unseen = FromModel.unseen
    monkeypatch.setattr("sternpost.training.corpus.streams", looking)
    monkeypatch.setattr(FromModel, "unseen", lambda self: kept.setdefault(
        "rows", (seen.copy(), self.reader.walk.held_out(), unseen(self)))[2])
    done = sternpost.train(**told)
    trained, held, rows = kept["rows"]
    assert len(held) == 3 + 2  # documents 0, 20, 40 of the chat, 0 and 20 of the text
    assert not {str(text) for text in held} & set(trained)
    assert 30 < len(set(trained)) <= 45 + 30 - 5
    fit = measure_fit(sternpost.load_sae(done.path / "layers.1"), rows[0])
    assert done.results["saes"][0]["fvu"] == pytest.approx(fit.fvu, rel=1e-5)


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "jumprelu"])
def test_the_other_kinds_are_trained_saved_and_read(told: dict[str, Any], kind: str) -> None:
    done = sternpost.train(**told | {"kind": kind, "layers": (1,), "prefixes": (12, 48)})
    sae = sternpost.load_sae(done.path / "layers.1")
    assert sae.kind == ("topk" if kind == "topk" else "jumprelu")
    assert sae.prefixes == (12, 48)
    assert read_jsonl(done.path / "metrics.jsonl")[-1]["l0"] == pytest.approx(4, abs=1)


@pytest.mark.parametrize("at", [1, 5, 6, 14])
def test_a_stopped_training_ends_as_one_that_was_not(told: dict[str, Any], at: int, straight: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill: nothing is written any more; what counts is the last checkpoint."""
    update, calls = Trainer.update, 0

    def stop(self: Trainer, x: torch.Tensor) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2 * at:
            raise SystemExit(9)
        return update(self, x)

    monkeypatch.setattr(Trainer, "update", stop)
    with pytest.raises(SystemExit):
        sternpost.train(**told)
    with pytest.raises(OutputError, match="--resume"):
        sternpost.train(**told)
    resumed = sternpost.train(**told, resume=True)
    assert calls == 2 * at + 2 * (STEPS - 5 * ((at - 1) // 5))  # from the last checkpoint
    assert_same(resumed.path, straight)


def test_a_checkpoint_of_other_settings_is_refused_and_kept(
        told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """As on another machine, where auto means something else."""
    update = Trainer.update

    def stop(self: Trainer, x: torch.Tensor) -> Any:
        if self.step == 7:
            raise SystemExit(9)
        return update(self, x)

    monkeypatch.setattr(Trainer, "update", stop)
    monkeypatch.setattr(training_inputs, "_has_bf16", lambda device: False)
    with pytest.raises(SystemExit):
        sternpost.train(**told)
    monkeypatch.setattr(training_inputs, "_has_bf16", lambda device: True)
    with pytest.raises(OutputError, match="other settings"):
        sternpost.train(**told, resume=True)
    assert list(Path(told["out"]).glob("stages/training/step-5/layers.0/*.safetensors"))


def test_what_was_kept_survives_bad_input_that_shows_late(
        told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    batch = FromModel.batch

    def broken(self: FromModel, step: int) -> Any:
        if step == 12:
            raise PromptFileError("unreadable")
        return batch(self, step)

    monkeypatch.setattr(FromModel, "batch", broken)
    with pytest.raises(PromptFileError):
        sternpost.train(**told)
    assert (Path(told["out"]) / "stages/training/latest.json").is_file()


class Board:
    """In TensorBoard's place."""

    def __init__(self, folder: str, purge_step: int) -> None:
        self.purge_step, self.scalars, self.closed = purge_step, [], False

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, step))

    def close(self) -> None:
        self.closed = True


def test_tensorboard_gets_every_figure_from_the_step_taken_up(
        told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sternpost.training.metrics._writer", lambda: Board)
    metrics = Metrics(Path(told["out"]), Recipe(**told, tensorboard=True), Team())
    metrics.begin(8)
    metrics.note([Progress(9, .5, 0., 4., .5)] * 2, 1000.0)
    metrics.close()
    assert (metrics.board.purge_step, metrics.board.closed) == (9, True)
    assert metrics.board.scalars == [(f"layers.{layer}/{name}", 9) for layer in (1, 2)
                                     for name in ("fvu", "l0", "dead_fraction", "loss")]


def test_without_tensorboard_it_says_what_to_install(
        told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtra, match=r"sternpost\[tensorboard\]"):
        sternpost.train(**told, tensorboard=True)
    assert not Path(told["out"]).exists()


@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_after_the_step_and_loses_none(told: dict[str, Any], signal: str,
                                                     straight: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal as signals

    update, calls = Trainer.update, 0

    def asked(self: Trainer, x: torch.Tensor) -> Any:
        nonlocal calls
        calls += 1
        if calls == 13:  # in the middle of step 7
            os.kill(os.getpid(), getattr(signals, signal))
        return update(self, x)

    before = signals.getsignal(getattr(signals, signal))
    monkeypatch.setattr(Trainer, "update", asked)
    with pytest.raises(KeyboardInterrupt if signal == "SIGINT" else SystemExit):
        sternpost.train(**told)
    assert signals.getsignal(getattr(signals, signal)) == before
    assert calls == 14
    assert read_json(Path(told["out"]) / "stages/training/latest.json")["step"] == 7
    assert_same(sternpost.train(**told, resume=True).path, straight)
    assert calls == 2 * STEPS


def test_a_harvest_is_what_the_model_gives_and_is_trained_on(
        told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("activations.shards", "jobs.harvest"):
        monkeypatch.setattr(f"sternpost.{place}.SHARD", 400)
    folder = told["out"] + "-harvest"
    told_harvest = told | {"out": folder}
    write, calls = harvests.write_tensors, 0

    def stop(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        write(*args)

    monkeypatch.setattr(harvests, "write_tensors", stop)
    with pytest.raises(KeyboardInterrupt):
        sternpost.harvest(**told_harvest)
    with pytest.raises(InputError, match="no finished"):
        sternpost.train(**told | {"activations": folder})
    done = sternpost.harvest(**told_harvest, resume=True)
    again = sternpost.harvest(**told | {"out": folder + "-straight"})
    assert done.note["tokens"] == STEPS * BATCH
    shards = sorted(path.relative_to(folder) for path in Path(folder).rglob("*.safetensors"))
    assert len(shards) == 2 * 4 + 1
    for name in shards:
        assert (done.path / name).read_bytes() == (again.path / name).read_bytes()
    trained = sternpost.train(**told | {"activations": folder})
    assert trained.results["saes"][0]["ce"] is None
    assert trained.results["saes"][0]["fvu"] < 0.9
    assert sternpost.harvest(**told_harvest).note == done.note  # finished: shown again
    with pytest.raises(InputError, match=r"layers \[1, 2\], not \[3\]"):
        sternpost.train(**told | {"activations": folder, "layers": (3,)})
    with pytest.raises(InputError, match="holds a finished train"):
        sternpost.train(**told | {"activations": told["out"], "force": True})


@pytest.mark.parametrize(("change", "error", "match"), [
    ({"corpus": ()}, InputError, "Nothing to train on"),
    ({"activations": "x"}, InputError, "no finished harvest"),
    ({"layers": ()}, InputError, "No layer"),
    ({"layers": (1, 1)}, InputError, "twice"),
    ({"layers": (4,)}, HookpointError, "4 blocks, 0 to 3"),
    ({"k": 99}, sternpost.SternpostError, "between 1 and d_sae = 48"),
    ({"kind": "relu"}, InputError, "topk, batchtopk, jumprelu"),
    ({"prefixes": (9, 5)}, sternpost.SternpostError, "rise"),
    ({"chat_share": 1.5}, InputError, "between 0 and 1"),
    ({"buffer": 10}, InputError, "less than one batch"),
    ({"tokens": 10}, InputError, "10 tokens are less than one batch of 64"),
    ({"lr": -1}, InputError, "lr is a positive number"),
    ({"aux_weight": -0.5}, InputError, "from 0 up"),
    ({"corpus": ("nowhere.jsonl",)}, PromptFileError, "does not exist"),
    ({"out": None}, InputError, "--out"),
    ({"width": 3}, InputError, "unknown setting 'width'"),
    ({"model": "nowhere/at/all"}, sternpost.SternpostError, "No model folder"),
])
def test_bad_input_is_named_and_nothing_is_written(told: dict[str, Any], change: dict[str, Any],
                                                   error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        sternpost.train(**told | change)
    assert not Path(told["out"]).exists()


def test_one_document_cannot_be_held_out(told: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text('{"text": "Only this."}\n')
    with pytest.raises(PromptFileError, match="one document"):
        sternpost.train(**told | {"corpus": (str(tmp_path / "one.jsonl"),)})


def test_a_dry_run_plans_and_writes_nothing(told: dict[str, Any]) -> None:
    plan, same = sternpost.train(**told, dry_run=True), sternpost.plan(**told)
    assert isinstance(plan, TrainPlan)
    assert replace(plan, hours={}) == replace(same, hours={})  # one's own machine is timed anew
    assert plan.hours.keys() == same.hours.keys()
    assert not Path(told["out"]).exists()
