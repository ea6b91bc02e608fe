"""Weights that people bring: what a file is, by its keys alone, and its tensors under the names used here."""
