"""sternpost finds the features by which an open-weight chat model refuses, turns them up only where
they are needed, measures what that costs, and serves the result.

    with sternpost.steer(model, sae, [sternpost.Clamp(feature=597, value=8.0)]) as run:
        out = model.generate(**inputs, max_new_tokens=64)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sternpost.engines.fake import FakeEngine as FakeEngine
    from sternpost.trials.load import load_model as load_model
    from sternpost.engines.steer import steer as steer
    from sternpost.errors import SternpostError as SternpostError
    from sternpost.jobs.calibrate import calibrate as calibrate
    from sternpost.jobs.chat import chat as chat
    from sternpost.jobs.compare import compare as compare
    from sternpost.jobs.doctor import doctor as doctor
    from sternpost.jobs.evaluate import evaluate as evaluate
    from sternpost.jobs.atlas import features_atlas as features_atlas
    from sternpost.jobs.describe import features_describe as features_describe
    from sternpost.jobs.features_find import features_find as features_find
    from sternpost.jobs.search import features_search as features_search
    from sternpost.jobs.trace import features_trace as features_trace
    from sternpost.jobs.harvest import harvest as harvest
    from sternpost.jobs.judge_calibrate import judge_calibrate as judge_calibrate
    from sternpost.jobs.judge_sample import judge_sample as judge_sample
    from sternpost.trials.load import load_sae as load_sae
    from sternpost.packs.pack import Pack as Pack
    from sternpost.packs.pack import load_pack as load_pack
    from sternpost.packs.pack import pack_path as pack_path
    from sternpost.jobs.pack_confirm import pack_confirm as pack_confirm
    from sternpost.training.plan import plan as plan
    from sternpost.jobs.results_check import results_check as results_check
    from sternpost.jobs.sae_list import sae_list as sae_list
    from sternpost.jobs.train import train as train
    from sternpost.pipeline import demo as demo
    from sternpost.pipeline import run as run
    from sternpost.types import Ablate as Ablate
    from sternpost.types import Add as Add
    from sternpost.types import Ceiling as Ceiling
    from sternpost.types import Clamp as Clamp
    from sternpost.types import Floor as Floor
    from sternpost.types import Hookpoint as Hookpoint
    from sternpost.types import MahalanobisCap as MahalanobisCap
    from sternpost.types import NormCap as NormCap
    from sternpost.types import Plan as Plan
    from sternpost.types import Positions as Positions
    from sternpost.types import Scale as Scale

__version__ = "0.1.0"

_HOME = {
    "Ablate": "types", "Add": "types", "Ceiling": "types", "Clamp": "types",
    "FakeEngine": "engines.fake", "Floor": "types", "Hookpoint": "types",
    "MahalanobisCap": "types", "NormCap": "types", "Pack": "packs.pack", "Plan": "types",
    "Positions": "types", "Scale": "types", "SternpostError": "errors",
    "calibrate": "jobs.calibrate", "chat": "jobs.chat", "compare": "jobs.compare",
    "demo": "pipeline", "doctor": "jobs.doctor", "evaluate": "jobs.evaluate",
    "features_atlas": "jobs.atlas",
    "features_describe": "jobs.describe", "features_find": "jobs.features_find",
    "features_search": "jobs.search", "features_trace": "jobs.trace", "harvest": "jobs.harvest",
    "judge_calibrate": "jobs.judge_calibrate", "judge_sample": "jobs.judge_sample",
    "load_model": "trials.load", "load_pack": "packs.pack", "load_sae": "trials.load",
    "pack_confirm": "jobs.pack_confirm", "pack_path": "packs.pack", "plan": "training.plan",
    "results_check": "jobs.results_check",
    "run": "pipeline", "sae_list": "jobs.sae_list", "steer": "engines.steer",
    "train": "jobs.train",
}

__all__ = ["Ablate", "Add", "Ceiling", "Clamp", "FakeEngine", "Floor", "Hookpoint",
           "MahalanobisCap", "NormCap", "Pack", "Plan", "Positions", "Scale", "SternpostError",
           "calibrate", "chat", "compare", "demo", "doctor", "evaluate", "features_atlas",
           "features_describe", "features_find", "features_search", "features_trace", "harvest",
           "judge_calibrate", "judge_sample",
           "load_model", "load_pack", "load_sae", "pack_confirm", "pack_path", "plan",
           "results_check", "run", "sae_list", "steer", "train"]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: torch takes seconds to import."""
    if name in _HOME:
        return getattr(import_module(f"sternpost.{_HOME[name]}"), name)
    raise AttributeError(f"module 'sternpost' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
