"""Evaluation: what a model does on benchmarks, unsteered and steered, paired by prompt.

    suite -> prompts -> replies of both conditions -> judged lines -> metrics with intervals

A benchmark is a file of `suites/`; a metric is a short file here.
"""

from sternpost.evaluation.count import (
    CONDITIONS,
    METRICS,
    changes,
    fires,
    grouped,
    runs,
)
from sternpost.evaluation.data import Loaded, Source, load_suites
from sternpost.evaluation.suite import Part, Suite, read_suite, spread, suite_names

__all__ = ["CONDITIONS", "METRICS", "Loaded", "Part", "Source", "Suite", "changes", "fires",
           "grouped", "load_suites", "read_suite", "runs", "spread", "suite_names"]
