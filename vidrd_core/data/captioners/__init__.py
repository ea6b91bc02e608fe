"""Vision-language models that caption: in this process, or on a server."""
