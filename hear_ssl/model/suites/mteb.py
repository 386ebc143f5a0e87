"""MTEB and its audio benchmark MAEB (https://github.com/embeddings-benchmark/mteb, version 2.26 or later): scene embeddings.

python -m PACKAGE.suites.mteb run --tasks ESC50   is the command `mteb` with this model as --model.
"""

from __future__ import annotations

import sys
from typing import Any, List, Optional, Tuple, get_args

import numpy
import torch
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.modality_collators import AudioCollator
from mteb.models.model_implementations import MODEL_REGISTRY
from mteb.types import Licenses
from tqdm.auto import tqdm

from ..hear import get_scene_embeddings
from ..manifest import Manifest
from .clips import embed_by_length, loaded, manifest

WITH_MODEL = ("run", "mock-run")  # commands of mteb with the option --model
HUB = ("hf://", "https://huggingface.co/")


class AudioModel(AbsEncoder):  # type: ignore[misc]
    """Scene embeddings of audio; other modalities are not supported."""

    def __init__(self, model_name: str = "", revision: Optional[str] = None, *, device: Optional[str] = None, **kwargs: Any) -> None:
        """Load the weights of this package on a device, by default a GPU where there is one."""
        self.model = loaded(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.mteb_model_meta = meta()

    def encode(self, inputs: Any, *, show_progress_bar: bool = True, **kwargs: Any) -> Any:
        """Return float32 embeddings (n_clips, scene_embedding_size) of a DataLoader's audio, of any rate and number of channels."""
        inputs.collate_fn = AudioCollator(target_sampling_rate=self.model.sample_rate)
        scenes: List[Any] = []
        for batch in tqdm(inputs, disable=not show_progress_bar):
            clips = [mono(item["array"]) for item in batch["audio"]]
            scenes += [scene.cpu().numpy() for scene in embed_by_length(clips, lambda audio: get_scene_embeddings(audio, self.model))]
        return numpy.stack(scenes) if scenes else numpy.zeros((0, self.model.scene_embedding_size), numpy.float32)


def mono(array: Any) -> torch.Tensor:
    """Return samples (n_samples,) of an array (n_samples,) or (channels, n_samples)."""
    samples = torch.as_tensor(numpy.asarray(array, dtype=numpy.float32))
    return samples.mean(dim=0) if samples.dim() > 1 else samples


def meta() -> ModelMeta:
    """Return the model's metadata for MTEB, from the manifest."""
    record = manifest()
    weights = str(record.licenses.get("weights", "")).lower()
    name, page = address(record)
    return ModelMeta(
        loader=AudioModel,
        name=name,
        revision=record.release,
        release_date=None,
        languages=None,
        n_parameters=record.sizes["parameters"],
        memory_usage_mb=round(record.sizes["parameters"] * 4 / 2**20, 1),
        max_tokens=None,
        embed_dim=record.sizes["scene_embedding_size"],
        license=weights if weights in get_args(Licenses) else None,
        open_weights=True,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        reference=page,
        similarity_fn_name="cosine",
        use_instructions=False,
        training_datasets={source["name"] for source in record.training.get("data", {}).get("sources", [])},
        modalities=["audio"],
    )


def address(record: Manifest) -> Tuple[str, Optional[str]]:
    """Return the model's name as ORGANISATION/NAME and its page: those on the Hugging Face Hub when the weights are there."""
    for start in HUB:
        parts = record.weights.url[len(start) :].split("/")
        if record.weights.url.startswith(start) and len(parts) > 2:
            return f"{parts[0]}/{parts[1]}", f"https://huggingface.co/{parts[0]}/{parts[1]}"
    return f"hear_ssl/{record.name}", None


def register() -> str:
    """Register this model for `mteb.get_model` and the command `mteb`, and return its name there."""
    found = meta()
    MODEL_REGISTRY[str(found.name)] = found
    return str(found.name)


def main() -> None:
    """Run the command `mteb` with this model."""
    from mteb.cli.build_cli import main as command

    name, given = register(), sys.argv[1:]
    if given and given[0] in WITH_MODEL and not {"-m", "--model"} & set(given):
        given = [given[0], "--model", name, *given[1:]]
    sys.argv = ["mteb", *given]
    command()


if __name__ == "__main__":
    main()
