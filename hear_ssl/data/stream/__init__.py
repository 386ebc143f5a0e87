"""Shards to batches: sample order, decoding, worker processes."""
