"""Runs every benchmark, or those named: `python -m benchmarks steering`."""

import sys

from benchmarks import steering

BENCHMARKS = {"steering": steering.measure}

for name in sys.argv[1:] or BENCHMARKS:
    BENCHMARKS[name]()
