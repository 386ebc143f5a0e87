"""Audio files to shards."""
