"""The MP3 decoder's messages are discarded in processes that decode, and only there."""

from __future__ import annotations

import os

import numpy as np
import pytest

from hear_ssl.data.decoder_messages import without_decoder_messages
from hear_ssl.data.ordered_pool import in_order
from hear_ssl.data.stream.decode import decode_into


def decode(seed: int) -> str:
    """Decode a crop of bytes that are no audio but may contain MPEG headers, write a line to standard error, and return the reason."""
    try:
        decode_into(np.empty((1, 2000), np.float32), np.random.default_rng(seed).bytes(30000), [0.5], 44100)
    except ValueError as error:
        os.write(2, b"a line of ours\n")
        return str(error)
    return ""


def test_a_process_that_decodes_prints_only_our_lines(capfd: pytest.CaptureFixture[str]) -> None:
    reason = decode(1)
    assert reason.startswith("does not decode")
    assert "libmpg123" in capfd.readouterr().err  # otherwise the module is no longer needed
    assert list(in_order(decode, [1, 1], 1)) == [reason] * 2
    assert capfd.readouterr().err == "a line of ours\n" * 2


def test_nothing_is_discarded_in_other_processes(capfd: pytest.CaptureFixture[str]) -> None:
    with without_decoder_messages():
        os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"
