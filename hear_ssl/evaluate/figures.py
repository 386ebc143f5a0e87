"""Figures of the report, as SVG text: curves, embedding map, spectrogram with similarity, confusion."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Array = NDArray[Any]
CLIPS_FOR_UMAP = 20  # more than the 15 neighbours it looks at
PALETTE = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0"]


def svg(figure: Figure) -> str:
    """Return a figure as SVG without the XML head, the same bytes for the same figure."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "hear_ssl", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    content = text.getvalue()
    return content[content.index("<svg") :]


def curves(rows: list[dict[str, str]], columns: dict[str, str]) -> str:
    """Return one small panel a column of metrics.csv over steps; columns maps names to axis labels with units."""
    shown = [name for name in columns if any(row.get(name) for row in rows)]
    figure = Figure(figsize=(9.0, 2.4 * -(-len(shown) // 3)))
    for place, name in enumerate(shown):
        axes = figure.add_subplot(-(-len(shown) // 3), 3, place + 1)
        points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
        axes.plot(*zip(*points, strict=True), color=PALETTE[0], linewidth=1.2)
        axes.set_title(columns[name], fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return svg(figure)


def projection(clips: int) -> str:
    """Return which projection a map of so many clips has: UMAP where it is installed and has enough of them, else PCA."""
    return "UMAP" if find_spec("umap") and clips >= CLIPS_FOR_UMAP else "the first two principal components"


def project(embeddings: Array) -> Array:
    """Return standardised embeddings (clips, dim) in two dimensions (clips, 2), within -1 and 1: by UMAP if installed, else PCA."""
    rows = StandardScaler().fit_transform(embeddings)
    if projection(len(rows)) == "UMAP":
        import umap

        plane = umap.UMAP(random_state=0, n_jobs=1, n_neighbors=15).fit_transform(rows)
        plane = plane - plane.mean(0)
    else:
        plane = PCA(2, random_state=0).fit_transform(rows)
    return np.asarray(plane / np.abs(plane).max(axis=0).clip(1e-9))


def spectrogram_and_similarity(features: Array, timestamps: Array, hop_ms: float, seconds: float) -> str:
    """Return log-mel features (n_mels, frames) above the cosine similarity of timestamp embeddings (tokens, dim)."""
    figure = Figure(figsize=(7.0, 7.5))
    above, below = figure.subplots(2, 1, gridspec_kw={"height_ratios": [1, 2.2]})
    above.imshow(features, aspect="auto", origin="lower", cmap="magma", extent=(0.0, seconds, 0, features.shape[0]))
    above.set_ylabel("mel band", fontsize=8)
    unit = timestamps - timestamps.mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True).clip(1e-9)
    end = len(unit) * hop_ms / 1000.0
    image = below.imshow(unit @ unit.T, origin="lower", cmap="viridis", vmin=-1, vmax=1, extent=(0.0, end, 0.0, end), aspect="auto")
    below.set_xlabel("time (s)", fontsize=8)
    below.set_ylabel("time (s)", fontsize=8)
    figure.colorbar(image, ax=below, label="cosine similarity", shrink=0.8)
    for axes in (above, below):
        axes.tick_params(labelsize=7)
    figure.tight_layout()
    return svg(figure)


def confusion(train: tuple[Array, Array], test: tuple[Array, Array], labels: list[str]) -> tuple[str, float]:
    """Return the confusion of a logistic regression (rows: true label, shares of its clips) and its accuracy."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    model.fit(*train)
    predicted = model.predict(test[0])
    matrix = np.zeros((len(labels), len(labels)))
    np.add.at(matrix, (test[1], predicted), 1.0)
    shares = matrix / matrix.sum(1, keepdims=True).clip(1.0)
    size = 3.0 + 0.22 * len(labels)
    figure = Figure(figsize=(size, size))
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.set_xlabel("predicted", fontsize=8)
    axes.set_ylabel("true", fontsize=8)
    return svg(figure), float((predicted == test[1]).mean())
