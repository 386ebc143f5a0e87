"""Shards on disk or at an address: index, clip offsets, reader and cache."""
