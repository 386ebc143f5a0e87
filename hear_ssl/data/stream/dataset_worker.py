"""Check before a run that a worker can load a dataset, in a process that starts like a worker."""

from __future__ import annotations

import pickle
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

from hear_ssl.data.stream.forkserver import worker_context
from hear_ssl.errors import one_line

REMEDY = "define it at the top of a module that can be imported, without lambdas, locks or open files, or set data.workers=0"


class Parcel:
    """A pickled dataset that is unpickled only on request, so that errors can be reported."""

    def __init__(self, dataset: Any) -> None:
        self.content: Any = dataset

    def __getstate__(self) -> dict[str, bytes]:
        return {"content": bytes(ForkingPickler.dumps(self.content))}


def check_loads(dataset: Any) -> None:
    """Raise ValueError when a decoding worker could not load a dataset."""
    receiver, sender = worker_context().Pipe(duplex=False)
    process: Any = worker_context().Process(target=load, args=(Parcel(dataset), sender), daemon=True)  # type: ignore[attr-defined]
    try:
        process.start()
    except Exception as error:  # pickling a class may raise any error
        raise _refusal(one_line(error)) from None
    sender.close()
    try:
        wait([receiver, process.sentinel])
        answer = receiver.recv() if receiver.poll() else "the process that loaded it ended without an error message"
    except EOFError:
        answer = "the process that loaded it ended without an error message"
    finally:
        receiver.close()
        process.join()
    if answer:
        raise _refusal(answer)


def load(parcel: Parcel, sender: Connection) -> None:
    """Unpickle a dataset and send the error, or '' on success."""
    try:
        pickle.loads(parcel.content)
    except Exception as error:  # unpickling a class may raise any error
        sender.send(f"{type(error).__name__}: {one_line(error)}")
    else:
        sender.send("")


def _refusal(reason: str) -> ValueError:
    return ValueError(f"decoding workers cannot load the dataset ({reason[:200]}); {REMEDY}")
