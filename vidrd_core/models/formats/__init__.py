"""Other naming of models: read into ours, and written back."""
