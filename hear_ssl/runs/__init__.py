"""A registry of runs on plain files: list runs, their states, and compare them. Does not import torch."""
