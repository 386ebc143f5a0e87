"""The model card: a model's properties, training, and data with licences, in the form of the Hugging Face Hub."""

from __future__ import annotations

import json
import re
from typing import Any

from hear_ssl.packaging.licenses import KINDS, kind_of_license, shown

MARKUP = re.compile(r"[\\|\[\]`*]")
UNFOLDED = 6  # sources; longer lists are folded


def model_card(manifest: dict[str, Any], library: str = "") -> str:
    """Return the model card of a manifest as Markdown with YAML front matter. library: with which the hub loads it; '': its own package."""
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
    """Return a table with a row for each encoder: its class, objectives, steps and clips per step."""
    rows = "".join(
        f"| {cell(one['encoder'])} | {cell(', '.join(one['objectives']) or 'none')} | {one['steps']} | {one['batch_size']} |\n"
        for one in trainings_of(manifest)
    )
    return f"| encoder | objectives | steps | clips per step |\n|---|---|---|---|\n{rows}"


def trainings_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the training of each encoder; for a manifest without `trainings`, the one that it describes."""
    training = manifest["training"]
    single = training_record(training.get("config", {}), manifest["embedder"], training["steps"], training["batch_size"])
    return training.get("trainings") or [single]


def training_record(config: dict[str, Any], embedder: dict[str, Any], steps: int, batch_size: int) -> dict[str, Any]:
    """Return the content of a row of the encoders' table; a user's class is given without the path of its file."""
    objectives = config.get("objective")
    return {
        "encoder": class_name(next(iter(embedder["encoder"]))),
        "objectives": [class_name(name) for name in objectives] if isinstance(objectives, dict) and steps else [],
        "steps": steps,
        "batch_size": batch_size,
    }


def class_name(key: Any) -> str:
    """Return the name of an encoder or objective for its key in a config; for FILE:Class, the class."""
    return str(key).rpartition(":")[2]


def after_training(training: dict[str, Any]) -> list[str]:
    """Return notes on changes to a model after training, and on the clips of its linear map."""
    fitted = training.get("fitted") or {}
    return [
        *training.get("notes", []),
        *([f"embeddings by a linear map fitted on {fitted['clips']} clips{maps_of(fitted)}"] if fitted else []),
    ]


def maps_of(fitted: dict[str, Any]) -> str:
    """Return kind and dimensions of each linear map in brackets, or '' if they are not recorded."""
    maps = fitted.get("maps")
    listed = maps.items() if isinstance(maps, dict) else ()
    texts = [f"{place}: {one.get('kind')}, {one.get('of')} to {one.get('dims')} dimensions" for place, one in listed]
    return f" ({'; '.join(texts)})" if texts else ""


def licenses_section(training: dict[str, Any]) -> str:
    """Return the licences of the training data by kind, with their meaning for users of the model."""
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
are not part of the package. Their own licences, below, apply when you redistribute the recordings; whether they apply to a model
that was trained on them differs by country.

| kind of licence | conditions for redistributing the recordings | sources | hours |
|---|---|---|---|
{rows}"""


def sources_section(title: str, card: dict[str, Any]) -> str:
    """Return hours, split and all sources of a data card; a long list is folded."""
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
    """Return whether an untrusted value is a number."""
    return isinstance(value, (int, float))


def not_test(source: dict[str, Any]) -> str:
    """Return the statement about a source whose path suggests test data, otherwise ''."""
    return f" (path contains {source['not_test']!r}; stated to be no test data)" if source.get("not_test") else ""


def data_cards(training: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return, by title, the data cards of a model's training and of its linear map, if it has one."""
    fitted = training.get("fitted", {}).get("data")
    return {"Training data": training["data"], **({"Data of the linear map": fitted} if fitted else {})}


def sources_of(training: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sources of all data cards; sources with equal name and licence once, with the hours of the first card."""
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
    """Return a text with control characters, line breaks and lone surrogates replaced by spaces, since YAML allows none of them."""
    return "".join(character if character.isprintable() else " " for character in text)


def cell(text: str) -> str:
    """Return an untrusted text as one cell of a Markdown table, escaped so that it makes no row, link, image or HTML."""
    escaped = MARKUP.sub(r"\\\g<0>", printable(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


def number(value: Any, form: str) -> str:
    """Return an untrusted number in a format such as .2f; any other value as a cell."""
    try:
        return format(value, form) if is_number(value) else cell(str(value))
    except (ValueError, OverflowError):
        return cell(str(value)[:40])
