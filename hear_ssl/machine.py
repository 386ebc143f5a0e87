"""Resources of this process: CPU cores, home folder, user name, shared memory. Does not import torch."""

from __future__ import annotations

import atexit
import ctypes
import getpass
import math
import os
import shutil
import sys
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path

CGROUPS, MEMBERSHIP, SHARED_MEMORY = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"), Path("/dev/shm")
CPU_MOUNTS = ("", "unified", "cpu", "cpu,cpuacct", "cpuacct,cpu")  # of version 2, of both at once, of version 1
WRITTEN_AT_HOME = ("MPLCONFIGDIR", "TRITON_HOME", "WANDB_CACHE_DIR", "WANDB_DATA_DIR")  # only written to, never read
_made: list[str] = []  # the folder that replaces a missing or read-only home
MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD = -3, -1, -2  # options of glibc's mallopt


def usable_cores() -> int:
    """Return the number of cores that this process may use: those of its affinity, at most the CPU quota of its cgroup, rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cpu_quota())))


def give_cores(process: int, place: int, places: int) -> None:
    """Bind a process to its share of this process's cores, number `place` of `places`; each gets at least one core."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if 1 < places <= len(cores):
        with suppress(OSError):  # it has ended
            os.sched_setaffinity(process, cores[place::places])


def cpu_quota(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float:
    """Return the smallest CPU quota of this process's cgroup and its parents, in cores; infinity without a quota.

    Version 2 stores quota and period in cpu.max, version 1 in two files, both in microseconds, with `max` or -1 for no quota
    (https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/scheduler/sched-bwc.html).
    """
    groups = {Path()}  # a container sees its own group as the root
    for line in _read(membership).splitlines():
        group = Path(line.split(":", 2)[-1].lstrip("/"))
        groups |= {group, *group.parents}
    quotas = [math.inf]
    for folder in {root / mount / group for mount in CPU_MOUNTS for group in groups if ".." not in group.parts}:
        words = _read(folder / "cpu.max").split() or [_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        if len(words) == 2 and all(word.isdecimal() and int(word) for word in words):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def name_user() -> None:
    """Set LOGNAME for a user without a name, since torch names its cache after the user (getpass.getuser)."""
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["LOGNAME"] = f"uid{os.getuid()}"


def settle_process() -> None:
    """Set environment variables that libraries need on restricted machines; child processes inherit them.

    A user without a name: see name_user. No home folder, or a read-only one: wandb, matplotlib and triton get a temporary folder, which
    is removed at the end. A CPU quota below the number of cores: the number of threads is limited, since numpy and torch start a thread
    for each core. Variables that are already set are not changed.
    """
    name_user()
    home = os.path.expanduser("~")
    names = ["HOME"] if not os.path.isdir(home) else [] if os.access(home, os.W_OK | os.X_OK) else list(WRITTEN_AT_HOME)
    names = [name for name in names if name == "HOME" or name not in os.environ]
    folder = _home_stand_in() if names else ""
    os.environ.update({name: folder for name in names if folder})
    cores = usable_cores()
    if "OMP_NUM_THREADS" not in os.environ and hasattr(os, "sched_getaffinity") and cores < len(os.sched_getaffinity(0)):
        os.environ["OMP_NUM_THREADS"] = str(cores)


def _home_stand_in() -> str:
    try:
        folder = tempfile.mkdtemp(prefix="hear-home-")
    except OSError:  # there is no temporary folder either; code that needs one raises a clear error
        return ""
    _made.append(folder)
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    return folder


def expand_home(path: str, where: str) -> str:
    """Return a path with ~ or ~user replaced by the home folder; other paths are unchanged.

    Raises ValueError that names the option `where` when there is no such home folder.
    """
    if not path.startswith("~"):
        return path
    user, expanded = path.partition("/")[0][1:], os.path.expanduser(path)
    if not user and (expanded == path or os.path.expanduser("~") in _made):
        raise ValueError(f"{where} is {path}, but there is no home folder; set HOME to a folder, or give a path without ~")
    if expanded == path:
        raise ValueError(f"{where} is {path}, but there is no user {user}; write ./{path} for a folder of that name")
    return expanded


def user_path(text: str) -> str:
    """Return a path from the command line with ~ expanded, for `type=` of argparse.

    Raises FileNotFoundError, which argparse passes on to run_main, when there is no such home folder.
    """
    try:
        return expand_home(text, "the path")
    except ValueError as error:
        raise FileNotFoundError(str(error)) from None


def user_folder(text: str) -> Path:
    """Return `user_path` as a Path."""
    return Path(user_path(text))


def user_cache() -> Path:
    """Return the folder of hear_ssl in the user's cache, which may not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path(os.path.expanduser("~")) / ".cache") / "hear_ssl"


def free_shared_memory(folder: Path = SHARED_MEMORY) -> float:
    """Return the free bytes in shared memory, infinity if it is not a separate file system (macOS)."""
    try:
        found = os.statvfs(folder)
    except (OSError, AttributeError):
        return math.inf
    return found.f_bavail * found.f_frsize


def lacks_to_compile(gpu: bool) -> str:
    """Return what is missing on this machine for torch.compile, a compiler or Python's headers, or '' for nothing.

    For the CPU it generates C++ (CXX or g++), for a GPU a C launcher of each kernel (CC, gcc, clang or cc).
    """
    default = ("gcc", "clang", "cc") if gpu else ("clang++" if sys.platform == "darwin" else "g++",)
    given = os.environ.get("CC" if gpu else "CXX")
    names = (given,) if given else default
    if not any(shutil.which(name) for name in names):
        return f"a {'C' if gpu else 'C++'} compiler ({' or '.join(names)}) in PATH"
    return "" if (Path(sysconfig.get_path("include")) / "Python.h").is_file() else "Python.h, of the package python3-dev"


def started_by_srun(tasks: int) -> bool:
    """Return whether srun started this process as one of `tasks`.

    A batch script has SLURM_PROCID too, but no step; an interactive step is numbered from the top (slurm.h, SLURM_INTERACTIVE_STEP).
    """
    if "SLURM_PROCID" not in os.environ:
        return False
    step = os.environ.get("SLURM_STEP_ID", "")
    if step.isdecimal():
        return int(step) < 0xFFFFFFF0
    return os.environ.get("SLURM_NTASKS") == str(tasks)


def keep_memory() -> bool:
    """Make glibc keep freed memory instead of returning it to the system after every step; return whether it did.

    Every training step frees and allocates the same hundreds of MB, and the page faults take up to half of the step. Call this before
    torch is imported. It does nothing with other C libraries.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        settings = ((MMAP_THRESHOLD, 2**31 - 1), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, 256 * 2**20))
        applied = [libc.mallopt(option, value) == 1 for option, value in settings]
        return all(applied)
    except (OSError, AttributeError):
        return False
