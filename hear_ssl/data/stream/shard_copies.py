"""Local copies of remote shards without an index, for data.stream_cache; each is downloaded once."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hear_ssl.addresses import USER, redacted
from hear_ssl.data.shards.cache import is_remote, locked
from hear_ssl.data.shards.fetch import open_address
from hear_ssl.download import retry, transfer
from hear_ssl.errors import one_line
from hear_ssl.files import atomic_path
from hear_ssl.machine import expand_home
from hear_ssl.safe_open import own_folder


class ShardCopies:
    """A folder of copies, each named by the hash of its address, since shards of two addresses may have the same name."""

    def __init__(self, folder: str) -> None:
        """Create the folder. Raises OSError when that fails."""
        self.folder = Path(expand_home(folder, "data.stream_cache"))
        own_folder(self.folder)

    def path(self, url: str) -> str:
        """Return the local copy of the shard at an address, downloaded if missing; return a path or a command unchanged.

        Raises OSError or ValueError when it cannot be downloaded.
        """
        if not is_remote(url) or url.startswith("pipe:"):
            return url
        copy = self.folder / f"{hashlib.sha256(USER.sub('', url).encode()).hexdigest()[:32]}.tar"
        with locked(self.folder / f".{copy.name}.lock"):
            if not copy.is_file():
                try:
                    with atomic_path(copy) as temporary, open(temporary, "w+b") as file:
                        retry(lambda: transfer(url, file, opener=open_address), file)
                except OSError as error:
                    raise OSError(f"{redacted(url)}: {one_line(error)[:160]}") from None
        return str(copy)
