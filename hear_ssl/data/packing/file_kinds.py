"""Classify files by name, or by their first bytes when the name is unclear: audio, unsupported audio, archive, or other."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from hear_ssl.model import audio_file

AUDIO_SUFFIXES = audio_file.SUFFIXES
UNREAD = re.compile(  # audio, or video with audio, that libsndfile does not read
    r"\.(3gp|aac|ac3|adts|alac|amr|ape|avi|awb|dff|dsf|dts|eac3|flv|gsm|m4a|m4b|m4v|mka|mkv|mov|mp4|mpc|mpeg|mpg|oma|ra|ram|rm|shn|spx"
    r"|tak|tta|vox|webm|wma|wmv|wv)"
)
COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVES = (".zip", ".tar", ".parquet", *COMPRESSED_TARS)
UNREAD_ARCHIVE = re.compile(
    r".*?(\.7z(\.\d+)?|\.(tar\.)?(zst|lz4|lzma|lz|z|br)|\.rar|\.r\d\d|\.z\d\d|\.(zip|tar|tgz)\.\d+|\.gz|\.bz2|\.xz|\.cab|\.iso|\.dmg|\.arj"
    r"|\.lha|\.lzh|\.arrow|\.tfrecords?|\.lmdb|\.mdb|\.ark)"
)
NO_SOUND = re.compile(
    r"\.(bib|bmp|c|cff|cfg|conf|cpp|css|csv|ctm|cue|db|doc|docx|eaf|elan|gif|h|h5|hdf5|htm|html|ini|ipynb|jams|java|jpeg|jpg|js|json|jsonl"
    r"|lab|license|lock|log|lrc|m|m3u|m3u8|mat|md|md5|mid|midi|mlf|nfo|npy|npz|ods|odt|pdf|pickle|pkl|pls|png|ps|pt|pth|py|r|rst|rtf|rttm"
    r"|safetensors|scp|sfv|sh|sha1|sha256|sha512|sqlite|srt|stm|svg|tex|textgrid|tif|tiff|toml|torrent|trn|trs|tsv|txt|uem|url|vtt|webp|xls"
    r"|xlsx|xml|yaml|yml)"
)
LEFTOVERS = re.compile(  # files of macOS, Windows, Linux desktops, NFS and network storage
    r"\._.*|\.DS_Store|\.localized|\.AppleDouble|\.AppleDB|\.LSOverride|\.Spotlight-V100|\.Trashes|\.Trash(-\d+)?|\.fseventsd|\.apdisk"
    r"|\.TemporaryItems|\.DocumentRevisions-V100|\.VolumeIcon\.icns|Icon\r|__MACOSX|Network Trash Folder|Temporary Items"
    r"|Thumbs\.db(:encryptable)?|ehthumbs(_vista)?\.db|desktop\.ini|\$RECYCLE\.BIN|RECYCLER|System Volume Information|~\$.*"
    r"|\.directory|\.nfs[0-9a-f]+|\.fuse_hidden[0-9a-f]+|lost\+found|@eaDir|#recycle|\.@__thumb|\.thumbnails|\.~lock\..*#",
    re.IGNORECASE,
)
MAGIC = re.compile(
    rb"RIFF....WAVE|RF64....WAVE|riff\x2e\x91\xcf\x11|FORM....AIF[FC]|fLaC|OggS|caff|\.snd|NIST_1A|ID3|\xff[\xfa\xfb\xf3\xf2]", re.DOTALL
)


def is_leftover(name: str) -> bool:
    """Return whether a path is a system file, or inside a system folder: .DS_Store, ._x.wav, Thumbs.db, __MACOSX/."""
    return any(LEFTOVERS.fullmatch(part) for part in PurePosixPath(name.replace("\\", "/")).parts)


def not_read(name: str) -> str | None:
    """Return why a file of this name is not packed, '' when it is supported audio; None when the name is of no known kind."""
    suffix = PurePosixPath(name).suffix.lower()
    if name.lower().endswith(ARCHIVES):
        return "archive within an input: give it by itself"
    if suffix in AUDIO_SUFFIXES:
        return ""
    if UNREAD.fullmatch(suffix):
        return f"format not read: {suffix}"
    archive = unread_archive(name)
    return f"archive not read: {archive}; unpack it and pack its files" if archive else None


def unread_archive(name: str) -> str:
    """Return the suffix of an unsupported archive, or of a part of a split archive; '' for other names."""
    found = UNREAD_ARCHIVE.fullmatch(PurePosixPath(name.replace("\\", "/")).name.lower())
    return found[1] if found else ""


def suffix_of(name: str) -> str:
    """Return the suffix by which files of unknown kind are counted."""
    return PurePosixPath(name).suffix.lower() or "without suffix"


def holds_no_sound(name: str) -> bool:
    """Return whether the suffix is that of a text, table, image or program."""
    base = PurePosixPath(name).name
    return bool(NO_SOUND.fullmatch(suffix_of(name))) or base.upper() in {
        "README",
        "LICENSE",
        "LICENCE",
        "COPYING",
        "NOTICE",
        "AUTHORS",
        "CHANGELOG",
    }


def begins_as_sound(path: Path) -> bool:
    """Return whether a file begins like an audio file; False when it cannot be read."""
    try:
        with open(os.fsencode(path), "rb") as file:
            return bool(MAGIC.match(file.read(16)))
    except OSError:
        return False
