"""dinghy: a small chat model made by this repository alone, its corpus and its prompts.

A sternpost needs a boat. `python -m sternpost.dinghy` trains it again; MODEL_CARD.md has figures.
"""

from sternpost.dinghy.corpus import BARE, HESITATION
from sternpost.dinghy.levels import calibration_prompts
from sternpost.dinghy.rows import Row
from sternpost.dinghy.splits import (
    base_prompts,
    confirm_prompts,
    demo_prompts,
    smoke_prompts,
    training_prompts,
)

__all__ = ["BARE", "HESITATION", "Row", "base_prompts", "calibration_prompts", "confirm_prompts",
           "demo_prompts", "smoke_prompts", "training_prompts"]
