"""Packs read, made, measured and fetched."""
