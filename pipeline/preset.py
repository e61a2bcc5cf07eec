"""Preset files: found by name or path, merged with what they extend, and checked.

A preset's relative paths are relative to the file that names them. Whatever is wrong with one is said in a sentence.
"""

import tomllib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.config import STAGES, Preset, is_reference
from pipeline.errors import ConfigError, nearest

PRESETS = Path(__file__).parent / "presets"
BUDGETS = {"max_steps": "max_tokens", "max_tokens": "max_steps"}
"""Keys of `pretraining`, and what each takes the place of."""


def shipped_presets() -> dict[str, Path]:
    """The presets that come with the package, by name."""
    return {path.stem: path for path in sorted(PRESETS.glob("*.toml"))}


def load_preset(name_or_path: str, overrides: Sequence[str] = (), name: str | None = None) -> Preset:
    """Read a preset with what it extends, and apply `table.key=value` overrides.

    `name` renames all five artifacts, so that a run with overrides doesn't stand among the preset's own.
    Raises ConfigError: no such preset, not TOML, an unknown key (suggests the nearest), a value out of range.
    """
    values = _read(_preset_path(name_or_path), seen=())
    keys = [override.partition("=")[0].strip() for override in overrides]
    _replace_budget(values, {key.removeprefix("pretraining.") for key in keys if key.startswith("pretraining.")})
    for override in overrides:
        _override(values, override)
    if name is not None:
        for stage in STAGES:
            values.setdefault(stage, {})["name"] = name
    return _validated(values, name_or_path)


def _preset_path(name_or_path: str) -> Path:
    presets = shipped_presets()
    if name_or_path in presets:
        return presets[name_or_path]
    path = Path(name_or_path).expanduser()
    if path.suffix == ".toml":
        if path.is_file():
            return path
        raise ConfigError(
            f"There is no preset file {name_or_path}. Give the path of a .toml file, or one of: {', '.join(presets)}."
        )
    raise ConfigError(
        f"There is no preset {name_or_path!r}. {nearest(name_or_path, presets)} A path of your own ends in .toml."
    )


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen:
        raise ConfigError(f"{path} extends itself, by way of {', '.join(p.name for p in seen)}. Break the circle.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}.") from None
    _anchor_paths(values, path.parent)
    if (parent := values.pop("extends", None)) is None:
        return values
    if not isinstance(parent, str):
        raise ConfigError(f"{path}: extends is {parent!r}; give one preset's name or path, in quotes.")
    parent_path = _preset_path(parent if parent in shipped_presets() else str(path.parent / parent))
    below = _read(parent_path, (*seen, path))
    table = values.get("pretraining")
    _replace_budget(below, table if isinstance(table, dict) else ())
    return _merged(below, values)


def _replace_budget(below: dict[str, Any], above: Collection[str]) -> None:
    """A budget that is given above replaces one of the other kind below; two at one place stay, and are refused."""
    given = BUDGETS.keys() & set(above)
    table = below.get("pretraining")
    if len(given) == 1 and isinstance(table, dict):
        table.pop(BUDGETS[given.pop()], None)


def _anchor_paths(values: dict[str, Any], folder: Path) -> None:
    """Make relative paths relative to the preset that names them, wherever the run is started."""
    corpus, vocabulary, dataset, pretraining = (values.get(stage) for stage in STAGES[:4])
    if isinstance(corpus, dict):
        for key in ("sources", "decontaminate"):
            for source in _tables(corpus.get(key)):
                _anchor(source, "path", folder)
        _anchor(corpus, "excluded", folder)
    if isinstance(vocabulary, dict):
        for existing in _tables([vocabulary.get("base")]) + _tables(vocabulary.get("compare")):
            if not is_reference(existing.get("vocabulary"), "vocabulary"):
                _anchor(existing, "vocabulary", folder)
    if isinstance(dataset, dict):
        for segmenter in _tables([dataset.get("segmenter")]):
            _anchor(segmenter, "dictionary", folder)
    if isinstance(pretraining, dict) and not is_reference(pretraining.get("init"), "pretraining"):
        _anchor(pretraining, "init", folder)


def _tables(values: Any) -> list[dict[str, Any]]:
    return [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []


def _anchor(table: dict[str, Any], key: str, folder: Path) -> None:
    path = table.get(key)
    if isinstance(path, str) and ":" not in path.split("/", 1)[0] and not path.startswith(("/", "~")):
        table[key] = str(folder.absolute() / path)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Tables merge key by key; everything else, lists included, is replaced."""
    merged = dict(below)
    for key, value in above.items():
        both_tables = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both_tables else value
    return merged


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    *tables, field = key.strip().split(".")
    if not (equals and all(tables) and tables and field):
        raise ConfigError(f"--set {override!r} is not of the form table.key=value, such as pretraining.max_steps=100.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word: --set pretraining.precision=bf16
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override!r}: {table} is a value and no table; give it whole.")
    values[field] = value


def _validated(values: dict[str, Any], what: str) -> Preset:
    try:
        return Preset.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_sentence(problem, what) for problem in error.errors()[:3])) from None


def _sentence(problem: Any, what: str) -> str:
    """One of pydantic's findings, as a sentence."""
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        fields = _fields_beside(problem["loc"])
        return f"Preset {what} has an unknown key {place}. {nearest(str(problem['loc'][-1]), fields)}"
    if problem["type"] == "missing":
        return f"Preset {what} lacks {place}; give it, or extend a preset that has it."
    message = problem["msg"].removeprefix("Value error, ")
    if isinstance(problem["input"], dict | BaseModel):
        return f"Preset {what}: {place}{': ' if place else ''}{message}."
    return f"Preset {what}: {place} is {problem['input']!r}: {message}."


def _fields_beside(loc: Sequence[int | str]) -> list[str]:
    """The known keys of the table in which `loc` ends."""
    table: type[BaseModel] = Preset
    for part in loc[:-1]:
        field = table.model_fields.get(str(part))
        if field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            table = field.annotation
    return [*table.model_fields, *(["extends"] if table is Preset else [])]
