"""The views in a config: a list of crops with their augmentations, each a class with options, changed element by element.

views:
  - {crop: 0, augment: [gain, polarity, {mixup: {share: 0.1}}]}
  - {crop: 1, augment: [gain, polarity, noise]}

A list replaces all views. views.0.augment.2.share=0.2 changes one option, views.1.crop=0 one crop. Without the key crop, view n uses
crop n, or the last crop when there are fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hear_ssl.model.options import Classes, select
from hear_ssl.part_files import is_reference
from hear_ssl.training.config_parts import OURS, default_part, known_key, name_of
from hear_ssl.training.config_sources import Source
from hear_ssl.views import ViewConfig
from hear_ssl.views.base import KINDS

SECTION = "augment"
COMMON = ["gain", "polarity"]
FEATURES = ["mixup", "time_masks", "frequency_masks"]
DEFAULT = [{SECTION: [*COMMON, *FEATURES]}, {SECTION: [*COMMON, "noise", *FEATURES]}]
View = dict[str, Any]  # crop: int or absent, augment: list of [key, options]


class ViewSelection:
    """The views selected by several sources, applied one after another."""

    def __init__(self) -> None:
        self.views = self._list(DEFAULT, Source("defaults", {}))

    def add(self, source: Source) -> None:
        """Apply the key `views` of a source. Raises ValueError that names the source when it has another form."""
        given = source.mapping.get("views")
        if given is None:
            if "views" in source.mapping:
                raise ValueError(f"{source.where}: views is null; leave it out for the default views")
            return
        if isinstance(given, dict) and given and all(str(key).isdigit() for key in given):
            for number, change in given.items():
                self._change(int(number), change, source)
        elif isinstance(given, list) and given:
            self.views = self._list(given, source)
        else:
            raise ValueError(
                f"{source.where}: views must be a list of crops with augmentations, such as"
                " views=[{augment: [gain, noise]}, {augment: [gain]}]; one element is changed as views.0.augment.1.std=0.01"
            )

    def configs(self, crops: int, sample_rate: int) -> tuple[ViewConfig, ...]:
        """Return the views for this number of crops at a sample rate (Hz).

        Raises ValueError when a crop does not exist, an option is unknown or out of range, or augmentations have the wrong order.
        """
        classes: dict[str, type[Any]] = dict(OURS[SECTION])
        for key in {key for view in self.views for key, _ in view[SECTION] if is_reference(key)}:
            part = default_part(SECTION, key)
            if classes.setdefault(part.name, part.kind) is not part.kind:
                raise ValueError(f"views: two files have a class {part.name}; rename one of the classes")
        views = tuple(self._config(number, view, crops, classes) for number, view in enumerate(self.views))
        for number, view in enumerate(views):
            for place, part in enumerate(view.augment):
                try:
                    part.kind.check(part.options, sample_rate)
                except ValueError as error:
                    raise ValueError(f"views.{number}.{SECTION}.{place}.{part.name}.{error}") from None
        return views

    def _config(self, number: int, view: View, crops: int, classes: Classes) -> ViewConfig:
        crop = view.get("crop", min(number, crops - 1))
        if not isinstance(crop, int) or isinstance(crop, bool) or not 0 <= crop < crops:
            raise ValueError(f"views.{number}.crop is {crop!r}; data.crops has {crops}, numbered from 0")
        parts = []
        for place, (key, options) in enumerate(view[SECTION]):
            part = select(classes, key, options, f"views.{number}.{SECTION}.{place}")
            parts.append(default_part(SECTION, key, part.options) if is_reference(key) else part)
        kinds = [KINDS.index(part.kind.kind) for part in parts]
        if kinds != sorted(kinds):
            order = ", ".join(f"{part.name} ({part.kind.kind})" for part in parts)
            raise ValueError(f"views.{number}.{SECTION} is {order}; waveforms come first, then spectrograms, then masks")
        return ViewConfig(crop, tuple(parts))

    def _list(self, given: Sequence[Any], source: Source) -> list[View]:
        return [self._view(number, view, source) for number, view in enumerate(given)]

    def _view(self, number: int, given: Any, source: Source) -> View:
        if not isinstance(given, dict) or set(given) - {"crop", SECTION} or not isinstance(given.get(SECTION, []), list):
            raise ValueError(f"{source.where}: views.{number} must have the keys crop and augment, a list, such as {{augment: [gain]}}")
        view = {SECTION: [self._element(f"views.{number}.{SECTION}", one, source) for one in given.get(SECTION, [])]}
        return {**view, **({"crop": given["crop"]} if "crop" in given else {})}

    def _element(self, where: str, given: Any, source: Source) -> list[Any]:
        if isinstance(given, str):
            given = {given: {}}
        if not isinstance(given, dict) or len(given) != 1:
            raise ValueError(f"{source.where}: {where} has {given!r:.60}; give a name, or {{name: {{option: value}}}}")
        ((name, options),) = given.items()
        if options is not None and not isinstance(options, dict):
            raise ValueError(f"{source.where}: {where}.{name} is {options!r:.60}; give options by name")
        return [known_key(SECTION, str(name), source), dict(options or {})]

    def _change(self, number: int, change: Any, source: Source) -> None:
        if number >= len(self.views):
            raise ValueError(f"{source.where}: there is no view {number}; views has {len(self.views)}, numbered from 0")
        view = self.views[number]
        if not isinstance(change, dict) or set(change) - {"crop", SECTION}:
            raise ValueError(f"{source.where}: a view has the keys crop and augment")
        if "crop" in change:
            view["crop"] = change["crop"]
        elements = change.get(SECTION, {})
        if isinstance(elements, list):
            view[SECTION] = [self._element(f"views.{number}.{SECTION}", one, source) for one in elements]
            return
        for place, options in elements.items() if isinstance(elements, dict) else [("", None)]:
            if not str(place).isdigit() or int(place) >= len(view[SECTION]) or not isinstance(options, dict):
                names = ", ".join(f"{index} {name_of(key)}" for index, (key, _) in enumerate(view[SECTION]))
                raise ValueError(
                    f"{source.where}: views.{number}.{SECTION} has {names}; change one as views.{number}.{SECTION}.0.OPTION=VALUE"
                )
            key, own = view[SECTION][int(place)]
            own.update(options.get(name_of(key)) if isinstance(options.get(name_of(key)), dict) else options)
