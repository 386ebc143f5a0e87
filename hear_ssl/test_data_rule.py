"""Which names of splits mark test data: 'Any existing data marked as test may not be used for training' (rules of HEAR 2021)."""

from __future__ import annotations

import re

TEST_MARKS = {"test", "testing", "eval", "evaluation"}


def marks_test(split: str) -> bool:
    """Say whether a split, or one of several, is marked as test data in whatever spelling: test-clean, TestSet, eval_balanced."""
    words = re.findall("[A-Z]+(?![a-z])|[A-Z]?[a-z]+", split)
    return bool(TEST_MARKS & {word.lower() for word in words})
