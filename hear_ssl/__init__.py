"""Self-supervised audio embeddings, from WebDataset shards to a HEAR submission that installs with pip."""

__version__ = "0.3.0"
