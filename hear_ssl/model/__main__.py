"""python -m PACKAGE embed FILES... --out embeddings.npz: embed audio files of any format and rate; python -m PACKAGE onnx OUT.onnx.

python -m PACKAGE suites prints how to run other benchmarks. `embed` needs soundfile, soxr, numpy and tqdm, the extra `embed`. The
archive is written entry by entry, so that only one file's embeddings are in memory. `onnx` is in onnx_export.py and needs the extra
`onnx`."""

from __future__ import annotations

import argparse
import importlib
import sys
import zipfile
from pathlib import Path
from typing import Any, List

from .audio_file import SUFFIXES, streams
from .output import one_line, shown, whole_file

PACKAGE = str(__package__)


def main() -> int:
    """Run the command given on the command line and return the exit status."""
    arguments = parse_arguments()
    if arguments.command == "suites":
        return suites(arguments.benchmark)
    return run_onnx(arguments) if arguments.command == "onnx" else run_embed(arguments)


def suites(benchmark: str) -> int:
    """Print the commands of all benchmarks, or the config file that a benchmark needs, and return 0."""
    from .manifest import read_manifest
    from .suites.commands import evar_config, overview

    manifest = read_manifest(Path(__file__).resolve().parent / "manifest.json")
    print(evar_config(PACKAGE, manifest) if benchmark == "evar" else overview(PACKAGE))
    return 0


def run_embed(arguments: argparse.Namespace) -> int:
    """Embed with the options of the command line and return the exit status. Raises ValueError when a package or device is missing."""
    out = Path(arguments.out)
    if out.suffix != ".npz":
        raise ValueError(f"--out {out} is not allowed; give a name that ends in .npz")
    try:
        list(map(importlib.import_module, ("numpy", "soundfile", "soxr", "tqdm")))
    except (ImportError, OSError) as error:  # OSError: soundfile without libsndfile
        raise ValueError(f"to embed files run: python3 -m pip install numpy soundfile soxr tqdm ({one_line(error)})") from None
    import torch

    from . import load_model

    model = load_model(arguments.weights or "")
    try:
        model = model.to(torch.device(arguments.device))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"--device {arguments.device} cannot be used ({one_line(error)}); give cpu, or cuda where there is a GPU"
        ) from None
    return embed(model, arguments.files, out, arguments.timestamps)


def with_files_of_folders(names: List[str]) -> List[str]:
    """Return the names with the audio files of a folder and its subfolders, by name, in place of each folder that has some."""
    files: List[str] = []
    for name in names:
        inside = sorted(path for path in Path(name).rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        files += map(str, inside) if inside else [name]
    return files


def run_onnx(arguments: argparse.Namespace) -> int:
    """Export to ONNX with the options of the command line and return the exit status."""
    out = Path(arguments.out)
    if out.suffix != ".onnx":
        raise ValueError(f"{out} is not allowed; give a name that ends in .onnx")
    from . import load_model
    from .hear import HERE
    from .manifest import read_manifest
    from .onnx_export import check_packages, export_file

    check_packages()
    kinds = (arguments.only,) if arguments.only else ("scene", "timestamp")
    print(export_file(load_model(arguments.weights or ""), read_manifest(HERE / "manifest.json"), out, kinds))
    return 0


def embed(model: Any, files: List[str], out: Path, timestamps: bool) -> int:
    """Write the embeddings of audio files to `out` and return 0, or 1 when a file was left out.

    `files` and `scene_embeddings` have one row for each readable file; timestamp_embeddings_I and timestamps_ms_I belong to row I.
    Raises ValueError when no file can be read and OSError when `out` cannot be written; `out` is then not created."""
    import numpy
    import torch
    from tqdm import tqdm

    from . import get_scene_embeddings, get_timestamp_embeddings

    files = with_files_of_folders(files)
    names: List[str] = []
    scenes: List[Any] = []
    with whole_file(out) as file, zipfile.ZipFile(file, "w") as entries:

        def write(name: str, array: Any) -> None:
            with entries.open(f"{name}.npy", "w", force_zip64=True) as part:
                numpy.lib.format.write_array(part, array, allow_pickle=False)  # type: ignore[no-untyped-call]

        for name in tqdm(files, unit="file", disable=None):
            try:
                audio = torch.from_numpy(read_audio(name, model.sample_rate)).unsqueeze(0)
            except ValueError as error:
                tqdm.write(f"left out: {shown(error)}", file=sys.stderr)
                continue
            scenes.append(get_scene_embeddings(audio, model)[0].cpu().numpy())
            if timestamps:
                embeddings, timestamps_ms = get_timestamp_embeddings(audio, model)
                write(f"timestamp_embeddings_{len(names)}", embeddings[0].cpu().numpy())
                write(f"timestamps_ms_{len(names)}", timestamps_ms[0].cpu().numpy())
            names.append(name)
        if not names:
            raise ValueError(f"no file could be embedded; {out} was not written")
        write("files", numpy.array(names))
        write("scene_embeddings", numpy.stack(scenes))
    print(f"{out}: {len(names)} of {len(files)} files, scene embeddings of {model.scene_embedding_size} dimensions")
    return 0 if len(names) == len(files) else 1


def read_audio(file: str, sample_rate: int) -> Any:
    """Return a file as a mono clip (time,) at `sample_rate` Hz (soxr HQ). Raises ValueError that names the file when it is unusable."""
    import numpy
    import soundfile
    import soxr

    parts = [numpy.zeros(0, numpy.float32)]
    if not Path(file).is_file():
        raise ValueError(f"{file} has no audio files" if Path(file).is_dir() else f"{file} is not a file")
    try:
        for stream in streams(Path(file).read_bytes()):
            mono = numpy.concatenate([parts[0], *(block.mean(axis=1) for block in stream.blocks())])
            if stream.loss:
                print(shown(f"{file} {stream.loss}"), file=sys.stderr)  # the samples before that are embedded
            parts.append(soxr.resample(mono, stream.rate, sample_rate, quality="HQ") if len(mono) and stream.rate != sample_rate else mono)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError) as error:
        raise ValueError(f"{file} cannot be read as audio ({one_line(error)})") from None
    waveform = numpy.concatenate(parts)
    if not len(waveform) or not numpy.isfinite(waveform).all():
        raise ValueError(f"{file} holds {'samples that are not finite' if len(waveform) else 'no samples'}")
    return waveform


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE}", description="Audio embeddings with the HEAR API.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    about = "Embed audio files of any format and rate. Exit status 1 when some could not be read, 2 when nothing was written."
    command = commands.add_parser("embed", help="embed audio files", description=about)
    command.add_argument(
        "files", nargs="+", metavar="FILE", help="audio file, or a folder of them; channels are averaged, the rate is converted"
    )
    command.add_argument("--out", required=True, metavar="FILE.npz", help="numpy archive to write: files, scene_embeddings")
    command.add_argument("--timestamps", action="store_true", help="also timestamp_embeddings_I and timestamps_ms_I of each row I")
    weights = "weights file; without it those of the package, or fetched once"
    command.add_argument("--weights", metavar="FILE", help=weights)
    command.add_argument("--device", default="cpu", help="cpu (the default), cuda, cuda:1, ...")
    about = "Print how to run HEAR, MTEB, X-ARES, XARES-LLM and EVAR with this model."
    command = commands.add_parser("suites", help="print how to run other benchmarks", description=about)
    command.add_argument("benchmark", nargs="?", choices=["evar"], help="print its file instead: the config of EVAR")
    about = "Write the model as one ONNX file, from waveforms at its sample rate to embeddings, and compare it with torch."
    onnx = commands.add_parser("onnx", help="export to ONNX", description=about)
    onnx.add_argument("out", metavar="OUT.onnx", help="file to write; input waveform (batch, time), both of any size")
    onnx.add_argument("--only", choices=("scene", "timestamp"), help="embeddings of one kind alone, in a smaller file")
    onnx.add_argument("--weights", metavar="FILE", help=weights)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        print(f"error: {shown(error)}", file=sys.stderr)
        sys.exit(2)
