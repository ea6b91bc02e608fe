"""Reading and writing files: safetensors, JSON lines, configurations, atomic writes, digests, errors and signals."""


class MissingPackageError(ImportError):
    """An optional package that is needed here is not installed; the message says how to install it."""
