"""Figures of the report, as SVG text: curves, embedding map, spectrogram with similarity, confusion."""

from __future__ import annotations

import html
import io
from collections.abc import Iterable, Mapping, Sequence
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

from hear_ssl.errors import printable

matplotlib.rcParams["text.parse_math"] = False  # a label with two dollar signs is not a formula
Array = NDArray[Any]
CLIPS_FOR_UMAP = 20  # more than the 15 neighbours it looks at
PALETTE = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0"]


def svg(figure: Figure) -> str:
    """Return a figure as SVG without the XML head, the same bytes for the same figure."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "hear_ssl", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
    content = text.getvalue()
    return content[content.index("<svg") :].replace("#000000", "currentColor")  # lines and text as light or dark as the page's text


def curves(rows: list[dict[str, str]], columns: dict[str, str]) -> str:
    """Return a small panel for each column of metrics.csv over steps, next to each other where the width allows.

    columns maps names to axis labels with units.
    """
    return curves_of_runs([("", rows)], columns)


def colours(groups: Iterable[str]) -> dict[str, str]:
    """Return the colour of each group; beyond the palette its colours repeat."""
    return {group: PALETTE[place % len(PALETTE)] for place, group in enumerate(dict.fromkeys(groups))}


def model_colours(names: Sequence[str], baselines: Sequence[str]) -> dict[str, str]:
    """Return the colour of each model: those of the palette, from its end for baselines."""
    models = colours(name for name in names if name not in baselines)
    plain = {name: PALETTE[-1 - place % len(PALETTE)] for place, name in enumerate(dict.fromkeys(baselines))}
    return {name: (plain | models)[name] for name in names}


def curves_of_runs(runs: Sequence[tuple[str, list[dict[str, str]]]], columns: dict[str, str]) -> str:
    """Return the panels of `curves` with a line for each run (group, rows of metrics.csv), in the colour of its group."""
    colour_of, panels = colours(group for group, _ in runs), []
    for name in columns:
        lines = [(group, [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]) for group, rows in runs]
        if any(points for _, points in lines):
            picture = Figure(figsize=(3.4, 2.3))
            axes = picture.add_subplot()
            for group, points in lines:
                if points:
                    axes.plot(*zip(*points, strict=True), color=colour_of[group], linewidth=1.2, marker="." if len(points) < 3 else None)
            axes.set_title(printable(columns[name]), fontsize=9)
            axes.set_xlabel("step", fontsize=8)
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
            panels.append(svg(picture))
    return f"<div class=panels>{''.join(panels)}</div>"


def key_of(colour_of: Mapping[str, str]) -> str:
    """Return the key of the colours that groups have in figures."""
    marks = [f'<span><i style="background:{colour}"></i>{html.escape(printable(group))}</span>' for group, colour in colour_of.items()]
    return f"<p class=key>{' '.join(marks)}</p>"


def projection(clips: int) -> str:
    """Return the projection of a map of this number of clips: UMAP if it is installed and the clips are enough for it, else PCA."""
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
    figure = Figure(figsize=(6.0, 7.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [1, 2.2]})
    above.imshow(features, aspect="auto", origin="lower", cmap="magma", extent=(0.0, seconds, 0, features.shape[0]))
    above.set_ylabel("mel band", fontsize=10)
    unit = timestamps - timestamps.mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True).clip(1e-9)
    end = len(unit) * hop_ms / 1000.0
    image = below.imshow(unit @ unit.T, origin="lower", cmap="viridis", vmin=-1, vmax=1, extent=(0.0, end, 0.0, end), aspect="auto")
    below.set_xlim(0.0, seconds)
    below.set_xlabel("time (s)", fontsize=10)
    below.set_ylabel("time (s)", fontsize=10)
    figure.colorbar(image, ax=below, label="cosine similarity", location="bottom", shrink=0.7, aspect=30, ticks=[-1, -0.5, 0, 0.5, 1])
    for axes in (above, below):
        axes.tick_params(labelsize=9)
    return svg(figure)


def confusion(train: tuple[Array, Array], test: tuple[Array, Array], labels: list[str]) -> tuple[str, float]:
    """Return the confusion of a logistic regression (rows: true label, shares of its clips) and its accuracy."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    model.fit(*train)
    predicted = model.predict(test[0])
    matrix = np.zeros((len(labels), len(labels)))
    np.add.at(matrix, (test[1], predicted), 1.0)
    shares = matrix / matrix.sum(1, keepdims=True).clip(1.0)
    size = 3.0 + 0.25 * len(labels)
    figure = Figure(figsize=(size, size))
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    labels = [printable(label) for label in labels]
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=9)
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.set_xlabel("predicted", fontsize=10)
    axes.set_ylabel("true", fontsize=10)
    for row, column in np.argwhere(shares >= 0.005) if len(labels) <= 20 else ():
        share = shares[row, column]
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8, color="white" if share > 0.5 else "#111111")
    return svg(figure), float((predicted == test[1]).mean())
