"""A registry of runs on plain files: which runs there are, what state they are in, how they compare. Loads no torch."""
