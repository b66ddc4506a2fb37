"""A recipe's parts: its settings, what is missing, its plan and its control."""
