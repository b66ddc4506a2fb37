"""Runs every benchmark, or those named: `python -m benchmarks steering`."""

import sys

from benchmarks import conformance, engine, seeds, steering, sweep

BENCHMARKS = {"conformance": conformance.measure, "engine": engine.measure,
              "steering": steering.measure, "sweep": sweep.measure}
LONG = {"seeds": seeds.measure}
"""Run by name alone."""

for name in sys.argv[1:] or BENCHMARKS:
    (BENCHMARKS | LONG)[name]()
