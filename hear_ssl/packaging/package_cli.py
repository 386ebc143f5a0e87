"""hear-ssl package --checkpoint RUN --name hear_mymodel --version 0.1.0 --weights-url URL --out dist: export a checkpoint as a wheel."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from hear_ssl.help_text import HelpText
from hear_ssl.machine import user_path
from hear_ssl.packaging.licenses import parse_data_licenses
from hear_ssl.packaging.request import LINEAR_CLIPS, PER_TOKEN, PackageRequest, checked_weights, is_composition_key


def main(arguments: Sequence[str] | None = None) -> int:
    """Package with the options of the command line."""
    given = parse_arguments(arguments)
    from hear_ssl.packaging.package import package, weights_file  # loads torch

    request = asked_for(given)
    wheel = package(request, Path(given.out))
    weights = wheel.parent / weights_file(request)
    print(f"wheel        {wheel}")
    print(f"source tree  {wheel.parent / request.name}")
    print(f"weights      {weights}")
    if request.allow_unpublished:
        print(
            f"not checked  whether {request.weights_url} serves them; hear-ssl publish uploads and checks them, and records it in the wheel"
        )
    at_hand = request.allow_unpublished and not request.bundle_weights
    print(f"next         hear-ssl verify {wheel}{f' --weights {weights}' * at_hand}")
    return 0


def asked_for(given: argparse.Namespace) -> PackageRequest:
    """Return the request given by the command line. Raises ValueError for values that are not allowed."""
    from hear_ssl.checkpoint import find_checkpoint
    from hear_ssl.packaging.linear_map import parse_linear
    from hear_ssl.packaging.publication import check_publication

    weights = checked_weights(given.weights or "", given.untrained)
    check_publication(given.name, given.version, given.weights_url)
    return PackageRequest(
        find_checkpoint(given.checkpoint),
        given.name,
        given.version,
        given.weights_url,
        given.bundle_weights,
        given.untrained,
        parse_composition(given.set),
        given.allow_unpublished,
        given.allow_long_hop,
        given.half,
        parse_data_licenses(given.data_license),
        weights,
        parse_linear(given.linear),
        given.linear_clips,
        tuple(given.linear_shards),
    )


def parse_composition(pairs: list[str]) -> dict[str, Any]:
    """Return {'scene.0.how': ...} for 'scene.0.how=mean' pairs, in order. Raises ValueError for other keys."""
    composition: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not is_composition_key(key):
            raise ValueError(
                f"--set {pair!r} is not of the form scene=LIST, scene.0.OPTION=VALUE, the same of timestamp, or {PER_TOKEN}=NUMBER, such as"
                " scene=[pooled,bands] or scene.0.how=mean"
            )
        composition.pop(key, None)
        try:
            composition[key] = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]  # type: ignore[call-overload,index]
        except (YAMLError, OmegaConfBaseException, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"--set {pair[:200]!r} cannot be read ({' '.join(str(error).split())[:100]})") from None
    return composition


ABOUT = "Pack a trained encoder into a wheel and a source tree with the HEAR API; both depend on torch alone."


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="hear-ssl package", formatter_class=HelpText, description=ABOUT)
    parser.add_argument(
        "--checkpoint", required=True, type=user_path, metavar="RUN", help="run folder (its last checkpoint) or a checkpoint file"
    )
    parser.add_argument("--name", required=True, help="name of the package and module, such as hear_mymodel")
    parser.add_argument("--version", required=True, help="its version, such as 0.1.0")
    parser.add_argument("--weights-url", required=True, metavar="URL", help="public address from which load_model() fetches the weights")
    parser.add_argument(
        "--out", required=True, type=user_path, metavar="FOLDER", help="folder for the wheel, the source tree and the weights file"
    )
    parser.add_argument("--bundle-weights", action="store_true", help="put the weights into the wheel too, so that nothing is fetched")
    parser.add_argument(
        "--half", action="store_true", help="store the weights in float16, half the download; load_model() widens them to float32 again"
    )
    parser.add_argument(
        "--weights",
        metavar="WHICH",
        help="of a run with trainer.ema: ema, the moving average of the weights, which is the default, or trained, those of the last step",
    )
    parser.add_argument(
        "--untrained", action="store_true", help="the same architecture with random weights: the baseline that training must beat"
    )
    parser.add_argument(
        "--allow-unpublished", action="store_true", help="do not fetch the weights from their URL to check it; COMPLIANCE.md records it"
    )
    parser.add_argument(
        "--data-license",
        action="append",
        default=[],
        metavar="SOURCE=NAME",
        help="licence of a training source whose shards name none (SPDX, such as CC-BY-4.0, or an expression); manifest and model card"
        " record that it was stated at export; repeatable",
    )
    parser.add_argument("--allow-long-hop", action="store_true", help="allow timestamps more than 50 ms apart; COMPLIANCE.md records it")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="what embeddings are made of, without retraining: scene=[pooled,bands] and timestamp=[{tokens: {layers: last}},frames] name"
        " readouts, scene.0.how=mean,std sets an option of the first, timestamps_per_token=2 halves the hop; the page Parts of the"
        " documentation lists the readouts, FILE.py:Class is one of yours; repeatable",
    )
    add_linear(parser)
    return parser.parse_args(given)


def add_linear(parser: argparse.ArgumentParser) -> None:
    """Add the options of linear maps."""
    parser.add_argument(
        "--linear",
        action="append",
        default=[],
        metavar="[scene=|timestamp=]KIND[:DIMS]",
        help="map embeddings onto DIMS dimensions by a map fitted over clips of the training shards, without labels. KIND is pca (principal"
        " components), whiten (with unit variances, shrunk) or standardise (unit variance for each dimension); without DIMS all that vary;"
        " such as --linear scene=whiten:512; repeatable. The same command resumes a stopped fit",
    )
    parser.add_argument(
        "--linear-clips",
        type=int,
        default=LINEAR_CLIPS,
        metavar="N",
        help="clips to fit the map on, several times the dimensions (default: %(default)s)",
    )
    parser.add_argument(
        "--linear-shards", nargs="+", default=[], metavar="FOLDER", help="packed clips to fit the map on instead of the training's"
    )
