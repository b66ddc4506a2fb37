"""Prompts in: files, fingerprints, splits, the leakage check, and right answers."""

from sternpost.prompts.capability import is_right
from sternpost.prompts.files import PromptFile, read_prompts
from sternpost.prompts.fingerprint import groups, key, near_record, without_each_word
from sternpost.prompts.hazards import Hazard, hazards
from sternpost.prompts.leakage import check_disjoint
from sternpost.prompts.limit import sample
from sternpost.prompts.splits import Splits, split_prompts

__all__ = [
    "Hazard", "PromptFile", "Splits", "check_disjoint", "groups", "hazards", "is_right", "key",
    "near_record", "read_prompts", "sample", "split_prompts", "without_each_word"]
