"""Captioning by vision-language models: in this process, or on a server."""
