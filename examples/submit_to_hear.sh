#!/usr/bin/env bash
# From a run to a submission: export a package, measure every rule of the HEAR API on it, score it, print the commands of the official kit.
#
# examples/submit_to_hear.sh RUN NAME TASKS [OPTION OF hear-ssl package ...]
#
# RUN: a run or a checkpoint. NAME: of the package, such as hear_mymodel. TASKS: a folder of tasks (hear-ssl tasks fetch esc50 --out TASKS).
# Set VERSION, URL (of the weights), OUT and GRID (fast, official) in the environment to change them.
set -euo pipefail
run=$1 name=$2 tasks=$3
shift 3
version=${VERSION:-0.1.0} out=${OUT:-dist} grid=${GRID:-fast}
url=${URL:-https://example.com/$name-$version.safetensors}
published=() && [ -n "${URL:-}" ] || published=(--allow-unpublished)

hear-ssl package --checkpoint "$run" --name "$name" --version "$version" --weights-url "$url" --out "$out" "${published[@]}" "$@"
hear-ssl verify "$out/$name-$version-py3-none-any.whl" --weights "$out/$name-$version.safetensors"
hear-ssl evaluate --module "$run" --tasks "$tasks" --out "$out/scores" --grid "$grid"

echo
echo "The official kit and other benchmarks, once the wheel is installed (pip install $out/$name-$version-py3-none-any.whl):"
PYTHONPATH="$out/$name" python -m "$name" suites
