"""The packages of hear_ssl; all else is in pyproject.toml. The recipes of configs/ are installed as hear_ssl/configs."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["hear_ssl*"]), "hear_ssl.configs"], package_dir={"hear_ssl.configs": "configs"})
