"""Train an audio encoder from shards and write a run folder: the command `hear-ssl fit`.

python train/fit.py --config simclr data.shards=SHARDS [key=value ...]
python train/fit.py --resume RUN [key=value ...]
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the process at once during imports; run_main sets its own handler

from hear_ssl.errors import run_main
from hear_ssl.training.fit_cli import main

if __name__ == "__main__":
    run_main(main)
