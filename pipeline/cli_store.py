"""The commands that look at the store and care for it. Alone as `python -m pipeline`, where there is no Prefect."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import NameOption, SetOption, app, as_toml, print_table
from pipeline.config import STAGES
from pipeline.errors import ConfigError, UnknownReference, nearest
from pipeline.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.store import Artifact, Store
    from pipeline.store.gc import Collected
    from pipeline.store.lease import Holder
    from pipeline.store.lineage import Lineage

__all__ = ["app"]
FOUND_WRONG = 1
"""The exit status of a check that found something: neither success nor a user's mistake."""
SHOWN = 20
ReferenceArgument = Annotated[
    str, typer.Argument(metavar="REF", help="kind/name@version, or kind/name for the latest.")
]
store_command = app.command(rich_help_panel="Store")


@store_command
def ls(
    what: Annotated[str, typer.Argument(metavar="[KIND[/NAME]]", help="Only these.")] = "",
    long: Annotated[bool, typer.Option("--long", "-l", help="With sizes, users and aliases.")] = False,
) -> None:
    """The store's artifacts, oldest first."""
    from pipeline.store import open_store

    kind, _, name = what.partition("/")
    if kind and kind not in STAGES:
        raise UnknownReference(f"There is no kind {kind!r}. {nearest(kind, STAGES)}")
    store = open_store()
    listed = sorted(store.listing(kind, name), key=lambda each: (each.at, each.reference))
    if not long:
        lines = (f"{_time(each.at)}  {each.reference}{'  [retracted]' if each.is_retracted else ''}" for each in listed)
        typer.echo("".join(f"{line}\n" for line in lines), nl=False)
        return
    aliases: dict[str, list[str]] = {}
    for of_kind, of_name in sorted({(each.kind, each.name) for each in listed}):
        for alias in store.aliases.names(of_kind, of_name):
            if (move := store.aliases.current(of_kind, of_name, alias)) is not None:
                aliases.setdefault(f"{of_kind}/{of_name}@{move.version}", []).append(alias)
    for each, manifest in store.manifests(listed):
        size = sum(entry.size for entry in manifest.files) / 1e6 if manifest is not None else 0
        user = manifest.producer.get("user", "unknown") if manifest is not None else "unreadable"
        notes = [*aliases.get(each.reference, []), *(["[retracted]"] if each.is_retracted else [])]
        typer.echo(f"{_time(each.at)}  {size:11,.1f} MB  {user:12}  {each.reference}  {' '.join(notes)}".rstrip())


@store_command
def show(
    reference: ReferenceArgument,
    dropped: Annotated[
        bool, typer.Option("--dropped", help="Of a corpus: what each step took out, and examples.")
    ] = False,
    fit: Annotated[
        bool, typer.Option("--fit", help="Of a vocabulary: how it fits held-out text, and which words it splits.")
    ] = False,
    card: Annotated[bool, typer.Option("--card", help="Of a dataset: what it holds, in numbers.")] = False,
    samples: Annotated[
        int | None, typer.Option("--samples", metavar="N", min=1, help="Of a dataset: some samples, as they are read.")
    ] = None,
) -> None:
    """An artifact's manifest: what it was made from and holds, where, and its scores."""
    from pipeline.store import open_store
    from pipeline.store.retraction import tombstone_of

    store = open_store()
    artifact = store.resolve(reference, retracted=True)
    if dropped:
        print_dropped(store, artifact)
        return
    if fit:
        print_fit(store, artifact)
        return
    if card:
        print_card(store, artifact)
        return
    if samples is not None:
        print_samples(store, artifact, samples)
        return
    manifest, version = store.manifest(artifact), store.version(str(artifact))
    sections = manifest.model_dump(mode="json", exclude={"files", "parents", "inputs"}, exclude_none=True)
    tables = {key: value for key, value in sections.items() if isinstance(value, dict) and value}
    plain = {key: value for key, value in sections.items() if not isinstance(value, dict)}
    plain["parents"] = [parent.reference for parent in manifest.parents]
    if version.is_retracted:
        plain["tombstone"] = str(tombstone_of(store, version))
    typer.echo(as_toml(plain | tables))
    for entry in manifest.files:
        rows = f"  {entry.rows:,} rows" if entry.rows is not None else ""
        typer.echo(f"{entry.size:12,}  {entry.sha256[:12]}  {entry.path}{rows}")


def print_dropped(store: "Store", corpus: "Artifact") -> None:
    """The funnel of a corpus and examples of what it left out, as two tables."""
    from pipeline.corpus.summary import example_rows, funnel_rows

    if corpus.kind != "corpus":
        raise ConfigError(f"{corpus} is a {corpus.kind}; --dropped is for a corpus.")
    print_table(funnel_rows(store.manifest(corpus).totals))
    typer.echo()
    print_table(example_rows(json.loads(store.file(corpus, "dropped.json").read_text(encoding="utf-8"))))


def print_fit(store: "Store", vocabulary: "Artifact") -> None:
    """A vocabulary's card, as two tables."""
    from pipeline.vocabulary.summary import fit_rows, text_rows

    if vocabulary.kind != "vocabulary":
        raise ConfigError(f"{vocabulary} is a {vocabulary.kind}; --fit is for a vocabulary.")
    print_table(fit_rows(store.manifest(vocabulary).metrics))
    if rows := text_rows(json.loads(store.file(vocabulary, "card.json").read_text(encoding="utf-8"))):
        typer.echo()
        print_table(rows)


def print_card(store: "Store", dataset: "Artifact") -> None:
    """A dataset's card, as a table."""
    from pipeline.dataset.summary import card_rows

    if dataset.kind != "dataset":
        raise ConfigError(f"{dataset} is a {dataset.kind}; --card is for a dataset.")
    print_table(card_rows(store.manifest(dataset).metrics))


def print_samples(store: "Store", dataset: "Artifact", count: int) -> None:
    """Samples of a dataset, one under the other."""
    from pipeline.dataset.showing import sample_texts

    if dataset.kind != "dataset":
        raise ConfigError(f"{dataset} is a {dataset.kind}; --samples is for a dataset.")
    for text in sample_texts(dataset, count, store):
        typer.echo(f"{text}\n")


@store_command
def batch(
    what: Annotated[
        str, typer.Argument(metavar="REF|PRESET", help="A training's artifact, or the preset of one that has none.")
    ],
    step: Annotated[int, typer.Option("--step", metavar="K", min=0, help="Which step, from 0.")],
    samples: Annotated[int, typer.Option("--samples", metavar="N", min=0, help="So many samples of it.")] = 5,
    overrides: SetOption = None,
    name: NameOption = None,
    dataset: Annotated[str | None, typer.Option(help="Another dataset than the preset's own, as a reference.")] = None,
) -> None:
    """What a training saw at a step: its samples, how they were dealt to ranks, and a digest of them."""
    from pipeline.pretraining.watching.seen import batch_texts, preset_batch_texts
    from pipeline.store import open_store

    store = open_store()
    if what.endswith(".toml") or what.partition("/")[0] not in STAGES:
        from pipeline.preset import load_preset
        from pipeline.stages import find_input

        preset = load_preset(what, overrides or (), name)
        taken = find_input("dataset", preset, store, {"dataset": dataset} if dataset else {})
        texts = preset_batch_texts(preset.pretraining, taken, step, samples, store)
    else:
        if overrides or name or dataset:
            raise ConfigError(f"--set, --name and --dataset are for a preset; {what} is an artifact. Leave them out.")
        artifact = store.resolve(what)
        if artifact.kind != "pretraining":
            raise ConfigError(f"{artifact} is a {artifact.kind}; bertmill batch is for a pretraining.")
        texts = batch_texts(artifact, step, samples, store)
    for text in texts:
        typer.echo(text)


@store_command
def du(by: Annotated[str, typer.Option(metavar="kind|name|user", help="Group by.")] = "kind") -> None:
    """What fills the store. `only here`: what would go if the group went; versions share bytes."""
    from pipeline.store import open_store
    from pipeline.store.usage import GROUPS, usage_of

    if by not in GROUPS:
        raise ConfigError(f"--by is {by!r}. {nearest(by, GROUPS)}")
    usage = usage_of(open_store(), by)
    width = max([len(each.group) for each in usage.groups] + [len("neither"), len(by)])
    typer.echo(f"{by:{width}}  versions            MB     only here")
    for each in usage.groups:
        typer.echo(f"{each.group:{width}}  {each.versions:8,}  {each.bytes / 1e6:12,.1f}  {each.own / 1e6:12,.1f}")
    typer.echo(f"{'all':{width}}  {usage.versions:8,}  {usage.bytes / 1e6:12,.1f}")
    typer.echo(f"{'neither':{width}}  {'':8}  {usage.other / 1e6:12,.1f}  parts, work in flight, or for gc to remove")


@store_command
def verify(
    reference: Annotated[str | None, typer.Argument(metavar="[REF]", help="Only this one.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read and hash all bytes.")] = False,
) -> None:
    """Check that artifacts are whole: manifests, parents, files, aliases. Exit status 1 where one isn't."""
    from pipeline.store import open_store
    from pipeline.store.verify import verify_store, verify_version

    store = open_store()
    if reference is None:
        problems, what = verify_store(store, deep=deep), store.url
    else:
        version = store.version(reference)
        problems, what = verify_version(store, version, deep=deep), version.reference
    for problem in problems:
        typer.echo(str(problem))
    if problems:
        typer.echo(
            f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'} in {what}. The stage that made an "
            f"artifact makes it again: `bertmill KIND PRESET --force`."
        )
        raise typer.Exit(FOUND_WRONG)
    typer.echo(f"{what} is whole{', every byte' if deep else ''}")


@store_command
def lineage(
    reference: ReferenceArgument,
    format: Annotated[str, typer.Option(metavar="tree|mermaid|json", help="How to write it.")] = "tree",
) -> None:
    """What an artifact was made from, back to its sources, and all that was made from it."""
    from pipeline.store import open_store
    from pipeline.store.lineage import as_mermaid, as_record, as_tree, lineage_of

    writers: dict[str, Callable[[Lineage], str]] = {
        "tree": as_tree,
        "mermaid": as_mermaid,
        "json": lambda found: json.dumps(as_record(found), indent=2, ensure_ascii=False),
    }
    if format not in writers:
        raise ConfigError(f"--format is {format!r}. {nearest(format, writers)}")
    store = open_store()
    typer.echo(writers[format](lineage_of(store, store.resolve(reference, retracted=True))))


@store_command
def tag(
    reference: ReferenceArgument,
    alias: Annotated[str, typer.Argument(help="Such as production.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the alias' history.")] = "",
    history: Annotated[bool, typer.Option("--history", help="Show the alias' moves instead.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Move it back to where it was before.")] = False,
) -> None:
    """Point an alias at an artifact. With --history or --rollback, REF is kind/name."""
    from pipeline.store import open_store
    from pipeline.store.artifact import parsed_reference

    store = open_store()
    if not (history or rollback):
        artifact = store.resolve(reference)
        store.aliases.tag(artifact, alias, reason)
        typer.echo(f"{artifact.kind}/{artifact.name}@{alias} -> {artifact.reference}")
        return
    if history and rollback:
        raise ConfigError("--history shows an alias' moves and --rollback makes one: give one of them.")
    kind, name, _ = parsed_reference(reference)
    if "@" in reference:
        raise UnknownReference(
            f"{reference!r} names a version, and an alias has its history at {kind}/{name}: give that. To go to the "
            f"version, give neither --history nor --rollback."
        )
    if alias not in (known := store.aliases.names(kind, name)):
        if not known:
            store.version(reference)  # which says so where there is no such name
        raise UnknownReference(f"{kind}/{name} has no alias {alias!r}. {nearest(alias, known)}")
    if rollback:
        move = store.aliases.rollback(kind, name, alias, reason)
        typer.echo(f"{kind}/{name}@{alias} -> {kind}/{name}@{move.version}")
        return
    for move in store.aliases.history(kind, name, alias):
        what = "back to" if move.rollback else "to"
        typer.echo(f"{move.seq:5}  {move.at[:19]}  {move.by:12}  {what} {move.version}  {move.reason}".rstrip())
    for seq in store.aliases.lost(kind, name, alias):
        typer.echo(f"{seq:5}  is lost: the record is missing or can't be read")


@store_command
def retract(
    reference: ReferenceArgument,
    reason: Annotated[str, typer.Option(help="Why: all that is left to tell.")],
) -> None:
    """Take a version back: it is never found or used again. `gc --purge --delete` erases its bytes."""
    from pipeline.store import open_store
    from pipeline.store.aliases import LATEST
    from pipeline.store.retraction import retract as retract_version

    store = open_store()
    version = store.version(reference)
    aliases = retract_version(store, version, reason)
    typer.echo(f"{version.reference} is retracted")
    for alias in aliases:
        then = (
            "the next version moves it" if alias == LATEST else f"`bertmill tag REF {alias}`, or --rollback, moves it"
        )
        typer.echo(f"{version.kind}/{version.name}@{alias} leads nowhere now: {then}")
    typer.echo(f"`bertmill lineage {version.reference}` shows what was made from it")


@store_command
def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Remove what is found; without it, nothing is.")] = False,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Sweep versions that are not among the last KEEP of an alias.")
    ] = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Erase, at once, all that no version needs that wasn't retracted.")
    ] = False,
    abandoned_days: Annotated[
        float, typer.Option(min=0, help="Days after which unfinished work counts as given up.")
    ] = 30,
) -> None:
    """Find what nothing needs any more and, with --delete, remove it."""
    from pipeline.store import open_store
    from pipeline.store.gc import collect

    store = open_store()
    found = collect(store, keep=keep, purge=purge, delete=delete, abandoned_days=abandoned_days, waiting=_tell_waiting)
    print_collected(found, removed=delete)
    if not purge:
        typer.echo(f"What was written in the last {store.settings.store_grace_days:g} days is left alone.")
    if not delete:
        typer.echo("Nothing was removed: this was a look. Add --delete.")
    if found.broken:
        raise typer.Exit(FOUND_WRONG)


def print_collected(found: "Collected", *, removed: bool) -> None:
    """A line for each sort of thing, and the first few names of those that a person may know."""
    if found.versions:
        typer.echo(f"{'Swept' if removed else 'To be swept'}; their bytes go when that is past the grace period:")
        for reference in found.versions[:SHOWN]:
            typer.echo(f"  {reference}")
        if len(found.versions) > SHOWN:
            typer.echo(f"  … and {len(found.versions) - SHOWN:,} more")
    counted = {
        "blobs": found.blobs,
        "parts": found.parts,
        "work in flight": found.work,
        "lineage marks": found.marks,
        "unfinished uploads": found.uploads,
    }
    typer.echo("Removed:" if removed else "To be removed:")
    for what, objects in counted.items():
        typer.echo(f"  {what:18}  {len(objects):9,}  {sum(each.size for each in objects) / 1e6:12,.1f} MB")
    typer.echo(f"Needed: {found.kept_bytes / 1e6:,.1f} MB.")
    for reference in found.shared:
        typer.echo(f"{reference} has bytes of a retracted version too, so they stay: retract it, if they are to go.")
    for reference in found.broken:
        typer.echo(f"{reference} was published meanwhile and lost a file: run its stage again.")


def _tell_waiting(holder: "Holder") -> None:
    typer.echo(f"waiting for {holder}, which collects", err=True)


@store_command
def export(reference: ReferenceArgument, folder: Annotated[Path, typer.Argument(help="New or empty.")]) -> None:
    """Copy an artifact into a folder; of a pretraining, its Hugging Face folder."""
    from pipeline.store import open_store

    store = open_store()
    artifact = store.resolve(reference)
    store.export(artifact, folder)
    typer.echo(f"{artifact.reference} -> {folder}")


@store_command
def doctor() -> None:
    """Try what the store promises, on the store itself. Exit status 1 where something is bad."""
    from pipeline.store import open_store
    from pipeline.store.doctor import BAD, examine_store

    bad = False
    for finding in examine_store(open_store(Settings.from_environment())):
        bad = bad or finding.state == BAD
        typer.echo(f"{finding.state:4}  {finding.what:12}  {finding.told}")
    if bad:
        raise typer.Exit(FOUND_WRONG)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")[:19]
