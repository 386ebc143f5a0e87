"""The embedder: any length, alone or in a batch, whole or in chunks, the same numbers."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hear_ssl.model import Embedder, get_scene_embeddings, get_timestamp_embeddings
from hear_ssl.model.embedder_config import EmbedderConfig, encoder, readout
from hear_ssl.model.encoders import build_encoder
from hear_ssl.model.options import Part

RICH = EmbedderConfig(
    encoder=encoder("audio_ntt", channels=8, dim=32),
    scene=(readout("pooled", how="mean+max,std"), readout("bands")),
    timestamp=(readout("tokens"), readout("contexts", ms=(200.0, 1000.0)), readout("frames"), readout("around", ms=(100.0, 300.0))),
)

ENCODERS = {
    "audio_ntt": encoder("audio_ntt", channels=8, dim=32),
    "audio_ntt with context": encoder("audio_ntt", channels=8, dim=32, context=3),
    "convnext": encoder("convnext", channels=4, dim=16, depth=3),
    "vit": encoder("vit", dim=12, depth=2, heads=2, window_frames=200),
}


@pytest.fixture(params=list(ENCODERS))
def embedder(request: pytest.FixtureRequest) -> Embedder:
    torch.manual_seed(0)
    model = Embedder(replace(RICH, encoder=ENCODERS[request.param]))
    for module in model.modules():  # statistics as after training, so that evaluation mode matters
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = torch.randn_like(module.running_mean) * 0.1
    return model


def noise(batch: int, time: int) -> torch.Tensor:
    return torch.randn(batch, time, generator=torch.Generator().manual_seed(time)) * 0.1


@pytest.mark.parametrize("time", [1, 2, 159, 640, 641, 16000, 100003])
def test_any_length_gives_finite_embeddings_with_centred_regular_timestamps(embedder: Embedder, time: int) -> None:
    audio = noise(2, time)
    embeddings, timestamps_ms = get_timestamp_embeddings(audio, embedder)
    assert embeddings.shape == (2, time // 640 + 1, embedder.timestamp_embedding_size)
    assert get_scene_embeddings(audio, embedder).shape == (2, embedder.scene_embedding_size)
    assert torch.isfinite(embeddings).all()
    assert embeddings.dtype == timestamps_ms.dtype == torch.float32
    assert torch.equal(timestamps_ms[0], torch.arange(time // 640 + 1) * 40.0)
    assert timestamps_ms[0, -1] <= time / 16


def with_timestamps(embedder: Embedder, *more: Part, per_token: int = 1) -> Embedder:
    """Return the same network with timestamps of tokens, frames and more readouts."""
    timestamp = (readout("tokens"), readout("frames"), *more)
    other = Embedder(replace(embedder.config, timestamp=timestamp, timestamps_per_token=per_token))
    other.load_state_dict(embedder.state_dict())
    return other


@pytest.mark.parametrize("per_token", [2, 4])
def test_timestamps_between_tokens_are_those_of_the_clip_from_later_on(embedder: Embedder, per_token: int) -> None:
    audio, hop = noise(2, 30007), 640 // per_token
    fine, fine_ms = get_timestamp_embeddings(audio, with_timestamps(embedder, per_token=per_token))
    assert torch.equal(fine_ms[0], torch.arange(30007 // hop + 1) * hop / 16.0)
    plain = with_timestamps(embedder)
    for place in range(per_token):
        later, _ = get_timestamp_embeddings(audio[:, place * hop :], plain)
        if place and plain.encoder.chunk_frames:
            continue  # every token of a window sees its start, which lies before the cut
        inside = slice(plain.encoder.halo_frames // 4 + 2 if place else 0, None)  # before that, tokens see the cut
        torch.testing.assert_close(fine[:, place::per_token][:, inside], later[:, inside], rtol=0, atol=1e-5)


@pytest.mark.parametrize("time", [1, 159, 161, 500, 16000])
def test_fine_timestamps_of_any_length(embedder: Embedder, time: int) -> None:
    embeddings, timestamps_ms = get_timestamp_embeddings(noise(1, time), with_timestamps(embedder, per_token=4))
    assert embeddings.shape == (1, time // 160 + 1, embeddings.shape[2])
    assert torch.isfinite(embeddings).all()
    assert timestamps_ms[0, -1] <= time / 16


@pytest.mark.parametrize("time", [1, 3000, 30007])
def test_around_adds_mean_bands_of_the_time_before_and_after(embedder: Embedder, time: int) -> None:
    plain, _ = get_timestamp_embeddings(noise(2, time), with_timestamps(embedder, per_token=2))
    found, _ = get_timestamp_embeddings(noise(2, time), with_timestamps(embedder, readout("around"), per_token=2))
    assert torch.equal(found[..., : plain.shape[2]], plain)
    stride, n_mels = embedder.encoder.time_stride, embedder.config.frontend.n_mels
    bands, last = plain[..., -stride * n_mels :].unflatten(2, (stride, n_mels)).mean(2), plain.shape[1] - 1
    for place in range(last + 1):
        expected = []
        for first, final in ((-5, -1), (1, 5), (-15, -6), (6, 15)):  # timestamps lie 20 ms apart
            inside = [min(max(place + first, 0), last), min(max(place + final, 0), last)]
            expected.append(bands[:, inside[0] : inside[1] + 1].mean(1))
        torch.testing.assert_close(found[:, place, plain.shape[2] :], torch.cat(expected, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("ms", "reason"),
    [
        ((80.0, 90.0), "timestamp.0.around: ms is .* must rise by at least the 40 ms between two timestamps"),
        ((10.0,), "must rise by at least the 40 ms"),
        ((300.0, 100.0), "must rise"),
        ((), "ms is empty"),
    ],
)
def test_distances_that_give_no_window_are_refused(ms: tuple[float, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Embedder(replace(RICH, timestamp=(readout("around", ms=ms),)))


def test_timestamps_do_not_drift_in_20_minutes(embedder: Embedder) -> None:
    config = replace(embedder.config, frontend=replace(RICH.frontend, sample_rate=22050, hop_length=147))
    frontend_only = Embedder(config)
    count = frontend_only.frontend.token_count(22050 * 1200)
    ticks = torch.arange(count, dtype=torch.float64) * frontend_only.hop_samples * 1000.0 / 22050
    assert abs(float(ticks[-1]) - (count - 1) * 588 / 22.05) < 1e-6


@pytest.mark.parametrize("chunk_frames", [64, 68, 400])
def test_chunks_equal_the_whole(embedder: Embedder, chunk_frames: int) -> None:
    audio = noise(3, 50007)
    embedder.config = replace(embedder.config, chunk_frames=100000)
    whole = (get_scene_embeddings(audio, embedder), *get_timestamp_embeddings(audio, embedder))
    embedder.config = replace(embedder.config, chunk_frames=chunk_frames)
    chunked = (get_scene_embeddings(audio, embedder), *get_timestamp_embeddings(audio, embedder))
    for one, other in zip(whole, chunked, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_alone_and_in_a_batch_are_the_same(embedder: Embedder) -> None:
    audio = noise(9, 12345)
    together = get_scene_embeddings(audio, embedder)
    alone = torch.cat([get_scene_embeddings(audio[row : row + 1], embedder) for row in range(9)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_caller_cannot_switch_on_gradients_training_or_autocast(embedder: Embedder) -> None:
    audio = noise(2, 8000).requires_grad_()
    expected = get_scene_embeddings(audio, embedder.eval())
    embedder.train()
    with torch.enable_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = get_scene_embeddings(audio, embedder)
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert embedder.training


def test_input_is_not_changed_and_float64_is_taken(embedder: Embedder) -> None:
    audio = noise(2, 8000)
    before = audio.clone()
    single = get_scene_embeddings(audio, embedder)
    assert torch.equal(audio, before)
    assert torch.equal(get_scene_embeddings(audio.double(), embedder), single)


@pytest.mark.parametrize("shape", [(16000,), (1, 1, 16000), (0, 16000), (2, 0)])
def test_wrong_shapes_are_refused_in_one_line(embedder: Embedder, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        get_scene_embeddings(torch.zeros(shape), embedder)


def test_integers_as_floats_are_warned_of_once_a_model() -> None:
    model = Embedder(RICH)
    audio = noise(1, 8000)
    with pytest.warns(UserWarning, match=r"^audio has a peak of \d+.*, but samples are in \[-1, 1\]: divide 16-bit samples by 32768$"):
        get_scene_embeddings(audio * 32767, model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        get_scene_embeddings(audio * 32767, model)
        get_timestamp_embeddings(audio * 32767, model)
        get_scene_embeddings(audio * 5, Embedder(RICH))  # overshoots
    with pytest.warns(UserWarning, match="audio has a peak"):
        get_timestamp_embeddings(audio * 32767, Embedder(RICH))


@pytest.mark.parametrize("embed", [get_scene_embeddings, get_timestamp_embeddings])
@pytest.mark.parametrize("audio", [np.zeros((1, 8000), np.float32), [[0.0] * 8000], None])
def test_what_is_no_tensor_is_refused_with_the_way_to_make_one(embed: Any, audio: Any) -> None:
    with pytest.raises(ValueError, match=r"^audio is \w+\.\w+; it must be a torch.Tensor: torch.from_numpy\(array\)$"):
        embed(audio, Embedder(RICH))


def test_integers_and_a_model_in_half_precision_are_refused_in_one_line() -> None:
    model = Embedder(replace(RICH, encoder=ENCODERS["audio_ntt"]))
    with pytest.raises(ValueError, match=r"audio is torch\.int16; .*32768"):
        get_scene_embeddings(torch.zeros(1, 8000, dtype=torch.int16), model)
    with pytest.raises(ValueError, match=r"the model is torch\.float16; .*model\.float\(\)"):
        get_timestamp_embeddings(torch.zeros(1, 8000), model.half())


def test_context_means_equal_a_plain_average(embedder: Embedder) -> None:
    embeddings, _ = get_timestamp_embeddings(noise(1, 32000), embedder)
    width = sum(embedder.encoder.layer_dims)
    own, context = embeddings[0, :, :width], embeddings[0, :, width : 2 * width]
    torch.testing.assert_close(context[20], own[18:23].mean(0))  # 200 ms: two tokens to either side
    torch.testing.assert_close(context[0], own[0:3].mean(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scene": (readout("pooled", how="median"),)}, "scene.0.pooled: pooling 'median' has the term 'median'"),
        ({"scene": (readout("bands"), readout("pooled", layers="mean"))}, "scene.1.pooled: layers: mean needs layers of one width"),
        ({"scene": (readout("pooled", layers="0,3"),)}, "the encoder has no layer '3'; allowed are all, last, mean and 0, 1, 2"),
        ({"scene": ()}, "scene is an empty list"),
        ({"scene": (readout("linear"), readout("bands"))}, "scene.0.linear: it maps the readouts before it, and there is none"),
        ({"timestamp": (readout("contexts", ms=()),)}, "timestamp.0.contexts: ms is empty"),
        ({"timestamps_per_token": 3}, "divide the 4 frames of a token"),
        ({"frontend": replace(RICH.frontend, n_mels=66)}, "multiple of 4"),
        ({"encoder": encoder("audio_ntt", channels=4, dim=16, band_pool=3)}, "averages 3 bands .* a multiple of 12"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Embedder(replace(RICH, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ENCODERS)
def test_a_token_depends_on_nothing_beyond_the_halo(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(ENCODERS[name], 64).eval()
    frames = 400
    features = torch.randn(1, 64, frames, requires_grad=True)
    encoder(features)[-1][0, 50].sum().backward()
    assert features.grad is not None
    touched = features.grad.abs().sum(1)[0].nonzero().flatten()
    if encoder.chunk_frames:
        assert (int(touched.min()), int(touched.max())) == (0, frames - 1)
        return
    assert 200 - encoder.halo_frames <= int(touched.min())
    assert int(touched.max()) <= 203 + encoder.halo_frames
    assert int(touched.max()) - int(touched.min()) > 3  # it does look around


@pytest.mark.parametrize("name", ENCODERS)
def test_every_layers_tokens_are_there_in_their_width(name: str) -> None:
    encoder = build_encoder(ENCODERS[name], 64).eval()
    layers = encoder(torch.randn(2, 64, 40))
    assert [tuple(layer.shape) for layer in layers] == [(2, 10, width) for width in encoder.layer_dims]


def test_pooled_bands_are_those_of_a_network_with_fewer_bands() -> None:
    torch.manual_seed(0)
    pooled, plain = (
        build_encoder(encoder("audio_ntt", channels=4, dim=16, band_pool=pool), bands).eval() for pool, bands in ((4, 64), (1, 16))
    )
    plain.load_state_dict(pooled.state_dict())
    features = torch.randn(2, 64, 40)
    torch.testing.assert_close(pooled(features), plain(features.reshape(2, 16, 4, 40).mean(2)))


def test_named_layers_are_those_of_the_encoder_in_the_order_given() -> None:
    torch.manual_seed(0)
    every = Embedder(replace(RICH, scene=(readout("pooled"),), timestamp=(readout("tokens"),))).eval()
    few = Embedder(replace(every.config, scene=(readout("pooled", layers="2, 0"),), timestamp=(readout("tokens", layers="1"),))).eval()
    few.load_state_dict(every.state_dict())
    audio, (first, second, third) = noise(2, 20000), every.encoder.layer_dims
    whole = get_scene_embeddings(audio, every)
    expected = torch.cat([whole[:, first + second :], whole[:, :first]], 1)
    torch.testing.assert_close(get_scene_embeddings(audio, few), expected, rtol=0, atol=0)
    tokens = get_timestamp_embeddings(audio, every)[0][..., first : first + second]
    torch.testing.assert_close(get_timestamp_embeddings(audio, few)[0], tokens, rtol=0, atol=0)
    assert third == few.scene_embedding_size - first


def test_timestamps_of_a_batch_from_several_threads_are_the_same() -> None:
    torch.manual_seed(0)
    model, clips = Embedder(RICH).eval(), [noise(2, 30000 + 5000 * number) for number in range(6)]
    expected = [(get_scene_embeddings(clip, model), get_timestamp_embeddings(clip, model)[0]) for clip in clips]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda clip: (get_scene_embeddings(clip, model), get_timestamp_embeddings(clip, model)[0]), clips))
    for one, other in zip(expected, found, strict=True):
        assert all(map(torch.equal, one, other))


def test_a_clip_little_longer_than_a_chunk_is_encoded_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = Embedder(replace(RICH, chunk_frames=80)).eval()
    lengths: list[int] = []
    embedder.encoder.register_forward_pre_hook(lambda module, inputs: lengths.append(inputs[0].shape[2]))
    embedder.scene(noise(1, 100 * 160))
    embedder.scene(noise(1, 240 * 160))
    assert lengths == [104, 88, 92, 80]  # then 84, 84 and 76 frames, with a token of halo where there is a neighbour


def test_the_vit_encodes_the_time_steps_that_are_kept_as_if_they_were_all() -> None:
    torch.manual_seed(0)
    network = build_encoder(ENCODERS["vit"], 64).eval()
    features = torch.randn(2, 64, 80)
    kept = torch.tensor([[0, 3, 7, 19], [1, 2, 8, 18]])
    tokens = network(features, kept)
    assert [tuple(layer.shape) for layer in tokens] == [(2, 4, 48)] * 3
    everything = torch.arange(20).expand(2, -1)
    torch.testing.assert_close(network(features, everything), network(features))
    changed = features.clone()
    changed[0, :, 4 * 4 : 7 * 4] = 9.0  # time steps 4 to 6 of the first clip, which are not kept
    torch.testing.assert_close(network(changed, kept), tokens)
    changed[0, :, 3 * 4 : 4 * 4] = 9.0
    assert not torch.allclose(network(changed, kept)[-1][0], tokens[-1][0])


def test_explicit_and_fused_attention_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = build_encoder(ENCODERS["vit"], 64).eval()
    features = torch.randn(2, 64, 40)
    explicit = encoder(features)[-1]
    monkeypatch.setattr("hear_ssl.model.encoders.vit.EXPLICIT_TOKENS", 0)
    torch.testing.assert_close(encoder(features)[-1], explicit, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("encoder", "n_mels", "line"),
    [
        (encoder("vit", dim=10, heads=3), 64, "multiple of twice its 3 heads"),
        (encoder("vit", dim=12, heads=2), 66, "cuts them into 4 bands"),
        (encoder("vit", dim=12, heads=2, window_frames=66), 64, "window_frames is 66"),
        (encoder("convnext"), 60, "divides frequency by 8"),
    ],
)
def test_sizes_that_do_not_divide_are_one_line(encoder: Part, n_mels: int, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        build_encoder(encoder, n_mels)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_equals_cpu(embedder: Embedder) -> None:
    audio = noise(2, 16000)
    expected = get_scene_embeddings(audio, embedder)
    found = get_scene_embeddings(audio, embedder.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-3)
