"""Formants follow the vowel."""

from __future__ import annotations

import numpy as np
import pytest

from hear_ssl.synthesis.sounds import formant_response


def test_formants_move_with_the_tongue() -> None:
    frequencies = np.arange(100.0, 4000.0, 5.0)
    closed_front = formant_response(frequencies, np.array(0.0), np.array(1.0), 1.0)
    open_back = formant_response(frequencies, np.array(1.0), np.array(0.0), 1.0)
    assert frequencies[closed_front.argmax()] == pytest.approx(270.0, abs=20.0)
    assert frequencies[open_back.argmax()] == pytest.approx(830.0, abs=40.0)
    second = open_back[frequencies == 1150][0] / closed_front[frequencies == 1150][0]
    assert second > 4.0
