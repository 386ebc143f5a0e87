"""Download official tasks: each archive is downloaded, checked and unpacked next to its task folder, read once, then moved there.

Archives are hear2021-{folder}-48000.tar.gz and contain tasks/{folder}/. A member that is a link, leaves that folder or makes the task
larger than its clips can be is refused, and nothing of such an archive is kept.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import io
import json
import os
import shutil
import sys
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from hear_ssl.addresses import joined, redacted
from hear_ssl.download import open_unchecked, refused_hint, retry, transfer
from hear_ssl.errors import nearest, one_line
from hear_ssl.evaluation.tasks.download import Remote, as_published, download_archive
from hear_ssl.evaluation.tasks.official_tasks import RECORD, SAMPLE_RATE, Official, chosen_tasks
from hear_ssl.evaluation.tasks.task_format import audio_folder, read_task
from hear_ssl.files import disk_errors_of
from hear_ssl.safe_open import open_own, own_folder
from hear_ssl.safe_tar import BoundedTarInfo, members

RECORD_LIMIT = 4 << 20  # bytes of JSON
LONGEST_SECONDS = 30.0  # of a clip in tasks with varying lengths
BLOCK = 1 << 20
NAME_FAULTS = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EILSEQ)  # caused by the archive, not by the disk
MOST_FILES = 10_000  # plus eight for each clip: other rates, labels
PADDING_BYTES = 16 * BLOCK
SPARE_BYTES = 256 << 20  # for labels, indexes and headers


@dataclass(frozen=True)
class ZenodoRecord:
    """The archives at an address; files is empty when there is no record."""

    base: str
    files: dict[str, Remote]

    def archive(self, folder: str) -> Remote:
        """Return a task folder's archive. Raises ValueError when the record has none of that name."""
        name = f"hear2021-{folder}-{SAMPLE_RATE}.tar.gz"
        if self.files and name not in self.files:
            raise ValueError(f"{redacted(self.base)} has no {name}{nearest(name, list(self.files))}; fetch it by hand and unpack it")
        return self.files.get(name, Remote(joined(self.base, name)))


def read_record(base: str) -> ZenodoRecord:
    """Return the archives of a Zenodo record or a mirror, with size and MD5 where they are published.

    Raises ValueError when the address is invalid or does not answer, or its content is not a record.
    """
    base = base.rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise ValueError(f"--from {redacted(base)!r} is not an http or https address")
    address = RECORD.replace("/records/", "/api/records/") if base == RECORD else joined(base, "record.json")
    folder, url, content = f"{base}/files" if base == RECORD else base, redacted(address), io.BytesIO()
    try:
        retry(lambda: transfer(address, content, limit=RECORD_LIMIT, opener=open_unchecked), content)
        entries = json.loads(content.getvalue())["files"]
        files = {str(entry["key"]): _remote(joined(folder, str(entry["key"])), entry) for entry in entries}
    except FileNotFoundError:
        if base == RECORD:
            raise ValueError(f"{url} is not there any more; give a mirror with --from") from None
        return ZenodoRecord(base, {})
    except OSError as error:
        reason = f"{one_line(error)[:100]}{refused_hint(error)}"
        raise ValueError(f"{url} does not answer ({reason}); try again later, or give a mirror with --from") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if "redirects to" in str(error):
            raise
        raise ValueError(f"{url} is not the JSON of a Zenodo record; give another --from") from None
    return ZenodoRecord(base, files)


def _remote(url: str, entry: dict[str, object]) -> Remote:
    kind, _, digest = str(entry.get("checksum", "")).partition(":")
    size = int(str(entry["size"]))
    if size < 0:
        raise ValueError(f"{size} bytes")
    return Remote(url, size, digest if kind == "md5" else "")


def fetch_tasks(names: list[str], out: Path, base: str) -> int:
    """Download tasks into `out`; return 1 when one failed, which is reported while the others are downloaded.

    Raises ValueError for an unknown name or address before any download.
    """
    tasks = chosen_tasks(names)
    record = read_record(base or RECORD)
    failed = False
    for task in tasks:
        for folder in task.folders:
            try:
                print(f"{task.name}: {fetch_folder(task, folder, out, record)}", flush=True)
            except (ValueError, OSError) as error:
                failed = True
                print(f"{task.name}: {one_line(error)}", file=sys.stderr, flush=True)
    return int(failed)


def fetch_folder(task: Official, folder: str, out: Path, record: ZenodoRecord) -> str:
    """Download a task folder into `out` and report its path; an existing one is kept.

    Raises ValueError when its archive cannot be downloaded, is damaged or unsafe, or is another task; OSError when the disk is full.
    """
    out.mkdir(parents=True, exist_ok=True)
    with only_process(out / f".{folder}.lock", f"{folder} is being fetched into {out} by another process; wait for it"):
        return _fetch_folder(task, folder, out, record)


@contextmanager
def only_process(path: Path, otherwise: str) -> Iterator[None]:
    """Hold a lock that is released when the process ends; then remove its file. Raises ValueError `otherwise` when it is taken."""
    while True:
        with os.fdopen(open_own(path), "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(otherwise) from None
            try:
                held = os.path.samestat(os.fstat(file.fileno()), os.stat(path, follow_symlinks=False))
            except FileNotFoundError:  # the process that held it has just removed it
                held = False
            if held:
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return


def _fetch_folder(task: Official, folder: str, out: Path, record: ZenodoRecord) -> str:
    final = out / folder
    if (final / "task_metadata.json").is_file():
        return f"{final} is there already"
    if final.exists():
        raise ValueError(f"{final} exists and is not a task; move it away, or give another --out")
    remote = replace(record.archive(folder), limit=size_limit(task))
    if (remote.bytes or 0) > size_limit(task):
        raise ValueError(f"{remote.shown} has {remote.bytes} bytes, more than {folder} can have; refused: give another --from")
    archive = out / remote.name
    if not archive.is_file():
        check_space(out, (remote.bytes or 0) + (task.audio_bytes or 0) // len(task.folders))
        download_archive(remote, archive)
    elif not as_published(remote, archive):
        raise ValueError(f"{archive} is not the archive published at {remote.shown}: size or MD5 differ; move it away to fetch it again")
    fresh = out / f".{folder}.unpacking"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        own_folder(fresh)
        unpack(archive, folder, fresh, size_limit(task), MOST_FILES + 8 * task.clips)
        check_task(fresh)
        os.replace(fresh, final)
    except ValueError:
        archive.unlink()  # so that the same command downloads it again
        raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    archive.unlink()
    return f"{final} ({'MD5 as published' if remote.md5 else 'no checksum is published there'})"


def size_limit(task: Official) -> int:
    """Return the largest size of a task's folder in bytes: 1.5 times the audio of its clips."""
    seconds = task.seconds if task.seconds is not None else LONGEST_SECONDS
    return round(1.5 * task.clips * seconds * SAMPLE_RATE * 2) + SPARE_BYTES


def check_space(out: Path, wanted: int) -> None:
    """Raise ValueError when the disk is too small for archive and audio."""
    out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    if wanted > free:
        raise ValueError(f"{out} has {free / 1e9:.1f} GB left, archive and audio need {wanted / 1e9:.1f} GB; give another --out")


def unpack(archive: Path, folder: str, target: Path, limit: int, most_files: int = MOST_FILES) -> None:
    """Unpack tasks/{folder}/ of an archive into `target`. Raises ValueError when it is damaged, unsafe or too large."""
    try:
        with (
            disk_errors_of(target),
            gzip.open(archive) as stream,
            tarfile.open(fileobj=stream, mode="r|", tarinfo=BoundedTarInfo) as tar,
        ):
            size = 0
            for number, (member, path) in enumerate(safe_members(tar, folder)):
                if number >= most_files:
                    raise ValueError(f"{archive.name} holds more than {most_files} files, more than {folder} can have; refused")
                size += member.size + tarfile.BLOCKSIZE
                if size > limit:
                    raise ValueError(f"{archive.name} unpacks to more than the {limit / 1e9:.1f} GB that {folder} can have; refused")
                source = tar.extractfile(member)
                assert source is not None
                place = target / path
                place.parent.mkdir(parents=True, exist_ok=True)
                with open(place, "xb") as file:
                    shutil.copyfileobj(source, file, BLOCK)
            check_end(stream)
    except FileExistsError as error:
        raise ValueError(f"{archive.name} holds {Path(error.filename).name} twice; refused") from None
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, RecursionError) as error:
        raise ValueError(f"{archive.name} is damaged ({str(error)[:80]}); the same command fetches it again") from None
    except OSError as error:
        if error.errno not in NAME_FAULTS:
            raise
        name = Path(str(error.filename)).name[:80]
        raise ValueError(f"{archive.name} holds {name!r}, which cannot be a file here ({error.strerror}); refused") from None


def check_end(stream: gzip.GzipFile) -> None:
    """Read everything after the last member, so that gzip checks its checksum. Raises TarError when it is more than padding."""
    for _ in range(PADDING_BYTES // BLOCK):
        if not stream.read(BLOCK):
            return
    raise tarfile.TarError("more than padding follows its last file")


def safe_members(tar: tarfile.TarFile, folder: str) -> Iterator[tuple[tarfile.TarInfo, Path]]:
    """Yield the files of tasks/{folder}/ with their paths in it. Raises ValueError for anything except files and folders there."""
    for member in members(tar):
        parts = PurePosixPath(member.name).parts
        inner = parts[1:] if parts[:1] in (("tasks",), (".",)) else parts
        inner = inner[1:] if inner[:1] == ("tasks",) else inner
        outside = member.name.startswith("/") or ".." in parts or (bool(inner) and inner[0] != folder)
        if outside or not (member.isfile() or member.isdir()):
            kind = "leads outside" if outside else "is a link or device"
            raise ValueError(f"the archive's member {member.name[:80]!r} {kind}; only files of tasks/{folder}/ are unpacked: refused")
        if member.isfile():
            if len(inner) < 2:
                raise ValueError(f"the archive's member {member.name[:80]!r} is not in tasks/{folder}/; refused")
            yield member, Path(*inner[1:])


def check_task(folder: Path) -> None:
    """Raise ValueError when an unpacked folder is not a complete task, with metadata, labels, splits and all clips."""
    try:
        task = read_task(folder)
        for split in task.splits:
            audio_folder(task, split, SAMPLE_RATE)
    except ValueError as error:
        name = folder.name.removeprefix(".").removesuffix(".unpacking")
        raise ValueError(f"the archive holds no whole task: {str(error).replace(str(folder), name)}") from None
