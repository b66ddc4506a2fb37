"""Gates, writes and levels, fitted and searched on development prompts."""
