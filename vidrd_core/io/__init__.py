"""Files, settings and other services that the rest of the package is built on."""


class MissingPackageError(ImportError):
    """An optional package that is needed here is not installed; the message says how to install it."""
