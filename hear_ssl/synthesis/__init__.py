"""Rendered corpora of positive pairs, and small tasks with known answers."""
