"""Debian packages of free audio: the corpus, the test data of the development tasks, and packages reserved for a final test.

Names are those of Debian 12 (bookworm). No script here downloads, packs or trains on a reserved package.
"""

from __future__ import annotations

CORPUS = (
    "wesnoth-1.16-music",
    "wesnoth-1.16-data",
    "warzone2100-music",
    "supertux-data",
    "unknown-horizons",
    "marsshooter-data",
    "widelands-data",
    "lincity-ng-data",
    "frozen-bubble-data",
    "extremetuxracer-data",
    "torcs-data",
    "minetest-data",
    "lmms-common",
    "sonic-pi-samples",
    "asterisk-core-sounds-en-wav",
    "asterisk-core-sounds-es-wav",
    "asterisk-core-sounds-fr-wav",
    "asterisk-core-sounds-it-wav",
    "asterisk-core-sounds-ru-wav",
    "asterisk-prompt-it-menardi-wav",
    "asterisk-moh-opsound-wav",
    "megaglest-data",
)
TEST_DATA = ("hydrogen-drumkits", "hydrogen-data", "timgm6mb-soundfont", "ktuberling-data")
RESERVED = (
    "tuxpaint-stamps-default",
    "klettres-data",
    "gcin-voice",
    "hedgewars-data",
    "0ad-data",
    "fluid-soundfont-gm",
    "openttd-openmsx",
)
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff")
