"""The model card: what a model is, how it was trained, on which data under which licences, in the form of the Hugging Face Hub."""

from __future__ import annotations

import json
import re
from typing import Any

from hear_ssl.packaging.licenses import KINDS, kind_of_license, shown

MARKUP = re.compile(r"[\\|\[\]`*]")
UNFOLDED = 6  # sources; longer lists are folded


def model_card(manifest: dict[str, Any], library: str = "") -> str:
    """Return the model card of a manifest as Markdown, its head in YAML. library: what the hub loads it with; empty: its own package."""
    training, sizes = manifest["training"], manifest["sizes"]
    data = "".join(sources_section(title, card) for title, card in data_cards(training).items())
    metrics = "".join(f"| {cell(key)} | {cell(str(value))} |\n" for key, value in sorted(manifest["metrics"].items()))
    return f"""{front_matter(manifest, library)}
# {manifest["name"]} {manifest["version"]}

| | |
|---|---|
| sample rate | {sizes["sample_rate"]} Hz |
| scene embedding | {sizes["scene_embedding_size"]} dimensions |
| timestamp embedding | {sizes["timestamp_embedding_size"]} dimensions, every {sizes["hop_ms"]:g} ms |
| parameters | {sizes["parameters"]}, stored in {training.get("stored_in", "float32")}, computed in float32 |
| code revision | {cell(str(training["git_revision"]))} |

## Encoders

{encoders_table(manifest)}{"".join(f"{chr(10)}- {cell(note)}" for note in after_training(training))}
{licenses_section(training)}{data}
## Last values of training (metrics.csv of the run)

| | |
|---|---|
{metrics}
"""


def encoders_table(manifest: dict[str, Any]) -> str:
    """Return a row for each encoder: what it is, its objectives, and its steps of how many clips."""
    rows = "".join(
        f"| {cell(one['encoder'])} | {cell(', '.join(one['objectives']) or 'none')} | {one['steps']} | {one['batch_size']} |\n"
        for one in trainings_of(manifest)
    )
    return f"| encoder | objectives | steps | clips a step |\n|---|---|---|---|\n{rows}"


def trainings_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the training of each encoder; of a manifest without `trainings`, the one that it describes."""
    training = manifest["training"]
    single = training_record(training.get("config", {}), manifest["embedder"], training["steps"], training["batch_size"])
    return training.get("trainings") or [single]


def training_record(config: dict[str, Any], embedder: dict[str, Any], steps: int, batch_size: int) -> dict[str, Any]:
    """Return what a row of the encoders' table has; a class of a user's file without the file's path."""
    objectives = config.get("objective")
    return {
        "encoder": class_name(next(iter(embedder["encoder"]))),
        "objectives": [class_name(name) for name in objectives] if isinstance(objectives, dict) and steps else [],
        "steps": steps,
        "batch_size": batch_size,
    }


def class_name(key: Any) -> str:
    """Return the name of an encoder or objective by its key in a config, of FILE:Class the class."""
    return str(key).rpartition(":")[2]


def after_training(training: dict[str, Any]) -> list[str]:
    """Return what was done to a model after its training, and what a linear map was fitted on."""
    fitted = training.get("fitted") or {}
    return [
        *training.get("notes", []),
        *([f"embeddings by a linear map fitted on {fitted['clips']} clips{maps_of(fitted)}"] if fitted else []),
    ]


def maps_of(fitted: dict[str, Any]) -> str:
    """Return the kind and the dimensions of each linear map in brackets; '' where they are not recorded."""
    maps = fitted.get("maps")
    listed = maps.items() if isinstance(maps, dict) else ()
    texts = [f"{place}: {one.get('kind')}, {one.get('of')} to {one.get('dims')} dimensions" for place, one in listed]
    return f" ({'; '.join(texts)})" if texts else ""


def licenses_section(training: dict[str, Any]) -> str:
    """Return the licences of the training data by kind, with what they mean for users of the model."""
    sources = sources_of(training)
    hours: dict[str, list[Any]] = {}
    for source in sources:
        hours.setdefault(kind_of_license(str(source["license"])), []).append(source.get("hours"))
    rows = "".join(
        f"| {kind} | {meaning} | {len(hours[kind])} | {number(sum(filter(is_number, hours[kind])), '.2f')} |\n"
        for kind, meaning in KINDS.items()
        if kind in hours
    )
    return f"""
## Licences

The weights are under CC BY 4.0: use them for any purpose, and name their source. The recordings that the model was trained on
are not part of the package. Their own licences, below, apply to whoever passes the recordings on; whether they apply to a model
that was trained on them differs by country.

| kind of licence | asks of whoever passes the recordings on | sources | hours |
|---|---|---|---|
{rows}"""


def sources_section(title: str, card: dict[str, Any]) -> str:
    """Return hours, split and every source of a data card; a long list is folded away."""
    sources = card.get("sources", [])
    rows = "".join(
        f"| {cell(source['name'] + not_test(source))} | {cell(shown(source))} | {number(source['hours'], '.3f')} |"
        f" {number(source['clips'], 'd')} |\n"
        for source in sources
    )
    head = f"## {title}: {number(card.get('hours', 0.0), '.2f')} hours, split {cell(str(card.get('split', '')))}"
    table = f"| source | licence | hours | clips |\n|---|---|---|---|\n{rows}"
    if len(sources) > UNFOLDED:
        table = f"<details><summary>All {len(sources)} sources</summary>\n\n{table}\n</details>\n"
    return f"\n{head}\n\n{table}"


def is_number(value: Any) -> bool:
    """Return whether a value of others is a number."""
    return isinstance(value, (int, float))


def not_test(source: dict[str, Any]) -> str:
    """Return what was stated of a source whose path contains test; '' of others."""
    return f" (path contains {source['not_test']!r}; stated to be no test data)" if source.get("not_test") else ""


def data_cards(training: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return by title the data cards of what a model was trained on, and of what its linear map, if any, was fitted on."""
    fitted = training.get("fitted", {}).get("data")
    return {"Training data": training["data"], **({"Data of the linear map": fitted} if fitted else {})}


def sources_of(training: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sources of all data cards; one of the same name and licence once, with the hours of the card that names it first."""
    sources: dict[tuple[str, str], dict[str, Any]] = {}
    for card in data_cards(training).values():
        for source in card.get("sources", []):
            sources.setdefault((source["name"], source["license"]), source)
    return list(sources.values())


def front_matter(manifest: dict[str, Any], library: str = "") -> str:
    """Return the card's YAML head (https://huggingface.co/docs/hub/model-cards#model-card-metadata); values are written as JSON."""
    head = {
        "license": "cc-by-4.0",
        "library_name": library or manifest["name"],
        "pipeline_tag": "feature-extraction",
        "tags": ["audio", "audio-embeddings", "self-supervised", "hear", "pytorch", next(iter(manifest["embedder"]["encoder"]))],
        "datasets": sorted({printable(source["name"]) for source in sources_of(manifest["training"])}),
        "inference": False,
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in head.items()]
    return "---\n" + "".join(lines) + "---\n"


def printable(text: str) -> str:
    """Return a text with every control character, line break and lone surrogate as a space: YAML takes none of them."""
    return "".join(character if character.isprintable() else " " for character in text)


def cell(text: str) -> str:
    """Return a text of others as one cell of a Markdown table: it makes no row, link, image or HTML of its own."""
    escaped = MARKUP.sub(r"\\\g<0>", printable(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


def number(value: Any, form: str) -> str:
    """Return a number of others in a format, such as .2f; what is no such number as a cell."""
    try:
        return format(value, form) if is_number(value) else cell(str(value))
    except (ValueError, OverflowError):
        return cell(str(value)[:40])
