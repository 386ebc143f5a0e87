"""python -m PACKAGE embed FILES... --out embeddings.npz: embed audio files of any format and rate.

Needs soundfile, soxr, numpy and tqdm, the extra `embed` of the package; nothing else of the package does. The archive is
written entry by entry, so that memory holds one file's embeddings and not all.
"""

from __future__ import annotations

import argparse
import os
import sys
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List

PACKAGE = str(__package__)
BLOCK_FRAMES = 1 << 20
RATES = (1000, 1 << 22)  # Hz: at a lower rate a small file would be gigabytes at the model's, a higher one is no sound's


def main() -> int:
    """Embed as the command line says and return the exit status."""
    arguments = parse_arguments()
    out = Path(arguments.out)
    if out.suffix != ".npz":
        raise ValueError(f"--out {out} is not allowed; give a name that ends in .npz")
    check_extra()
    import torch

    from . import load_model

    model = load_model(arguments.weights or "")
    try:
        model = model.to(torch.device(arguments.device))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"--device {arguments.device} cannot be used ({one_line(error)}); give cpu, or cuda on a machine with a GPU"
        ) from None
    return embed(model, arguments.files, out, arguments.timestamps)


def check_extra() -> None:
    """Raise ValueError that says what to install when the packages that read audio files are not there."""
    try:
        import numpy  # noqa: F401
        import soundfile  # noqa: F401
        import soxr  # noqa: F401
        import tqdm  # noqa: F401
    except (ImportError, OSError) as error:  # OSError: soundfile without libsndfile
        raise ValueError(f"to embed files run: python3 -m pip install numpy soundfile soxr tqdm ({one_line(error)})") from None


def embed(model: Any, files: List[str], out: Path, timestamps: bool) -> int:
    """Write the embeddings of audio files to `out` and return 0, or 1 when a file was left out.

    `files` and `scene_embeddings` hold one row a file that could be read; with timestamps, timestamp_embeddings_I and
    timestamps_ms_I are those of row I. A file that cannot be read costs one line on stderr. Raises ValueError when
    none can, OSError when `out` cannot be written; then nothing is left under its name.
    """
    import numpy
    import torch
    from tqdm import tqdm

    from . import get_scene_embeddings, get_timestamp_embeddings

    names: List[str] = []
    scenes: List[Any] = []
    with archive(out) as entries:
        for file in tqdm(files, unit="file", disable=None):
            try:
                audio = torch.from_numpy(read_audio(file, model.sample_rate)).unsqueeze(0)
            except ValueError as error:
                tqdm.write(f"left out: {shown(error)}", file=sys.stderr)
                continue
            scenes.append(get_scene_embeddings(audio, model)[0].cpu().numpy())
            if timestamps:
                embeddings, timestamps_ms = get_timestamp_embeddings(audio, model)
                write_array(entries, f"timestamp_embeddings_{len(names)}", embeddings[0].cpu().numpy())
                write_array(entries, f"timestamps_ms_{len(names)}", timestamps_ms[0].cpu().numpy())
            names.append(file)
        if not names:
            raise ValueError(f"no file could be embedded; {out} was not written")
        write_array(entries, "files", numpy.array(names))
        write_array(entries, "scene_embeddings", numpy.stack(scenes))
    print(f"{out}: {len(names)} of {len(files)} files, scene embeddings of {model.scene_embedding_size}")
    return 0 if len(names) == len(files) else 1


def read_audio(file: str, sample_rate: int) -> Any:
    """Return a clip as the model takes it: mono (the mean of its channels), at `sample_rate` Hz (soxr HQ), float32 (time,).

    Raises ValueError that names the file when it is missing, no audio, empty or not finite.
    """
    import numpy
    import soundfile
    import soxr

    if not Path(file).is_file():
        raise ValueError(f"{file} is not a file")
    try:
        with soundfile.SoundFile(file) as sound:
            if not RATES[0] <= sound.samplerate <= RATES[1]:
                raise ValueError(f"{sound.samplerate} Hz; from {RATES[0]} to {RATES[1]} Hz can be read")
            blocks = [block.mean(axis=1) for block in sound.blocks(BLOCK_FRAMES, dtype="float32", always_2d=True)]
            rate = sound.samplerate
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError, OSError) as error:  # TypeError: headerless formats
        raise ValueError(f"{file} cannot be read as audio ({one_line(error)})") from None
    waveform = numpy.concatenate(blocks) if blocks else numpy.zeros(0, numpy.float32)
    if not numpy.isfinite(waveform).all():
        raise ValueError(f"{file} holds samples that are not finite")
    waveform = waveform if rate == sample_rate else soxr.resample(waveform, rate, sample_rate, quality="HQ")
    if not len(waveform):
        raise ValueError(f"{file} holds no samples")
    return waveform


@contextmanager
def archive(out: Path) -> Iterator[zipfile.ZipFile]:
    """Give an archive to fill; it appears as `out` when the block ends without an error, and not at all otherwise."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with open(str(temporary), "xb") as file:
            with zipfile.ZipFile(file, "w") as entries:
                yield entries
            file.flush()
            os.fsync(file.fileno())
        os.replace(str(temporary), str(out))
    finally:
        if temporary.exists():
            temporary.unlink()


def write_array(entries: zipfile.ZipFile, name: str, array: Any) -> None:
    """Add one array to an .npz archive, as numpy.load reads it."""
    import numpy

    write: Any = numpy.lib.format.write_array
    with entries.open(f"{name}.npy", "w", force_zip64=True) as file:
        write(file, array, allow_pickle=False)


def one_line(error: BaseException) -> str:
    """Return an error's message in one line of at most 120 characters."""
    return (shown(error) or type(error).__name__)[:120]


def shown(text: Any) -> str:
    """Return a text, such as the name of a file, on one line; what a terminal would obey is written out."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in " ".join(str(text).split()))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE}", description="Audio embeddings with the HEAR API.")
    command = parser.add_subparsers(dest="command", metavar="COMMAND", required=True).add_parser(
        "embed",
        help="embed audio files",
        description="Embed audio files of any format that libsndfile reads and any sample rate. "
        "Exit status 1 when some could not be read, 2 when nothing was written.",
    )
    command.add_argument("files", nargs="+", metavar="FILE", help="audio file; channels are averaged and the rate is converted")
    command.add_argument("--out", required=True, metavar="FILE.npz", help="numpy archive to write: files, scene_embeddings")
    command.add_argument(
        "--timestamps", action="store_true", help="also timestamp_embeddings_I and timestamps_ms_I for each row I of files"
    )
    command.add_argument("--weights", metavar="FILE", help="weights file; without it those of the package, or fetched once")
    command.add_argument("--device", default="cpu", help="cpu (the default), cuda, cuda:1, ...")
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
