"""Runs every benchmark, or those named: `python -m benchmarks steering`."""

import sys

from benchmarks import conformance, engine, steering, sweep

BENCHMARKS = {"conformance": conformance.measure, "engine": engine.measure,
              "steering": steering.measure, "sweep": sweep.measure}

for name in sys.argv[1:] or BENCHMARKS:
    BENCHMARKS[name]()
