"""The same black-box checks on sternpost and on the libraries that its users would take instead.

    checks.py      what is checked, and the bound
    subject.py     the model, the SAE, and the hook by hand that says what is right
    by_NAME.py     one library, driven as its documentation says
    repro/         some ten lines for each failure
"""

import importlib
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.conformance.checks import CHECKS, Broken, Checks, NotOfferedError
from benchmarks.conformance.subject import subject
from benchmarks.record import save_checks

PEERS = {"sternpost": "sternpost", "steering_vectors": "steering-vectors", "repeng": "repeng",
         "saelens": "sae-lens", "nnsight": "nnsight", "lm_eval": "lm-eval"}
"""Module here -> distribution."""
ABSENT = {"AISteer360": "not on the package registry",
          "IBM activation-steering": "not on the package registry"}


def measure() -> None:
    """Every check on every library; a library that is not installed says so."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        what = subject(Path(folder) / "model")
        for module, distribution in PEERS.items():
            try:
                name = f"{distribution} {version(distribution)}"
                peer = importlib.import_module(f"benchmarks.conformance.by_{module}").PEER
            except (ImportError, PackageNotFoundError) as error:
                rows += _absent(distribution, f"not installed here: {error}")
                continue
            rows += [_row(name, check, Checks(peer, what)) for check in CHECKS]
        for name, why in ABSENT.items():
            rows += _absent(name, why)
    save_checks("conformance", rows)


def _absent(name: str, why: str) -> list[dict[str, Any]]:
    return [{"name": name, "check": check, "passed": None, "detail": why} for check in CHECKS]


def _row(name: str, check: str, checks: Checks) -> dict[str, Any]:
    try:
        return {"name": name, "check": check, "passed": True, "detail": getattr(checks, check)()}
    except NotOfferedError as why:
        return {"name": name, "check": check, "passed": None, "detail": str(why)}
    except Broken as how:
        return {"name": name, "check": check, "passed": False, "detail": str(how)}
    except Exception as error:  # noqa: BLE001 a library's own error is a finding
        return {"name": name, "check": check, "passed": False,
                "detail": f"{type(error).__name__}: {str(error)[:200]}"}
