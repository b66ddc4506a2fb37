"""Packs: the shareable folder that steers a model, without its SAE.

    DIR/pack.json            which model, which levels, and the sha256 of every other file
    DIR/features.safetensors encoder and decoder rows, thresholds; directions that are no feature's
    DIR/gate.safetensors     the gate; the continuation gate, where there is one, behind a prefix
    DIR/golden.jsonl         prompts, and the verdicts on their replies at each level
    DIR/levels.json          what each level costs, measured
    DIR/splits.json          what it was made from
    DIR/evaluations.json     how it was calibrated and confirmed, where it was
    DIR/card.md              the same for people

Every file is hashed in pack.json, and what pack.json says is hashed in its own `sha256`, which
names the pack in every proof.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sternpost.errors import OutputError, PackError, SchemaError, SternpostError
from sternpost.files import (
    SCHEMA_VERSION,
    canonical_json,
    make_folder,
    read_json,
    read_jsonl,
    read_tensors,
    remove_folder,
    sha256_file,
    sha256_text,
    write_bytes,
    write_json,
    write_jsonl,
    write_tensors,
    write_text,
)
from sternpost.gates import FittedGate, from_tensors, to_tensors
from sternpost.sae import SAE
from sternpost.types import Hookpoint

FILES = ("pack.json", "features.safetensors", "gate.safetensors", "golden.jsonl", "levels.json",
         "splits.json", "evaluations.json", "card.md")
"""What a pack's folder may hold; others there are not its own."""
_FOLLOWS = "continuation."
"""What stands before the names of the continuation gate's tensors."""
_ROWS = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")


@dataclass(frozen=True)
class PackFiles:
    """Everything that a pack holds."""

    body: dict[str, Any]
    """pack.json, without `files`."""
    sae: SAE
    """The rows it writes."""
    gate: FittedGate
    golden: list[dict[str, Any]]
    levels: dict[str, Any]
    """levels.json"""
    splits: dict[str, Any]
    card: str
    sha256: str = ""
    """Its name."""
    path: Path = Path()
    directions: Sequence[Tensor] = ()
    """[d_model] each: what levels add that is no feature's row."""
    evaluations: Sequence[dict[str, Any]] = ()
    """What was measured of it, the newest last."""
    follows: FittedGate | None = None
    """The gate that reads replies, if a level has a continuation."""


def write_pack(path: str | Path, pack: PackFiles) -> str:
    """The pack as a folder at `path`, whole or not at all; gives its name."""
    folder = Path(path)
    building = folder.with_name(f".{folder.name}.building")
    remove_folder(building)
    make_folder(building)
    gates, tensors = _gates(pack)
    rows = {name: getattr(pack.sae, name) for name in _ROWS}
    if pack.directions:
        rows["directions"] = torch.stack(list(pack.directions)).float().cpu()
    write_tensors(building / "features.safetensors", rows)
    write_tensors(building / "gate.safetensors", tensors)
    write_jsonl(building / "golden.jsonl", pack.golden)
    write_json(building / "levels.json", pack.levels)
    write_json(building / "splits.json", pack.splits)
    if pack.evaluations:
        write_json(building / "evaluations.json", {"evaluations": list(pack.evaluations)})
    write_text(building / "card.md", pack.card)
    files = {file.name: sha256_file(file) for file in sorted(building.iterdir())}
    whole = {**{key: value for key, value in pack.body.items() if key != "continuation"},
             "kind": "pack", **gates, "features": _described(pack.sae), "files": files}
    write_json(building / "pack.json", {**whole, "sha256": _name(whole)})
    remove_folder(folder)
    building.rename(folder)
    return _name(whole)


def _gates(pack: PackFiles) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What pack.json says of its gates, and their tensors."""
    body, tensors = to_tensors(pack.gate)
    if pack.follows is None:
        return {"gate": body}, tensors
    more, others = to_tensors(pack.follows)
    return {"gate": body, "continuation": more}, tensors | {
        f"{_FOLLOWS}{name}": tensor for name, tensor in others.items()}


def _name(body: Mapping[str, Any]) -> str:
    """The pack's name: sha256 over pack.json but for this very line, as canonical JSON."""
    return sha256_text(canonical_json({"schema_version": SCHEMA_VERSION, **{
        key: value for key, value in body.items() if key != "sha256"}}))


def _described(sae: SAE) -> dict[str, Any]:
    said = {"ids": list(sae.ids or ()), "hookpoint": str(sae.hookpoint), "centred": sae.centred,
            "subtract_b_dec": sae.subtract_b_dec, "residual_norm": sae.residual_norm}
    return said | ({} if sae.per_token is None else {"per_token": sae.per_token})


def read_pack(path: str | Path) -> PackFiles:
    """The pack at `path`, every file checked against its hash. Raises PackError."""
    folder = Path(path)
    if not (folder / "pack.json").is_file():
        raise PackError(f"No pack at {folder}: it has no pack.json. Give the folder that a run "
                        "wrote as DIR/pack, or a pack's name.")
    try:
        body = read_json(folder / "pack.json")
    except SchemaError:
        raise
    except OutputError as error:
        raise PackError(f"{error} Get the pack again.") from error
    if body.get("kind") != "pack" or body.get("sha256") != _name(body):
        raise PackError(f"{folder}/pack.json is not as it was written: its own sha256 does not "
                        "fit. Get the pack again.")
    _check_files(folder, body.get("files", {}))
    try:
        return _read(folder, body)
    except SternpostError as error:
        raise PackError(f"The pack at {folder} cannot be read: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise PackError(f"The pack at {folder} cannot be read: {type(error).__name__}: {error}. "
                        "Get it again.") from error


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    needed = set(FILES) - {"pack.json", "evaluations.json"}
    if unlisted := sorted(needed - set(files)):
        raise PackError(f"{folder}/pack.json does not list {', '.join(unlisted)}. Get the pack "
                        "again.")
    for name, wanted in files.items():
        if Path(name).name != name:
            raise PackError(f"{folder}/pack.json lists {name!r}, which is no file of its folder.")
        if not (folder / name).is_file():
            raise PackError(f"The pack at {folder} lacks {name}. Get it again.")
        if (got := sha256_file(folder / name)) != wanted:
            raise PackError(f"{folder}/{name} is not the pack's: its sha256 is {got[:16]}..., the "
                            f"pack says {wanted[:16]}.... Get it again.")


def _read(folder: Path, body: dict[str, Any]) -> PackFiles:
    about, rows = body["features"], read_tensors(folder / "features.safetensors")
    sae = SAE(rows["W_enc"], rows["W_dec"], rows["b_enc"], rows["b_dec"],
              Hookpoint.parse(about["hookpoint"]), kind="jumprelu", threshold=rows["threshold"],
              subtract_b_dec=about["subtract_b_dec"], centred=about["centred"],
              per_token=about.get("per_token"),
              residual_norm=about["residual_norm"], name=str(folder), ids=tuple(about["ids"]))
    tensors = read_tensors(folder / "gate.safetensors")
    gate = from_tensors(body["gate"], tensors)
    more = None if "continuation" not in body else from_tensors(body["continuation"], {
        name.removeprefix(_FOLLOWS): part for name, part in tensors.items()
        if name.startswith(_FOLLOWS)})
    records = read_json(folder / "evaluations.json")["evaluations"] \
        if "evaluations.json" in body["files"] else ()  # one that is not listed was not checked
    return PackFiles(body, sae, gate, read_jsonl(folder / "golden.jsonl"),
                     read_json(folder / "levels.json"), read_json(folder / "splits.json"),
                     (folder / "card.md").read_text("utf-8"), body["sha256"], folder,
                     tuple(rows.get("directions", ())), records, more)


def pack_bytes(pack: PackFiles) -> dict[str, bytes]:
    """Every file of a pack that was read, as it was read. Raises PackError where one is not."""
    if read_pack(pack.path).sha256 != pack.sha256:
        raise PackError(f"The pack at {pack.path} is another than the one that was loaded from "
                        "there. Load it again.")
    return {name: (pack.path / name).read_bytes() for name in (*pack.body["files"], "pack.json")}


def copy_pack(pack: PackFiles, path: str | Path) -> Path:
    """The pack in the folder `path`, file by file as it was read; what is not a pack's stays there.
    Raises OutputError where something else than a pack lies there."""
    folder, whole = Path(path), pack_bytes(pack)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "pack.json").is_file():
        raise OutputError(f"{folder} is not empty and holds no pack. Give another folder.")
    for name, data in whole.items():  # pack.json comes last: until then the hashes do not fit
        write_bytes(folder / name, data)
    for name in set(FILES) - set(whole):
        (folder / name).unlink(missing_ok=True)
    return folder
