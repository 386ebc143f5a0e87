"""The runs of a sweep as a SLURM job array, submitted by submitit (the extra `slurm`).

submitit stores each job's call, the arguments of one run, and its output in SWEEP/submitit. Before a job's time limit it sends SIGUSR2;
the run saves a checkpoint, and submitit queues the job again, which resumes the run.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hear_ssl.addresses import redacted_text
from hear_ssl.errors import one_line
from hear_ssl.progress import report
from hear_ssl.training.sweep_plan import SweepRun
from hear_ssl.training.sweep_processes import PAUSE_SECONDS, Started, environment, launch

CLUSTERS = ("slurm", "local")
CHECK_SECONDS = 2.0  # between two queries of a job's state


class FitJob:
    """The callable of a job: start or resume a run and return its exit status."""

    def __init__(self, run: SweepRun) -> None:
        self.run = run
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Train, unless the run is done."""
        if self.run.state() == "done":
            return 0
        handler = signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # SLURM sends it to every process; it ends one without a handler
        self.process = launch(self.run, environment(self.run))
        signal.signal(signal.SIGUSR2, handler)
        try:
            while (status := self.process.poll()) is None:
                time.sleep(PAUSE_SECONDS)
        except KeyboardInterrupt:
            self.process.send_signal(signal.SIGINT)
            raise
        return status

    def checkpoint(self) -> Any:
        """Save the run before the job's time limit, and return the job that submitit queues again."""
        from submitit.helpers import DelayedSubmission

        if self.process is not None:
            self.process.send_signal(signal.SIGUSR1)
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)  # `__call__` reaps it, whose lock may be held
        return DelayedSubmission(FitJob(self.run))


class SlurmStart:
    """Start the runs of a sweep by submitting all of them."""

    def __init__(self, runs: Sequence[SweepRun], folder: Path, parameters: Mapping[str, Any], at_once: int | None) -> None:
        """Submit runs with parameters of submitit; at most `at_once` of them run in parallel, any number by default.

        parameters: names of submitit, such as timeout_min, gpus_per_node and slurm_partition, and `cluster`: slurm, or local for
        processes on this machine. Raises ValueError when submitit or SLURM is missing, refuses a parameter, or an address has credentials.
        """
        given = dict(parameters)
        cluster = given.pop("cluster", "slurm")
        check_cluster(cluster)
        if "timeout_min" not in given and "slurm_time" not in given:
            raise ValueError(
                "give timeout_min=MINUTES with --slurm, the longest that a job may take; it is queued again when it needs more"
            )
        secret = next((one for run in runs for one in run.arguments if redacted_text(one) != one), None)
        if secret is not None:
            raise ValueError(f"{redacted_text(secret)} has credentials, which a job would keep in a file; give them by the environment")
        import submitit

        limit = {"slurm_array_parallelism": at_once} if at_once else {}
        try:
            executor = submitit.AutoExecutor(folder / "submitit", cluster=cluster)
            executor.update_parameters(**{"name": folder.name, **limit, **given})
            with executor.batch():
                jobs = [executor.submit(FitJob(run)) for run in runs]
        except (NameError, AssertionError, TypeError, ValueError, RuntimeError, submitit.core.utils.FailedJobError) as error:
            raise ValueError(f"submitit refuses the jobs ({one_line(error)[:300]}); correct what --slurm gives") from None
        self.jobs = {run.name: SubmittedRun(run, job) for run, job in zip(runs, jobs, strict=True)}
        report(f"submitted {len(jobs)} jobs: {', '.join(job.job_id for job in jobs)}")

    def __call__(self, run: SweepRun, slot: int) -> Started:
        """Return the job of a run."""
        return self.jobs[run.name]


class SubmittedRun:
    """A job, as `carry_out` follows it."""

    def __init__(self, run: SweepRun, job: Any) -> None:
        self.run, self.job = run, job
        self.due = 0.0

    def poll(self) -> int | None:
        """Return the exit status of its run, or 1 when the job itself failed; None before its end."""
        from submitit.core.utils import FailedJobError, UncompletedJobError

        if time.monotonic() < self.due:
            return None
        self.due = time.monotonic() + CHECK_SECONDS
        if not self.job.done():
            return None
        try:
            return int(self.job.result())
        except (FailedJobError, UncompletedJobError) as error:
            self.run.log.parent.mkdir(parents=True, exist_ok=True)
            with open(self.run.log, "a") as log:
                log.write(f"error: job {self.job.job_id}: {one_line(error)[:300]}\n")
            return 1

    def send_signal(self, number: int) -> None:
        """Cancel the job: SLURM sends SIGTERM to the run."""
        self.job.cancel(check=False)


def check_cluster(cluster: Any) -> None:
    """Raise ValueError when this kind of cluster, or submitit, is missing."""
    if cluster not in CLUSTERS:
        raise ValueError(f"cluster={cluster} is unknown; give {' or '.join(CLUSTERS)}")
    if importlib.util.find_spec("submitit") is None:
        raise ValueError("SLURM jobs are submitted by submitit, which is not installed; run: pip install submitit")
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise ValueError("there is no SLURM on this machine (no sbatch in PATH); leave --slurm out, or try with --slurm cluster=local")
