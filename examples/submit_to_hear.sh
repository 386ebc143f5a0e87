#!/usr/bin/env bash
# From a run to a submission: export a package, measure every rule of the HEAR API on it, print the commands of the official kit.
#
# examples/submit_to_hear.sh RUN NAME [OPTION OF hear-ssl package ...]
#
# RUN: a run or a checkpoint. NAME: of the package, such as hear_mymodel. Set VERSION, OUT (a folder) and URL (where the weights are published)
# in the environment to change them. Measuring takes two minutes on two CPU cores.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,7s/^# \?//p' "$0" >&2; exit 2; }
run=$1 name=$2
shift 2
version=${VERSION:-0.1.0} out=${OUT:-dist}
url=${URL:-https://example.com/$name-$version.safetensors}
[ -n "${URL:-}" ] || set -- --allow-unpublished "$@"

hear-ssl package --checkpoint "$run" --name "$name" --version "$version" --weights-url "$url" --out "$out" "$@"
hear-ssl verify "$out/$name-$version-py3-none-any.whl" --weights "$out/$name-$version.safetensors"

echo
echo "Once the wheel is installed, pip install $out/$name-$version-py3-none-any.whl:"
PYTHONPATH="$out/$name" python -m "$name" suites
