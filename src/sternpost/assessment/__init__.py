"""An evaluation's parts: subject, prompts, replies, judges, attacks, tasks, results."""
