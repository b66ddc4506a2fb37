"""One subject, its prompts and settings, and trials of it: what every long job stands on."""
