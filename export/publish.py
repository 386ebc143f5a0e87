"""Publish the weights of an exported model, then load it from its public URL: the command `hear-ssl publish`.

python export/publish.py --tree dist/hear_mymodel --weights dist/hear_mymodel-0.1.0.safetensors --to TARGET --public-url URL
"""

from __future__ import annotations

from hear_ssl.errors import run_main
from hear_ssl.packaging.publish_cli import main

if __name__ == "__main__":
    run_main(main)
