"""The model as a class of transformers: entry file of the flat module that `transformers_files` generates; hear_ssl never imports it.

Embeddings are those of the wheel: it reads the same weights, and the same code computes them.
Dynamic modules: https://huggingface.co/docs/transformers/custom_models. Leaves out pipelines and heads.
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
    """What config.json has: the embedder's own config, and the sizes of its embeddings.

    hidden_size: dimensions of last_hidden_state. pooler_size: of pooler_output. sampling_rate (Hz) is that of input_values.
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

    last_hidden_state: of timestamps (batch, timestamps, hidden_size). pooler_output: of whole clips (batch, pooler_size).
    timestamps_ms: the centres of the timestamps in ms (batch, timestamps).
    """

    last_hidden_state: Optional[Tensor] = None
    pooler_output: Optional[Tensor] = None
    timestamps_ms: Optional[Tensor] = None


class HearSSLModel(PreTrainedModel):
    """Waveforms to embeddings of clips and of timestamps."""

    config_class = HearSSLConfig
    main_input_name = "input_values"

    def __init__(self, config: HearSSLConfig) -> None:
        """Build with random weights. Raises ValueError when the config is not that of a model."""
        super().__init__(config)
        embedder = self.built()
        self.encoder, self.frontend = embedder.encoder, embedder.frontend
        self.scene_readout, self.timestamp_readout = embedder.scene_readout, embedder.timestamp_readout
        self.embedder = (embedder,)  # in a tuple: its modules are those above, under the names that the weights file has
        self.post_init()

    def built(self) -> Embedder:
        """Return a new embedder in float32 on the CPU, also where transformers asks for another type or for no memory."""
        with torch.device("cpu"), default_dtype(torch.float32):
            return Embedder(embedder_config(self.config.embedder, "config.json.embedder", own_classes()))

    def _init_weights(self, module: Any) -> None:
        """Leave weights as the classes initialise them."""

    @classmethod
    def from_pretrained(cls, *arguments: Any, **keywords: Any) -> Any:
        """Return the model of a folder or a repository; see `transformers.PreTrainedModel.from_pretrained`."""
        loaded = super().from_pretrained(*arguments, **keywords)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        stored = set(model.state_dict())
        for name, constant in model.built().named_buffers():  # windows and filters are in no file; transformers leaves them unset
            if name not in stored:
                model.get_buffer(name).data.copy_(constant)
        model.to(memory_format=torch.channels_last)  # as load_model of the wheel lays it out
        return loaded

    def forward(
        self, input_values: Tensor, attention_mask: Optional[Tensor] = None, return_dict: Optional[bool] = None, **keywords: Any
    ) -> Any:
        """Return a HearSSLOutput for waveforms (batch, samples) in [-1, 1] at config.sampling_rate, a tuple with return_dict=False.

        attention_mask: (batch, samples), 1 for samples and 0 for padding at the end of a clip. Each clip is embedded without its
        padding; timestamps beyond its end are 0. Raises ValueError when the input has another form, or the model is not float32.
        """
        frames, timestamps_ms = self.get_timestamp_embeddings(input_values, attention_mask)
        output = HearSSLOutput(frames, self.get_scene_embeddings(input_values, attention_mask), timestamps_ms)
        return output.to_tuple() if return_dict is False else output

    def get_scene_embeddings(self, input_values: Tensor, attention_mask: Optional[Tensor] = None) -> Tensor:
        """Return embeddings of whole clips (batch, pooler_size) alone, in half the time of a call of the model."""
        embedder, waveform = self.embedder[0], prepare(input_values, self.embedder[0])
        if attention_mask is None:
            return embedder.scene(waveform)
        groups = list(by_length(waveform, attention_mask))
        return torch.cat([embedder.scene(clips) for _, clips in groups])[inverse([rows for rows, _ in groups])]

    def get_timestamp_embeddings(self, input_values: Tensor, attention_mask: Optional[Tensor] = None) -> Tuple[Tensor, Tensor]:
        """Return embeddings of timestamps (batch, timestamps, hidden_size) and their centres in ms (batch, timestamps) alone."""
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
    """Build with parameters of a type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def by_length(waveform: Tensor, attention_mask: Tensor) -> Iterator[Tuple[Tensor, Tensor]]:
    """Yield the rows of clips of one length, and these clips (rows, samples) without their padding.

    Raises ValueError when a mask is not one of clips that are padded at their end.
    """
    mask = attention_mask.to(waveform.device) > 0
    if mask.shape != waveform.shape or not mask[:, :1].all() or bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        raise ValueError("attention_mask must have the shape of input_values, and for each clip ones, at least one, before any zeros")
    lengths = mask.sum(1)
    for length in sorted(set(lengths.tolist())):
        rows = (lengths == length).nonzero().flatten()
        yield rows, waveform[rows, :length]


def inverse(groups: Any) -> Tensor:
    """Return where each row of a batch lies among the rows of groups, one after the other."""
    return torch.cat(groups).argsort()


def own_classes() -> Dict[str, Any]:
    """Return a user's classes that the model has, by their names; the generated file imports them."""
    return {}
