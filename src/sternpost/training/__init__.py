"""SAEs trained from tokens: sources, shards, checkpoints, the plan of it."""
