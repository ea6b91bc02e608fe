"""Developer tools. They belong neither to the wheel nor to the archive for ComfyUI."""
