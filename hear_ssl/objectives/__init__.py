"""Objectives, one file each; `weighted_sum.py` adds those that a config names."""
