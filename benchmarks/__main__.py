"""Runs every benchmark, or those named: `python -m benchmarks steering`."""

import sys

from benchmarks import engine, steering, sweep

BENCHMARKS = {"engine": engine.measure, "steering": steering.measure, "sweep": sweep.measure}

for name in sys.argv[1:] or BENCHMARKS:
    BENCHMARKS[name]()
