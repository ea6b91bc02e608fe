"""Baselines for long videos: RePaint, reconstruction guidance, context windows, FreeNoise and others, compared."""
