"""Data: audio files to shards, the embedded corpus, and shards to batches."""
