"""python -m hear_ssl.evaluate: the command `hear-ssl evaluate`. As an attribute of hear_ssl, evaluate is the function."""

from __future__ import annotations

if __name__ == "hear_ssl.evaluate":
    raise ImportError("hear_ssl.evaluate is a function: import hear_ssl, then call hear_ssl.evaluate(run, tasks=...)")

from hear_ssl.errors import run_main
from hear_ssl.evaluation.__main__ import main

if __name__ == "__main__":
    run_main(main)
