"""Gates at several layers, and of hazard categories, on streams whose layers are told apart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sternpost.calibration.gates import candidates_of, fit_gates, kept
from sternpost.calibration.inputs import _check_categories, _check_layers
from sternpost.calibration.reads import Read, Reads
from sternpost.calibration.settings import CalibrateSettings
from sternpost.errors import GateError, HookpointError, InputError
from sternpost.gates import CategoryGate, CosineGate, fit_cosine, from_tensors, to_tensors
from sternpost.sae import SAE
from sternpost.store import RunFolder
from sternpost.trials.bench import Bench
from sternpost.types import Hookpoint, LabelledPrompt, Message, Request, Sampling

D = 12
KINDS = ("fraud", "theft", "arson")
PARTS = {"search": (150, 0), "gate_fit": (240, 1), "gate_calibration": (120, 2), "tasks": (6, 3)}


def settings(**more: Any) -> CalibrateSettings:
    told = {"model": "m", "unsafe": "u", "safe": "s", "out": "o", "gates": "cosine"}
    return CalibrateSettings(**{**told, **more})


def prompts_of(n: int, part: str) -> list[LabelledPrompt]:
    """Two of three are safe; unsafe ones are of three categories, arson the rarest."""
    out = []
    for at in range(n):
        text, unsafe = f"{part} {at}", at % 3 == 0 and part != "tasks"
        name = KINDS[0 if at % 2 else 1 if at % 10 else 2]
        out.append(LabelledPrompt(
            Request((Message("user", text),), text),
            "capability" if part == "tasks" else "unsafe" if unsafe else "safe",
            category=name if unsafe else None, source=f"{'u' if unsafe else 's'}{at % 4 // 2}"))
    return out


def read_of(n: int, part: str, seed: int, lift: float) -> Read:
    """Harm raises coordinates 0 to 2, one a category, by `lift`."""
    prompts = prompts_of(n, part)
    h = torch.randn(n, D, generator=torch.Generator().manual_seed(seed))
    for at, p in enumerate(prompts):
        if p.kind == "unsafe":
            h[at, KINDS.index(p.category or "")] += lift
    return Read(prompts, h)


def reads_of(lifts: dict[int, float]) -> Reads:
    """Streams at layers where harm is raised by so much."""
    return Reads(None, {}, {str(Hookpoint(layer)): {  # type: ignore[arg-type]
        name: read_of(n, name, seed + 10 * layer, lift) for name, (n, seed) in PARTS.items()}
        for layer, lift in lifts.items()})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals are tested elsewhere."""
    monkeypatch.setattr("sternpost.stats.ranking.RESAMPLES", 40)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(None, None, Sampling(), RunFolder(tmp_path))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def sae() -> SAE:
    g = torch.Generator().manual_seed(5)
    W = torch.nn.functional.normalize(torch.randn(24, D, generator=g), dim=1)
    return SAE(W, W.clone(), torch.zeros(24), torch.zeros(D), Hookpoint(3), k=4)


@pytest.mark.slow
def test_the_layer_where_harm_shows_is_kept_and_the_gate_reads_there(bench: Bench,
                                                                     sae: SAE) -> None:
    reads = reads_of({1: 1.0, 2: 5.0, 3: 1.0})
    gates = fit_gates(bench, sae, reads, settings(gate_layer=(1, 2, 3)))
    assert gates.gate.hookpoint == Hookpoint(2)
    assert gates.about["layer"] == 2
    rows = gates.about["kinds"]
    assert [(row["kind"], row["gate"], row["layer"]) for row in rows] == [
        ("cosine at 1", "cosine", 1), ("cosine at 2", "cosine", 2), ("cosine", "cosine", 3)]
    first, second, own = [row["across"]["source"]["auroc"] for row in rows]
    assert second > 0.9
    assert second > max(first, own) + 0.1
    # its threshold is of benign prompts where it reads
    value, _ = gates.threshold(0.05)
    risks = gates.gate.risk(reads.at(Hookpoint(2))["gate_calibration"].benign.h)
    assert 0 < (risks > value).double().mean() <= 0.05
    # and it is read back whole
    again = fit_gates(bench, sae, reads, settings(gate_layer=(1, 2, 3)))
    assert again.gate.hookpoint == Hookpoint(2)
    assert again.about == gates.about


def test_without_a_layer_the_saes_own_is_read(bench: Bench, sae: SAE) -> None:
    gates = fit_gates(bench, sae, reads_of({3: 4.0}), settings())
    assert gates.gate.hookpoint == sae.hookpoint
    assert [row["kind"] for row in gates.about["kinds"]] == ["cosine"]
    row = gates.about["kinds"][0]
    seen = row["across"]["source"]
    low, high = seen["intervals"]["auroc"]
    assert low <= seen["auroc"] <= high
    assert set(seen["false_fire"]) == {"s0", "s1"}
    assert all(rate["hits"] / rate["n"] == seen["false_fire"][name] and rate["low"] <= rate["high"]
               for name, rate in seen["false_fire_rates"].items())
    assert row["fires"]["safe"]["n"] == 100
    assert row["fires"]["safe"]["hits"] / 100 == row["search_fires"]["safe"]


def test_a_layer_where_nothing_shows_is_left_out_by_name(bench: Bench, sae: SAE) -> None:
    told = settings(gate_layer=(1, 3), gates="cosine")
    gates = fit_gates(bench, sae, reads_of({1: -0.02, 3: 4.0}), told)
    assert gates.gate.hookpoint == Hookpoint(3)
    assert list(gates.about["failed"]) == ["cosine at 1"]
    assert any(w.startswith("gate cosine at 1: not fitted, nor kept. What this gate reads")
               for w in gates.warnings)
    bench.folder.path /= "other"
    with pytest.raises(GateError, match="No gate could be fitted"):
        fit_gates(bench, sae, reads_of({1: -0.02, 3: -0.02}), told)


def test_features_are_read_where_the_sae_reads_alone(sae: SAE) -> None:
    found = candidates_of(sae, settings(gate_layer=(1, 3), gates="sparse,residual"))
    assert [one.name for one in found] == ["residual at 1", "sparse", "residual"]
    with pytest.raises(InputError, match="none can be fitted for --gate-layer 1"):
        candidates_of(sae, settings(gate_layer=(1,), gates="sparse,feature"))


def test_a_gate_above_what_is_written_is_refused_before_anything_runs() -> None:
    class At:
        at = Hookpoint(2)

    _check_layers(settings(gate_layer=(0, 2)), At())  # type: ignore[arg-type]
    with pytest.raises(HookpointError, match="--gate-layer 3 lies above block 2"):
        _check_layers(settings(gate_layer=(1, 3)), At())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Add --gate-layer 2"):
        _check_layers(settings(gate_layer=(1,), gates="feature"), At())  # type: ignore[arg-type]


def test_a_tie_goes_to_fewer_features_then_to_the_layer_named_first() -> None:
    def row(gate: str, layer: int) -> dict[str, Any]:
        return {"kind": f"{gate} at {layer}", "gate": gate, "search_fires": {"unsafe": .9},
                "across": {"source": {"auroc": .8}}}

    rows = [row("residual", 1), row("residual", 2), row("sparse", 3)]
    assert kept(rows)["kind"] == "sparse at 3"
    assert kept(rows[:2])["kind"] == "residual at 1"


@pytest.mark.slow
# ---- categories ----------------------------------------------------------------------------------

def test_each_category_has_a_risk_a_threshold_and_figures(bench: Bench, sae: SAE) -> None:
    reads = reads_of({3: 5.0})
    plain = fit_gates(bench, sae, reads, settings(gates="cosine"))
    bench.folder.path /= "other"
    gates = fit_gates(bench, sae, reads, settings(gates="cosine", categories=True))
    gate = gates.gate
    assert isinstance(gate, CategoryGate)
    assert isinstance(plain.gate, CosineGate)
    assert gate.categories == ("fraud", "theft")
    assert gate.left_out == ("arson",)
    assert any("no gate of their own for the categories arson" in w for w in gates.warnings)
    search = reads.at(Hookpoint(3))["search"]
    assert torch.equal(gate.risk(search.h), plain.gate.risk(search.h))  # the overall one is as ever
    assert gates.threshold(0.02) == plain.threshold(0.02)
    found = gates.about["categories"]["by_category"]
    names, risks = search.column("category"), gate.risks(search.h).numpy()
    for at, name in enumerate(gate.categories, start=1):
        mine = search.harmful & (names == name)
        told = found[name]
        assert told["search"]["value"] > 0.95
        assert told["n"] == told["fires"]["n"] == mine.sum()
        assert told["threshold"] == gate.limits[at - 1]
        assert told["fires"]["hits"] == (risks[mine, at] > gate.limits[at - 1]).sum()
        assert told["calibration_fires"]["hits"] <= 0.01 * (told["calibration_fires"]["n"] + 1)
        other = search.harmful & (names != name)
        assert risks[mine, at].mean() > risks[other, at].mean() + 0.3
    assert gates.about["kind"] == "cosine"
    body, tensors = to_tensors(gate)
    again = from_tensors(body, tensors)
    assert isinstance(again, CategoryGate)
    assert again.limits == gate.limits
    assert torch.equal(again.risks(search.h), gate.risks(search.h))


def test_too_few_categories_are_refused_with_their_counts() -> None:
    some = prompts_of(240, "gate_fit")
    _check_categories(some)
    few = [p for p in some if p.category != "theft"]
    with pytest.raises(InputError, match=r"got arson 8, fraud 40"):
        _check_categories(few)
    with pytest.raises(InputError, match="got none"):
        _check_categories([p for p in some if p.kind == "safe"])


def test_limits_are_one_a_category() -> None:
    read = read_of(120, "gate_fit", 0, 3.0)
    gate = fit_cosine(read.h, read.harmful, read.clusters, Hookpoint(0))
    with pytest.raises(GateError, match="got 1 for 2"):
        CategoryGate(gate, (gate, gate), ("a", "b"), limits=(.5,))


def test_parts_are_read_once_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def read(bench: Any, prompts: Any, at: Hookpoint, key: str, own: Any = None) -> Read:
        asked.append((key, at.layer))
        return Read(prompts, torch.zeros(len(prompts), D))

    monkeypatch.setattr("sternpost.calibration.reads.read_t_inst", read)
    reads = Reads(None, {"search": (prompts_of(4, "search"), None),  # type: ignore[arg-type]
                         "tasks": ((), None)})
    for layer in (1, 2, 1, 1):
        assert set(reads.at(Hookpoint(layer))) == {"search", "tasks"}
    assert asked == [("search", 1), ("tasks", 1), ("search", 2), ("tasks", 2)]
    assert np.array_equal(reads.at(Hookpoint(1))["search"].benign.column("kind"),
                          ["safe"] * 2)
