"""The version of hear_ssl: pyproject.toml reads it from here, and so does everything else."""

__version__ = "0.3.0"
