"""The command line `hear-ssl COMMAND`, also `python -m hear_ssl COMMAND`. Only the module of the given command is imported."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import NoReturn

from hear_ssl.errors import nearest, run_main
from hear_ssl.version import __version__

COMMANDS: dict[str, tuple[str, str]] = {  # name: the module with its main(), and its description
    "synth": ("hear_ssl.synthesis.__main__", "render a corpus of positive pairs, or voices for one"),
    "pack": ("hear_ssl.data.pack", "pack audio files into shards to train on"),
    "merge": ("hear_ssl.data.merge", "make one folder of the parts that jobs packed"),
    "reindex": ("hear_ssl.data.reindex", "make index.json for WebDataset shards that another tool wrote"),
    "pairs": ("hear_ssl.data.pair_recordings", "pair recordings of the same source by their file names"),
    "fit": ("hear_ssl.training.fit_cli", "train an encoder on shards, or resume a run"),
    "runs": ("hear_ssl.runs.__main__", "list runs, compare them, find the best, export them as CSV"),
    "config": ("hear_ssl.training.show_config", "print a recipe with the meaning and the origin of every key"),
    "evaluate": ("hear_ssl.evaluation.__main__", "score a run, a checkpoint or a HEAR module on tasks"),
    "report": ("hear_ssl.evaluation.report.__main__", "write one HTML page about the scores of a model"),
    "tasks": ("hear_ssl.evaluation.tasks.__main__", "list the official HEAR tasks, or download some of them"),
    "package": ("hear_ssl.packaging.package_cli", "export a checkpoint as a wheel with the HEAR API"),
    "verify": ("hear_ssl.packaging.verify_cli", "install a wheel in a clean environment and check the HEAR API"),
    "foreign": ("hear_ssl.packaging.foreign_cli", "make a Python environment for another's HEAR module"),
    "publish": ("hear_ssl.packaging.publish_cli", "upload the weights of an exported model, then load it from there"),
    "embed": ("hear_ssl.embed", "embed audio files with a run, a wheel or published weights"),
}


def script() -> NoReturn:
    """Run the command given on the command line and exit with its status; 2 when there is no such command."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the process at once during imports; run_main sets its own handler
    run_main(command(sys.argv[1:]))


def command(arguments: Sequence[str]) -> Callable[[], int | None]:
    """Return a function that runs the command given as the first argument with the other arguments."""
    name = arguments[0] if arguments else "--help"
    if name not in COMMANDS:
        return partial(overview, name)
    main: Callable[[Sequence[str]], int | None] = import_module(COMMANDS[name][0]).main
    return partial(main, arguments[1:])


def overview(option: str) -> int:
    """Print the list of commands or the version. Raises ValueError with the nearest command for anything else."""
    if option in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        print("usage: hear-ssl COMMAND [options]\n\nTrain audio embeddings without labels, and export them with the HEAR API.\n\ncommands:")
        print("\n".join(f"  {name:{width}}  {summary}" for name, (_, summary) in COMMANDS.items()))
        print("\nOptions of a command: hear-ssl COMMAND --help. Version: hear-ssl --version.")
    elif option == "--version":
        print(f"hear_ssl {__version__}")
    else:
        raise ValueError(f"there is no command {option!r}{nearest(option, list(COMMANDS))}; give one of {', '.join(COMMANDS)}")
    return 0


if __name__ == "__main__":
    script()
