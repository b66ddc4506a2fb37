"""Runs every benchmark, or those named: `python -m benchmarks steering`."""

import sys
from importlib import import_module

BENCHMARKS = ("conformance", "contrast", "engine", "gate", "interchange", "sae_train", "steering",
              "sweep")
BY_NAME = ("damage", "fixtures", "generality", "methods", "seeds")
"""Run by name alone."""

for name in sys.argv[1:] or BENCHMARKS:
    if name not in (*BENCHMARKS, *BY_NAME):
        sys.exit(f"No benchmark {name!r}; there are {', '.join((*BENCHMARKS, *BY_NAME))}.")
    import_module(f"benchmarks.{name}").measure()
