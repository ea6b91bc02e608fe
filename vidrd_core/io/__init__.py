"""Reading and writing files: safetensors, JSON lines, configurations, atomic writes, digests, errors and signals."""
