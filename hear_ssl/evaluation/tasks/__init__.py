"""Tasks in HEAR format, and the download of the official ones."""
