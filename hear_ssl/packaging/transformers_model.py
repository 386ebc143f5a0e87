"""The model as a class of transformers: the entry file of the module that `transformers_files` generates; hear_ssl never imports it.

The embeddings are those of the wheel, computed by the same code with the same weights.
Dynamic modules: https://huggingface.co/docs/transformers/custom_models. Pipelines and heads are left out.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Iterator, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from hear_ssl.model.embedder import Embedder
from hear_ssl.model.embedder_config import embedder_config
from hear_ssl.model.hear import prepare


class HearSSLConfig(PretrainedConfig):
    """The content of config.json: the embedder's config, and the sizes of its embeddings.

    hidden_size: dimensions of last_hidden_state. pooler_size: dimensions of pooler_output. sampling_rate: of input_values, in Hz.
    """

    model_type = "hear_ssl"

    def __init__(
        self,
        embedder: Optional[Dict[str, Any]] = None,
        sampling_rate: int = 16000,
        hidden_size: int = 0,
        pooler_size: int = 0,
        hop_ms: float = 0.0,
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        self.embedder, self.sampling_rate = embedder or {}, sampling_rate
        self.hidden_size, self.pooler_size, self.hop_ms = hidden_size, pooler_size, hop_ms


@dataclass
class HearSSLOutput(ModelOutput):
    """Embeddings of clips.

    last_hidden_state: timestamp embeddings (batch, timestamps, hidden_size). pooler_output: scene embeddings (batch, pooler_size).
    timestamps_ms: the centres of the timestamps in ms (batch, timestamps).
    """

    last_hidden_state: Optional[Tensor] = None
    pooler_output: Optional[Tensor] = None
    timestamps_ms: Optional[Tensor] = None


class HearSSLModel(PreTrainedModel):
    """Map waveforms to scene and timestamp embeddings."""

    config_class = HearSSLConfig
    main_input_name = "input_values"

    def __init__(self, config: HearSSLConfig) -> None:
        """Build with random weights. Raises ValueError when the config is not that of a model."""
        super().__init__(config)
        embedder = self.built()
        self.encoder, self.frontend = embedder.encoder, embedder.frontend
        self.scene_readout, self.timestamp_readout = embedder.scene_readout, embedder.timestamp_readout
        self.embedder = (embedder,)  # in a tuple, so that its modules are registered only above, under the names in the weights file
        self.post_init()

    def built(self) -> Embedder:
        """Return a new embedder in float32 on the CPU, also when transformers has set another type or the meta device."""
        with torch.device("cpu"), default_dtype(torch.float32):
            return Embedder(embedder_config(self.config.embedder, "config.json.embedder", own_classes()))

    def _init_weights(self, module: Any) -> None:
        """Do nothing: the classes initialise their weights."""

    @classmethod
    def from_pretrained(cls, *arguments: Any, **keywords: Any) -> Any:
        """Return the model of a folder or a repository; see `transformers.PreTrainedModel.from_pretrained`."""
        loaded = super().from_pretrained(*arguments, **keywords)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        stored = set(model.state_dict())
        for (
            name,
            constant,
        ) in model.built().named_buffers():  # windows and filters are not in the weights file, and transformers does not initialise them
            if name not in stored:
                model.get_buffer(name).data.copy_(constant)
        model.to(memory_format=torch.channels_last)  # as in load_model of the wheel
        return loaded

    def forward(
        self, input_values: Tensor, attention_mask: Optional[Tensor] = None, return_dict: Optional[bool] = None, **keywords: Any
    ) -> Any:
        """Return a HearSSLOutput for waveforms (batch, samples) in [-1, 1] at config.sampling_rate, a tuple with return_dict=False.

        attention_mask: (batch, samples), 1 for samples and 0 for padding at the end of a clip. Each clip is embedded without its
        padding; timestamps after its end are 0. Raises ValueError when the input has another form, or the model is not float32.
        """
        frames, timestamps_ms = self.get_timestamp_embeddings(input_values, attention_mask)
        output = HearSSLOutput(frames, self.get_scene_embeddings(input_values, attention_mask), timestamps_ms)
        return output.to_tuple() if return_dict is False else output

    def get_scene_embeddings(self, input_values: Tensor, attention_mask: Optional[Tensor] = None) -> Tensor:
        """Return only scene embeddings (batch, pooler_size), in half the time of a call of the model."""
        embedder, waveform = self.embedder[0], prepare(input_values, self.embedder[0])
        if attention_mask is None:
            return embedder.scene(waveform)
        groups = list(by_length(waveform, attention_mask))
        return torch.cat([embedder.scene(clips) for _, clips in groups])[inverse([rows for rows, _ in groups])]

    def get_timestamp_embeddings(self, input_values: Tensor, attention_mask: Optional[Tensor] = None) -> Tuple[Tensor, Tensor]:
        """Return only timestamp embeddings (batch, timestamps, hidden_size) and their centres in ms (batch, timestamps)."""
        embedder, waveform = self.embedder[0], prepare(input_values, self.embedder[0])
        if attention_mask is None:
            return embedder.timestamps(waveform)
        groups = [(rows, *embedder.timestamps(clips)) for rows, clips in by_length(waveform, attention_mask)]
        longest = max((times_ms[0] for _, _, times_ms in groups), key=len)
        padded = [F.pad(frames, (0, 0, 0, len(longest) - frames.shape[1])) for _, frames, _ in groups]
        frames = torch.cat(padded)[inverse([rows for rows, _, _ in groups])]
        return frames, longest.expand(len(frames), -1).contiguous()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set the default type of parameters during the block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def by_length(waveform: Tensor, attention_mask: Tensor) -> Iterator[Tuple[Tensor, Tensor]]:
    """Yield the rows of clips of equal length, and these clips (rows, samples) without padding.

    Raises ValueError when a mask does not describe padding at the end of clips.
    """
    mask = attention_mask.to(waveform.device) > 0
    if mask.shape != waveform.shape or not mask[:, :1].all() or bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        raise ValueError("attention_mask must have the shape of input_values, and for each clip ones, at least one, before any zeros")
    lengths = mask.sum(1)
    for length in sorted(set(lengths.tolist())):
        rows = (lengths == length).nonzero().flatten()
        yield rows, waveform[rows, :length]


def inverse(groups: Any) -> Tensor:
    """Return the position of each row of a batch in the concatenated rows of groups."""
    return torch.cat(groups).argsort()


def own_classes() -> Dict[str, Any]:
    """Return the user's classes of the model by name; the generated file imports them."""
    return {}
