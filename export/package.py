"""Pack a checkpoint into a wheel and a source tree with the HEAR API.

python export/package.py --checkpoint RUN --name hear_mymodel --version 0.1.0 --weights-url URL --out dist
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # in place of this folder, so that the script runs from anywhere

from hear_ssl.errors import run_main
from hear_ssl.packaging.package import main

if __name__ == "__main__":
    run_main(main)
