"""What encoders compute in a faster order equals their layers one after the other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hear_ssl.model.encoders.audio_ntt import ConvolutionBlock, highest_of_four
from hear_ssl.model.encoders.convnext import ConvNeXtBlock


@pytest.mark.parametrize("shape", [(2, 3, 8, 10), (1, 2, 7, 9), (2, 1, 2, 2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_highest_of_four_is_max_pooling(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    maps[0, 0, 1, 1] = float("nan")
    maps = maps.contiguous(memory_format=layout)
    torch.testing.assert_close(highest_of_four(maps), F.max_pool2d(maps, 2), rtol=0, atol=0, equal_nan=True)


def test_a_convolution_block_in_evaluation_equals_its_layers_in_a_row() -> None:
    torch.manual_seed(0)
    block, maps = ConvolutionBlock(3, 5), torch.randn(2, 3, 9, 14)
    block.train()
    for _ in range(3):
        block(maps * 2 + 1)  # statistics other than 0 and 1
    block.eval()
    in_a_row = maps
    for layer in block:
        in_a_row = layer(in_a_row)
    torch.testing.assert_close(block(maps), in_a_row)


def test_a_convnext_block_equals_its_1_x_1_convolutions() -> None:
    torch.manual_seed(0)
    block, maps = ConvNeXtBlock(6), torch.randn(2, 6, 8, 11)
    expected = maps + block.scale * block.mlp(block.norm(block.depthwise(maps)))
    torch.testing.assert_close(block(maps), expected)
