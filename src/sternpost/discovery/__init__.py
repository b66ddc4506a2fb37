"""Which features carry the goal: their sets, interactions, side effects, words and traces."""
