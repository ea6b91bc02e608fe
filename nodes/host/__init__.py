"""The adapter between `vidrd_core` and ComfyUI's models, samplers, files and page."""
