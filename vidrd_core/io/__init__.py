"""Reading and writing files: safetensors, pictures, tables, configurations, atomic writes, digests, errors."""


class MissingPackageError(ImportError):
    """An optional package that is needed here is not installed; the message says how to install it."""
