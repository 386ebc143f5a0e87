"""Tasks in HEAR format, and fetching the official ones."""
