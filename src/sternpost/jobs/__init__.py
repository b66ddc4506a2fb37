"""The verbs: one file each, made of the rooms below."""
