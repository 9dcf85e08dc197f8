"""What is sent of a revision and taken in: its files, without the places and names of a machine."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from nerc import hub
from nerc.errors import InputError

SHORTENED = ".../"  # followed by the last part of a path that was absolute

# A path in text, where it begins: not within a word, another path or an address.
_PATH = r"(?:[A-Za-z]:[/\\]+|/)(?:[^\s/\\:'\"|,;()]+[/\\]+)+[^\s/\\:'\"|,;()]+"
_PLACE_IN_CONFIG = r'("\w+_(?:path|file|dir)"\s*:\s*")((?:/|[A-Za-z]:[/\\])[^"]*)"'
_EVENTS = re.compile(r"(.*?tfevents\.\d+)\.(.+?)((?:\.\d+){0,2}(?:\.v2)?)")  # time, host, process


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a model's configuration and weights."""
    weights = ("model.safetensors", "model.safetensors.index.json")
    return (folder / "config.json").is_file() and any((folder / w).is_file() for w in weights)


def files_to_send(folder: Path) -> dict[str, Path | bytes]:
    """What a revision's branch is to hold, by name; InputError where files do not belong there."""
    if not is_whole(folder):
        raise InputError(f"{folder}: is not a whole revision, config.json or weights are missing")
    entries = [p for p in sorted(folder.rglob("*")) if p.is_symlink() or not p.is_dir()]
    if links := [str(p.relative_to(folder)) for p in entries if p.is_symlink()]:
        raise InputError(
            f"{folder}: links are not followed and not sent; put what they lead to in the place "
            f"of {_list(links)}"
        )
    files = _files_of(folder)
    if refused := [str(p.relative_to(folder)) for p in entries if p not in files.values()]:
        raise InputError(
            f"{folder}: hidden files, pickles, programs and what is no file are not part of a "
            f"revision and are not sent; move away {_list(refused)}"
        )
    return _without_places(files)


def take(source: Path, target: Path) -> None:
    """Copy the files that belong to the revision in source, a folder of the Hub client's cache."""
    for name, path in _files_of(source).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name)


def is_same(one: Path, two: Path) -> bool:
    """Whether two folders hold the same revision, but for the places and names of a machine."""
    files = [_without_places(_files_of(folder)) for folder in (one, two)]
    return files[0].keys() == files[1].keys() and all(
        hub.content_hash(content) == hub.content_hash(files[1][name])
        for name, content in files[0].items()
    )


def _files_of(folder: Path) -> dict[str, Path]:
    """The files in a folder that can belong to a revision, by their names on the Hub."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if events := _EVENTS.fullmatch(name):
            name = f"{events[1]}.host{events[3]}"
        if path.is_file() and hub.belongs(name):
            if name in files:
                raise InputError(f"{path}: differs from {files[name]} in the name of the host only")
            files[name] = path
    return files


def _list(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"


# ------------------------------------------------------------ places


def _without_places(files: Mapping[str, Path]) -> dict[str, Path | bytes]:
    """The same files; absolute paths in those that nerc or transformers writes become .../NAME.

    Only the last part of a path says something elsewhere, and records are compared by it alone.
    """
    found: dict[str, Path | bytes] = dict(files)
    places = _places(files["run.json"].read_bytes()) if "run.json" in files else set()
    exact = [re.escape(place) for place in sorted(places, key=len, reverse=True)]
    path = re.compile(rf"(?<![\w.~/\\-])(?:(?:{'|'.join([*exact, '(?!)'])})(?![\w-])|{_PATH})")
    for name in {"run.json", "log.txt", "config.json", "tokenizer_config.json"} & files.keys():
        old = files[name].read_bytes().decode(errors="surrogateescape")
        if name in ("run.json", "log.txt"):
            new = path.sub(lambda match: _last_part(match[0]), old)
        else:
            new = re.sub(_PLACE_IN_CONFIG, lambda match: f'{match[1]}{_last_part(match[2])}"', old)
        if new != old:
            found[name] = new.encode(errors="surrogateescape")
    return found


def _last_part(path: str) -> str:
    return SHORTENED + re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _places(run: bytes) -> set[str]:
    """The absolute paths in run.json and in its command, as JSON has them and as they are."""
    try:
        texts = list(_texts(json.loads(run)))
    except (ValueError, RecursionError):
        return set()  # it is damaged; _PATH finds all but paths with spaces
    places = {text.rstrip("/\\") for text in texts if _is_absolute(text)}
    escaped = {json.dumps(p, ensure_ascii=a)[1:-1] for p in places for a in (True, False)}
    return places | escaped


def _texts(value: Any) -> Iterator[str]:
    """Every text in JSON, and the words of a command line."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value
        try:
            words = shlex.split(value)
        except ValueError:  # a quotation mark without its other one
            words = []
        yield from (part for word in words for part in (word, word.partition("=")[2]))


def _is_absolute(text: str) -> bool:
    kinds = (PurePosixPath(text), PureWindowsPath(text))
    return any(path.is_absolute() and path.name for path in kinds)
