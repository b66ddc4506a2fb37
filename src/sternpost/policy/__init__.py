"""HOW MUCH: a gate's risks -> doses of edits; levels, the operating points a person chooses."""

from sternpost.policy.levels import LEVELS, Level, edit_of, follows, said
from sternpost.policy.responses import Doses, Response, learned, linear, opened, step, until

__all__ = ["LEVELS", "Doses", "Level", "Response", "edit_of", "follows", "learned", "linear",
           "opened", "said", "step", "until"]
