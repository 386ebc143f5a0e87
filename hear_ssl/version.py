"""The version of hear_ssl, read by pyproject.toml and all other code."""

__version__ = "0.3.0"
