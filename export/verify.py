"""Install a submission in a clean environment and measure every rule of the HEAR API on it: the command `hear-ssl verify`.

python export/verify.py dist/hear_mymodel-0.1.0-py3-none-any.whl [--weights FILE]
"""

from __future__ import annotations

from hear_ssl.errors import run_main
from hear_ssl.packaging.verify_cli import main

if __name__ == "__main__":
    run_main(main)
