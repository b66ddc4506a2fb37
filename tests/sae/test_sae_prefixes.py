"""Matryoshka SAEs: where their prefixes end is written, read, and checked."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sternpost.errors import SAEError
from sternpost.sae import SAE, read_sae, save_sae
from sternpost.types import Hookpoint

PUBLIC = Path(__file__).parent / "public"


def sae(**changes: Any) -> SAE:
    g = torch.Generator().manual_seed(0)
    parts: dict[str, Any] = {"k": 4, "prefixes": (6, 24), **changes}
    return SAE(torch.randn(24, 8, generator=g), torch.randn(24, 8, generator=g), torch.zeros(24),
               torch.zeros(8), Hookpoint(6), **parts)


@pytest.mark.parametrize("kind", ["topk", "jumprelu"])
def test_they_are_written_and_read(kind: str, tmp_path: Path) -> None:
    jump = {"kind": "jumprelu", "k": None, "threshold": torch.ones(24)}
    save_sae(sae(**jump) if kind == "jumprelu" else sae(), tmp_path)
    assert read_sae(tmp_path).prefixes == (6, 24)
    save_sae(sae(prefixes=None), tmp_path)
    assert read_sae(tmp_path).prefixes is None
    assert "prefixes" not in json.loads((tmp_path / "cfg.json").read_text())


@pytest.mark.parametrize("wrong", [[24, 6], [6, 30], [6], [0, 24], "6", [6, 6, 24]])
def test_prefixes_that_do_not_rise_to_d_sae_are_refused(wrong: Any, tmp_path: Path) -> None:
    save_sae(sae(), tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps(cfg | {"prefixes": wrong}))
    with pytest.raises(SAEError, match="rise to its number of features, 24"):
        read_sae(tmp_path)


def test_dictionary_learnings_groups_are_sizes() -> None:
    found = [folder for folder in PUBLIC.rglob("*matryoshka*") if folder.is_dir()]
    assert found
    one = read_sae(found[0], hookpoint=0)
    assert one.prefixes == (8, 24)
