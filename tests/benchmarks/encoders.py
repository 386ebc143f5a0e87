"""Parameters, token width and receptive field of the encoders as the README lists them: python tests/benchmarks/encoders.py"""

from __future__ import annotations

from hear_ssl.model.encoders import build_encoder
from hear_ssl.model.options import EncoderConfig

SETTINGS = [
    EncoderConfig(channels=32, dim=512),
    EncoderConfig(channels=64, dim=1024),
    EncoderConfig(name="convnext", channels=64, dim=1024, depth=6),
    EncoderConfig(name="vit", dim=192, depth=12, heads=3),
    EncoderConfig(name="vit", dim=384, depth=12, heads=6),
]


def main() -> None:
    """Print the table."""
    print("| encoder | parameters | token width | a token sees |\n|---|---|---|---|")
    for settings in SETTINGS:
        encoder = build_encoder(settings, n_mels=64)
        size = (
            f"channels={settings.channels} dim={settings.dim}" if settings.name != "vit" else f"dim={settings.dim} heads={settings.heads}"
        )
        size += f" depth={settings.depth}" if settings.name != "audio_ntt" else ""
        millions = sum(parameter.numel() for parameter in encoder.parameters()) / 1e6
        sees = f"{settings.window_frames / 100:g} s" if encoder.chunk_frames else f"{(2 * encoder.halo_frames + 4) / 100:g} s"
        print(f"| `{settings.name}` {size} | {millions:.2f} M | {encoder.layer_dims[-1]} | {sees} |")


if __name__ == "__main__":
    main()
