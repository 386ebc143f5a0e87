"""Parameters, token width and receptive field of the encoders for docs/concepts/data_flow.md: python -m tests.benchmarks.encoders"""

from __future__ import annotations

from hear_ssl.model.embedder_config import encoder
from hear_ssl.model.encoders import build_encoder
from hear_ssl.model.options import to_mapping

SETTINGS = [
    encoder("audio_ntt", channels=32, dim=512),
    encoder("audio_ntt", channels=64, dim=1024),
    encoder("convnext", channels=64, dim=1024, depth=6),
    encoder("vit", dim=192, depth=12, heads=3),
    encoder("vit", dim=384, depth=12, heads=6),
]


def main() -> None:
    """Print the table."""
    print("| encoder | parameters | token width | receptive field of a token |\n|---|---|---|---|")
    for settings in SETTINGS:
        network = build_encoder(settings, n_mels=64)
        shown = ("channels", "dim", "depth") if settings.name != "vit" else ("dim", "heads", "depth")
        size = " ".join(f"{name}={value}" for name, value in to_mapping(settings.options).items() if name in shown)
        millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        sees = f"{settings.options.window_frames / 100:g} s" if network.chunk_frames else f"{(2 * network.halo_frames + 4) / 100:g} s"
        print(f"| `{settings.name}` {size} | {millions:.2f} M | {network.layer_dims[-1]} | {sees} |")


if __name__ == "__main__":
    main()
