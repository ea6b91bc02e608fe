"""Training of VidRD models: recipes of stages, tasks and their losses, the training loop."""
