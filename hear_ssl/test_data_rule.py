"""Names that mark test data: 'Any existing data marked as test may not be used for training' (rules of HEAR 2021)."""

from __future__ import annotations

import re
from collections.abc import Iterable

RULE = "refused by the HEAR rule 'Any existing data marked as test may not be used for training'"
TEST_MARKS = {"test", "testing", "eval", "evaluation"}
MARK = re.compile(rf"({'|'.join(TEST_MARKS)})(s|set|sets|data|split|audio)?")
QUALIFIERS = {
    *("audio", "balanced", "clean", "clips", "data", "dev", "files", "flac", "full", "hidden", "large", "list", "manifest", "noisy"),
    *("other", "private", "public", "segments", "set", "shards", "small", "speech", "split", "tar", "unbalanced", "wav", "wavs"),
}
FUNCTION = re.compile(r"test_\w*\d")  # a folder that a test runner creates for a function, such as test_resumes0


def marks_test(split: str) -> bool:
    """Return whether a split, or one of several, is marked as test data in any spelling: test-clean, TestSet, eval_balanced."""
    words = re.findall("[A-Z]+(?![a-z])|[A-Z]?[a-z]+", split)
    return any(MARK.fullmatch(word.lower()) for word in words)


def marked_part(parts: Iterable[str]) -> str:
    """Return the first part of a path that is marked as test data, or ''."""
    return next((part for part in parts if marks_test(part)), "")


def marked_folder(name: str) -> str:
    """Return a folder's name if it is marked as test data, otherwise ''; folders of a test runner are not."""
    words = re.findall("[a-z]+", name.lower())[1:]
    return "" if FUNCTION.fullmatch(name) and not QUALIFIERS.issuperset(words) else marked_part([name])
