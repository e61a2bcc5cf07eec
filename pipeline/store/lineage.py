"""Lineage: what an artifact was made from, back to its sources, and all that was made from it.

Back, each manifest names its parents. Forward, a mark says so: an empty object under `lineage/<parent>/<child>`,
written before the child's manifest; a mark whose child has no manifest counts for nothing. Costs two small listings for
each artifact that it finds, or, where they are many, one of all marks and one of all manifests; and a manifest read for
each ancestor.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from pipeline.store.artifact import KINDS, Artifact, Manifest, Version, parsed_reference
from pipeline.store.backend import Backend, Stored
from pipeline.store.keys import lineage_key
from pipeline.store.parallel import in_parallel

if TYPE_CHECKING:
    from pipeline.store.store import Store

SHOWN_SOURCES = 3
FEW = 16
"""Artifacts of one generation that are looked for one by one."""
Edges = dict[str, set[str]]
States = dict[str, str]
"""Of what the store has: `retracted`, or nothing."""


@dataclass(frozen=True)
class Sources:
    """What an artifact was made from that came from outside."""

    files: int
    bytes: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Lineage:
    """Artifacts by reference, with `root` in the midst."""

    root: str
    parents: dict[str, tuple[str, ...]]
    """Of `root` and each of its ancestors: what it was made from."""
    children: dict[str, tuple[str, ...]]
    """Of `root` and each of its descendants that has some: what was made from it."""
    sources: dict[str, Sources]
    """Of those ancestors that have some."""
    gone: dict[str, str]
    """What is no longer to be had: `retracted`, `missing`, or `unreadable`, which only `root` and ancestors are told to
    be: of the others no more is looked at than that they are there."""


def mark_lineage(backend: Backend, manifest: Manifest) -> None:
    """Leave a mark at each parent; before the manifest, so that there is none without."""
    for parent in manifest.parents:
        child = (manifest.kind, manifest.name, manifest.version)
        backend.put(lineage_key(_address(parent.reference), child), b"")


def lineage_of(store: "Store", artifact: Artifact) -> Lineage:
    """All that the artifact comes from, and all that comes from it."""
    parents, sources, unread = _ancestors(store, artifact.reference)
    marks, state = _looked_for(store, {artifact.reference, *parents}, artifact.reference) or _looked_through(store)
    children = _reached(
        artifact.reference,
        {parent: tuple(sorted(child for child in made if child in state)) for parent, made in marks.items()},
    )
    named = {artifact.reference, *parents, *(each for made in children.values() for each in made)}
    gone = {
        reference: state.get(reference, "missing") or ("unreadable" if reference in unread else "")
        for reference in sorted(named)
    }
    return Lineage(artifact.reference, parents, children, sources, {name: why for name, why in gone.items() if why})


def _looked_for(store: "Store", known: set[str], root: str) -> tuple[Edges, States] | None:
    """The marks of the root and its descendants, and the state of these and the known; None where they are many."""
    marks: Edges = {}
    generation = {root}
    while generation:
        if len(generation) > FEW:
            return None
        marks |= {reference: set() for reference in generation}
        prefixes = ["/".join(("lineage", *_address(reference))) + "/" for reference in sorted(generation)]
        for found in in_parallel(lambda prefix: _marks(islice(store.backend.list(prefix), FEW + 1)), prefixes):
            marks |= found
        generation = {child for parent in generation for child in marks[parent]} - set(marks)
    listed = in_parallel(lambda reference: store.listing(*_address(reference)), sorted(known | set(marks)))
    return marks, _states(each for found in listed for each in found)


def _looked_through(store: "Store") -> tuple[Edges, States]:
    """All marks, and the state of all there is."""
    with ThreadPoolExecutor(1) as pool:
        listing = pool.submit(store.listing)
        marks: Edges = {}
        for found in in_parallel(lambda kind: _marks(store.backend.list(f"lineage/{kind}/")), KINDS):
            marks |= found
        return marks, _states(listing.result())


def _marks(listed: Iterable[Stored]) -> Edges:
    """Each parent with its children, whether these were committed or not."""
    made: Edges = {}
    for each in listed:
        parts = each.key.split("/")
        if len(parts) == 7:
            made.setdefault(_reference(parts[1:4]), set()).add(_reference(parts[4:7]))
    return made


def _states(versions: Iterable[Version]) -> States:
    return {each.reference: "retracted" if each.is_retracted else "" for each in versions}


def _reached(root: str, edges: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Those edges that can be reached from the root."""
    reached: dict[str, tuple[str, ...]] = {}
    waiting = [root]
    while waiting:
        here = waiting.pop()
        if here not in reached and edges.get(here):
            reached[here] = edges[here]
            waiting += edges[here]
    return reached


def _ancestors(store: "Store", root: str) -> tuple[dict[str, tuple[str, ...]], dict[str, Sources], set[str]]:
    """The parents and the sources of the root and of all that it comes from; and what of it can't be read."""
    parents: dict[str, tuple[str, ...]] = {}
    sources: dict[str, Sources] = {}
    unread: set[str] = set()
    waiting = {root}
    while waiting:
        generation = sorted(waiting)
        for reference, read in zip(
            generation, in_parallel(lambda each: store.read_manifest(*_address(each)), generation), strict=True
        ):
            manifest = read[0] if read is not None else None
            parents[reference] = tuple(parent.reference for parent in manifest.parents) if manifest else ()
            if manifest is None:
                unread.add(reference)
            elif manifest.inputs:
                names = tuple(str(each["name"]) for each in manifest.inputs)
                sources[reference] = Sources(len(names), sum(each["size"] for each in manifest.inputs), names)
        waiting = {parent for reference in generation for parent in parents[reference]} - set(parents)
    return parents, sources, unread


def _address(reference: str) -> tuple[str, str, str]:
    return parsed_reference(reference)


def _reference(parts: list[str]) -> str:
    kind, name, version = parts
    return f"{kind}/{name}@{version}"


# As text


def as_tree(lineage: Lineage) -> str:
    """Two trees, drawn with lines; what was drawn above isn't drawn again."""
    lines = [_label(lineage, lineage.root)]
    for title, edges, seen in (
        ("made from", lineage.parents, {lineage.root}),
        ("made into", lineage.children, {lineage.root}),
    ):
        below = edges.get(lineage.root, ())
        lines += ["", f"{title}:" if below or _sources(lineage, lineage.root, title) else f"{title}: nothing"]
        lines += _branches(lineage, lineage.root, edges, title, "", seen)
    return "\n".join(lines)


def _branches(
    lineage: Lineage, here: str, edges: dict[str, tuple[str, ...]], title: str, indent: str, seen: set[str]
) -> list[str]:
    lines: list[str] = []
    below = [*edges.get(here, ()), *_sources(lineage, here, title)]
    for number, each in enumerate(below, 1):
        last = number == len(below)
        drawn = each in seen and bool(edges.get(each) or _sources(lineage, each, title))
        label = _printable(_label(lineage, each))
        lines.append(f"{indent}{'└─' if last else '├─'} {label}{' (above)' if drawn else ''}")
        if each not in seen:
            seen.add(each)
            lines += _branches(lineage, each, edges, title, indent + ("   " if last else "│  "), seen)
    return lines


def _label(lineage: Lineage, reference: str) -> str:
    return f"{reference} [{lineage.gone[reference]}]" if reference in lineage.gone else reference


def _sources(lineage: Lineage, reference: str, title: str = "made from") -> list[str]:
    """One line for what came from outside."""
    if title != "made from" or reference not in lineage.sources:
        return []
    found = lineage.sources[reference]
    more = f" and {found.files - SHOWN_SOURCES:,} more" if found.files > SHOWN_SOURCES else ""
    files = "1 source file" if found.files == 1 else f"{found.files:,} source files"
    return [f"{files}, {found.bytes / 1e6:,.1f} MB: {', '.join(found.names[:SHOWN_SOURCES])}{more}"]


def _printable(text: str) -> str:
    """Text as one line of a terminal: a file's name may hold line breaks, and codes that a terminal obeys."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def edges_of(lineage: Lineage) -> list[tuple[str, str]]:
    """(parent, child) of the whole, each once, sorted."""
    back = {(parent, child) for child, made_from in lineage.parents.items() for parent in made_from}
    return sorted(back | {(parent, child) for parent, made in lineage.children.items() for child in made})


def as_mermaid(lineage: Lineage) -> str:
    """A flowchart that Markdown pages on GitHub and GitLab draw."""
    edges = edges_of(lineage)
    references = sorted({lineage.root, *(each for edge in edges for each in edge)})
    ids = {reference: f"a{number}" for number, reference in enumerate(references)}
    lines = ["flowchart LR"]
    lines += [f'    {ids[reference]}["{_quoted(_label(lineage, reference))}"]' for reference in references]
    for number, reference in enumerate(sorted(lineage.sources)):
        (told,) = _sources(lineage, reference)
        lines.append(f'    s{number}[("{_quoted(told)}")] --> {ids[reference]}')
    lines += [f"    {ids[parent]} --> {ids[child]}" for parent, child in edges]
    return "\n".join([*lines, f"    style {ids[lineage.root]} stroke-width:3px"])


def _quoted(text: str) -> str:
    """Text as mermaid takes it within quotes."""
    return "".join(c if c.isalnum() or c in " ,.:/_-()@" else f"#{ord(c)};" for c in text)


def as_record(lineage: Lineage) -> dict[str, object]:
    """The same for programs."""
    edges = edges_of(lineage)
    return {
        "root": lineage.root,
        "nodes": [
            {"reference": reference, "state": lineage.gone.get(reference, "sound")}
            for reference in sorted({lineage.root, *(each for edge in edges for each in edge)})
        ],
        "edges": [{"parent": parent, "child": child} for parent, child in edges],
        "sources": {
            reference: {"files": found.files, "bytes": found.bytes, "names": list(found.names)}
            for reference, found in sorted(lineage.sources.items())
        },
    }
