"""Prompts in: files, fingerprints, splits, the leakage check, attacks, and right answers."""

from sternpost.prompts.attacks import HeldOut, held_out
from sternpost.prompts.buildups import build_ups, harmful_turns, is_script, scripts
from sternpost.prompts.capability import is_right
from sternpost.prompts.files import PromptFile, read_prompts
from sternpost.prompts.fingerprint import groups, key, near_record, without_each_word
from sternpost.prompts.hazards import Hazard, hazards
from sternpost.prompts.leakage import check_disjoint
from sternpost.prompts.limit import sample
from sternpost.prompts.splits import Splits, split_prompts
from sternpost.prompts.wrappers import Wrapper, families, led_in, wrapped, wrapper

__all__ = [
    "Hazard", "HeldOut", "PromptFile", "Splits", "Wrapper", "build_ups", "check_disjoint",
    "families", "groups", "harmful_turns", "hazards", "held_out", "is_right", "is_script", "key",
    "led_in", "near_record", "read_prompts", "sample", "scripts", "split_prompts",
    "without_each_word", "wrapped", "wrapper"]
