"""Self-supervised audio embeddings, from WebDataset shards to a HEAR submission that installs with pip."""

from hear_ssl.version import __version__

__all__ = ["__version__"]
