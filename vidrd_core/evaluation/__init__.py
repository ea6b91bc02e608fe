"""Evaluation of many videos, or of a model's: protocols, a resumable runner, and the paper's ablation."""
