"""Export a checkpoint as a wheel and a source tree with the HEAR API: the command `hear-ssl package`.

python export/package.py --checkpoint RUN --name hear_mymodel --version 0.1.0 --weights-url URL --out dist
"""

from __future__ import annotations

from hear_ssl.errors import run_main
from hear_ssl.packaging.package_cli import main

if __name__ == "__main__":
    run_main(main)
