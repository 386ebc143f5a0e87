"""Write files to a folder or any fsspec address, atomically and without overwriting foreign files."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec

from hear_ssl.addresses import redacted
from hear_ssl.errors import one_line

STORES = (("s3", "s3a"), ("gs", "gcs"))  # have no folders: makedirs would create a bucket for a mistyped name
FOLDERS = ("file", "local", "hf")  # protocols that transformers can load from: folders and repositories of the hub
FRONT_MATTER = re.compile(rb"\s*---\n(?:(?!---).*\n)*---\s*")  # a README that the hub created with a new repository
WEIGHTS_ONLY = "give another --to, or --weights-only"


def upload(weights: Path, target: str, name: str) -> str:
    """Copy the weights to target/name unless they are there already, and return a line on what was done.

    Raises ValueError when other weights are there, or the target cannot be reached.
    """
    content = weights.read_bytes()
    size = f"{len(content) / 1e6:.1f} MB"
    return put(content, target, name, "holds other weights; never overwritten: give a new version or another --public-url", size)


def put(content: bytes, target: str, name: str, refused: str = "", size: str = "") -> str:
    """Write a file to target/name unless it is there already, and return a line on what was done.

    refused: error text for a file with other content; if empty, such a file is replaced. Raises ValueError with that text, or when the
    target cannot be written.
    """
    with reached(target) as (filesystem, folder):
        path = f"{folder.rstrip('/')}/{name}"
        if filesystem.exists(path):
            if filesystem.cat_file(path) == content:
                return f"{path} holds these weights already" if refused else f"{path} is as it should be"
            if refused:
                raise ValueError(f"{path} {refused}")
        if filesystem.protocol not in STORES:
            filesystem.makedirs(folder, exist_ok=True)
        partial = f"{path}.{uuid.uuid4().hex}.part"  # an unpredictable name, at which no link can be planted
        try:
            filesystem.pipe_file(partial, content)
            filesystem.mv(partial, path)
        except BaseException:
            with suppress(Exception):
                filesystem.rm_file(partial)
            raise
        if filesystem.cat_file(path) != content:
            raise ValueError(f"{path} came out differently; upload again")
    return f"{path}, {size}" if size else path


@contextmanager
def reached(target: str) -> Iterator[tuple[Any, str]]:
    """Yield a target's filesystem and the path in it; convert errors of its client to a ValueError of one line."""
    try:
        yield fsspec.core.url_to_fs(target)
    except ImportError as error:
        raise ValueError(f"{target} needs another package ({error}); install it too") from None
    except ValueError:
        raise
    except Exception as error:  # clients of stores raise errors of any class, for credentials or an unreachable server
        raise ValueError(f"cannot write to {redacted(target)}: {one_line(error)[:160]}") from None


def has_folders(target: str) -> bool:
    """Return whether transformers can load from a target: a folder, or a repository of the hub."""
    return target.partition("://")[0] in FOLDERS if "://" in target else True


def there(target: str, name: str) -> bytes | None:
    """Return the content of target/name, or None when it does not exist. Raises ValueError when the target cannot be reached."""
    with reached(target) as (filesystem, folder):
        path = f"{folder.rstrip('/')}/{name}"
        content: bytes | None = filesystem.cat_file(path) if filesystem.exists(path) else None
    return content


def check_same_model(target: str, names: list[str], manifest: dict[str, Any], weights: str) -> None:
    """Raise ValueError when the files of a model for transformers would overwrite those of another model, or other files.

    names: the files. manifest: that of the model; an earlier version is replaced unless its wheel downloads `weights` from there.
    """
    content = there(target, "manifest.json")
    earlier = read_mapping(content)
    if content is None:
        other = next((name for name in names if (found := there(target, name)) is not None and not FRONT_MATTER.fullmatch(found)), None)
        if other is not None:
            raise ValueError(f"{redacted(target)} has a {other} that is not of this model: remove it, {WEIGHTS_ONLY}")
    elif earlier.get("name") != manifest["name"]:
        name = str(earlier.get("name"))[:80]
        raise ValueError(f"{redacted(target)} has the model {name!r}, whose files would be overwritten: {WEIGHTS_ONLY}")
    elif weights_of(earlier).get("sha256") != manifest["weights"]["sha256"] and last_part(str(weights_of(earlier).get("url"))) == weights:
        raise ValueError(
            f"{redacted(target)} has version {earlier.get('version')}, whose wheel fetches {weights} from there: {WEIGHTS_ONLY}"
        )


def weights_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the record of the weights in an untrusted manifest."""
    record = manifest.get("weights")
    return record if isinstance(record, dict) else {}


def read_mapping(content: bytes | None) -> dict[str, Any]:
    """Return a JSON object; {} for any other content."""
    with suppress(ValueError, RecursionError):
        found = json.loads(content or b"{}")
        return found if isinstance(found, dict) else {}
    return {}


def last_part(url: str) -> str:
    """Return the last part of a URL's path, the file name."""
    return unquote(urlsplit(url).path).rpartition("/")[2]


def check_manifest(target: str, name: str, sha256: str) -> None:
    """Raise ValueError when target/name exists and is not a manifest of the weights with this SHA-256."""
    content = there(target, name)
    if content is not None and weights_of(read_mapping(content)).get("sha256") != sha256:
        raise ValueError(f"{redacted(target)} has a {name} that is not of these weights: remove it, or give another --to")
