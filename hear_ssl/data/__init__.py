"""Audio files to shards, and shards to batches."""
