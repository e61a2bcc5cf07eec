"""Aliases: names that move, with all their moves kept.

    aliases/<kind>/<name>/<alias>/<seq>.json    create-only; the highest is current

A move is one more record, so of many that move an alias at once each is in the history, and the last one holds. Costs
a listing of the alias and one small read to follow it.
"""

import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pipeline.errors import CorruptArtifact, UnknownReference
from pipeline.store.artifact import Artifact, canonical_json, parsed_reference, user_name
from pipeline.store.keys import alias_key
from pipeline.store.parallel import in_parallel

if TYPE_CHECKING:
    from pipeline.store.store import Store

LATEST = "latest"


@dataclass(frozen=True)
class Move:
    """One record of an alias' history."""

    seq: int
    """From 1, without gaps."""
    version: str
    reason: str
    at: str
    """UTC, ISO 8601."""
    by: str
    """The user's name."""
    rollback: bool = False
    """It goes back to where the alias was before."""


class Aliases:
    """The aliases of a store."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._backend = store.backend

    def names(self, kind: str, name: str) -> list[str]:
        """The aliases that kind/name has."""
        return sorted({each.key.split("/")[3] for each in self._backend.list(f"aliases/{kind}/{name}/")})

    def current(self, kind: str, name: str, alias: str) -> Move | None:
        """Where the alias points now; None where there is no such alias."""
        seqs = self._seqs(kind, name, alias)
        return self._read(kind, name, alias, seqs[-1]) if seqs else None

    def history(self, kind: str, name: str, alias: str) -> list[Move]:
        """Its moves, oldest first: all that can be read, and no other can have its number."""
        moves = in_parallel(lambda seq: self._readable(kind, name, alias, seq), self._seqs(kind, name, alias))
        return [move for move in moves if move is not None]

    def lost(self, kind: str, name: str, alias: str) -> list[int]:
        """The numbers of moves that are missing from the history, or can't be read."""
        last = max(self._seqs(kind, name, alias), default=0)
        return sorted({*range(1, last + 1)} - {move.seq for move in self.history(kind, name, alias)})

    def tag(self, artifact: Artifact, alias: str, reason: str = "") -> None:
        """Point `alias` at the artifact."""
        parsed_reference(f"{artifact.kind}/{artifact.name}@{alias}")
        if all(character in "0123456789abcdef-" for character in alias):
            raise UnknownReference(f"The alias {alias!r} looks like a version. Give it a name, such as production.")
        self._move(artifact.kind, artifact.name, alias, reason, lambda _: artifact.version)

    def move_latest(self, artifact: Artifact, created_at: str, reason: str) -> None:
        """Point `latest` at an artifact that was created then, unless it has been there, or is at a newer one."""
        kind, name = artifact.kind, artifact.name

        def target(current: Move | None) -> str | None:
            if current is not None:
                if current.version == artifact.version:
                    return None
                there = self._store.read_manifest(kind, name, current.version)
                if there is not None and there[0].created_at >= created_at:
                    return None
            # One that it has left again, by a rollback, isn't gone back to by being found.
            been = {move.version for move in self.history(kind, name, LATEST)}
            return None if artifact.version in been else artifact.version

        self._move(kind, name, LATEST, reason, target)

    def rollback(self, kind: str, name: str, alias: str, reason: str = "") -> Move:
        """Point the alias at where it was before its last move; again, at the one before that.

        Versions that were retracted since are passed over. UnknownReference where there is nothing to go back to.
        """
        retracted = {each.version for each in self._store.listing(kind, name) if each.is_retracted}

        def target(_: Move | None) -> str:
            before = [
                version for version in _standing(self.history(kind, name, alias))[:-1] if version not in retracted
            ]
            if not before:
                raise UnknownReference(
                    f"{kind}/{name}@{alias} was at no other version before that is left. `bertmill tag {kind}/{name} "
                    f"{alias} --history` shows its moves."
                )
            return before[-1]

        move = self._move(kind, name, alias, reason, target, rollback=True)
        assert move is not None, "the target is never None"
        return move

    def _move(
        self,
        kind: str,
        name: str,
        alias: str,
        reason: str,
        target: Callable[[Move | None], str | None],
        *,
        rollback: bool = False,
    ) -> Move | None:
        """Append a move to what `target` chooses in view of the current one, anew where another was faster.

        A current one that can't be read counts as none: the alias is pointed anew.
        """
        self._store.check_before_commit()
        while True:
            seqs = self._seqs(kind, name, alias)
            current = self._readable(kind, name, alias, seqs[-1]) if seqs else None
            if (version := target(current)) is None:
                return None
            at = datetime.now(UTC).isoformat(timespec="microseconds")
            move = Move(seqs[-1] + 1 if seqs else 1, version, reason, at, user_name(), rollback)
            body = asdict(move) | {"nonce": secrets.token_hex(8)}
            if self._backend.create(alias_key(kind, name, alias, move.seq), canonical_json(body)):
                return move

    def _seqs(self, kind: str, name: str, alias: str) -> list[int]:
        stems = [PurePosixPath(each.key).stem for each in self._backend.list(f"aliases/{kind}/{name}/{alias}/")]
        return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit())

    def _readable(self, kind: str, name: str, alias: str, seq: int) -> Move | None:
        with suppress(CorruptArtifact):
            return self._read(kind, name, alias, seq)
        return None

    def _read(self, kind: str, name: str, alias: str, seq: int) -> Move:
        key = alias_key(kind, name, alias, seq)
        try:
            body = json.loads(self._backend.get(key) or b"")
            move = Move(seq, body["version"], body["reason"], body["at"], body["by"], bool(body["rollback"]))
            parsed_reference(f"{kind}/{name}@{move.version}")
        except (ValueError, KeyError, TypeError, UnknownReference):
            raise CorruptArtifact(
                f"The alias record {key} can't be read. Point the alias anew: `bertmill tag REF {alias}`."
            ) from None
        return move


def _standing(history: list[Move]) -> list[str]:
    """Where the alias was, without what was rolled back: a rollback takes away what came after its version."""
    versions: list[str] = []
    for move in history:
        if move.rollback and move.version in versions:
            while versions[-1] != move.version:
                versions.pop()
        elif not versions or versions[-1] != move.version:
            versions.append(move.version)
    return versions
