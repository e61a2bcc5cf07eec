"""Leases: of two runs of one recipe, one works and the other waits. They save work; correctness never rests on them.

    work/<kind>/<fingerprint>/<epoch>/lease.json       create-only: who owns the epoch
    work/<kind>/<fingerprint>/<epoch>/heartbeat.json   overwritten by the owner, four times in `lease_s`

Taking over is creating the next epoch, so of many that try one succeeds, and the highest epoch is the owner's. A lease
is held while its heartbeat is young by the store's own clock (no machine's clock is trusted) and says nothing of a
release. One whose process this machine can see to be dead is free at once: a killed run is run again without waiting.
An owner whose lease has gone, or who sees a higher epoch, has lost it, and stops. One who can't reach the store, or not
write there, goes on and says so: it may have been taken for dead, but then nothing that it does harms the other, for
its epoch is its own. Costs the owner a listing, a small read and a small write each quarter of `lease_s`; a waiting run
a listing, two small reads and a look at a date each poll.
"""

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pipeline.errors import LeaseLost, StoreError
from pipeline.store.artifact import canonical_json, user_name
from pipeline.store.work import Work, epoch_folder, epoch_of

if TYPE_CHECKING:
    from pipeline.store.store import Store

POLL_S = 0.5
LONGEST_POLL_S = 2.0
PATIENCE_S = 2.0
"""How long `check` waits for an overdue heartbeat (this process may just have been woken) before it goes on without."""
LEASE, HEARTBEAT = "lease.json", "heartbeat.json"
log = logging.getLogger("bertmill")


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, and how far it has come."""

    epoch: int
    nonce: str
    host: str
    pid: int
    process_start: str | None
    """When the process started, in the kernel's own count: a pid may be used again."""
    boot_id: str | None
    """Of the machine's boot and the process' namespace, in which alone its pid means something."""
    user: str
    at: str
    note: dict[str, Any] = field(default_factory=dict)
    """What the owner last told with `Lease.note`."""
    age_s: float = 0.0
    """Seconds since its last heartbeat."""
    released: bool = False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.user}, since {self.at})"

    @property
    def is_dead(self) -> bool:
        """Whether this machine can see that the process is gone: it was of this boot, and is there no more."""
        here = (socket.gethostname(), _boot_id())
        return (self.host, self.boot_id) == here and not _is_alive(self.pid, self.process_start)


class Lease:
    """A context in which this process is the one that works on something."""

    def __init__(self, store: "Store", root: str, what: str, waiting: Callable[[Holder], None] | None = None) -> None:
        """On the work under the key `root`, which messages call `what`; `waiting` is told at each poll who has it."""
        self.epoch = 0
        """The epoch that is ours; given on entering."""
        self._store, self._root, self._what, self._waiting = store, root, what, waiting
        self._backend = store.backend
        self._lease_s = store.settings.lease_s
        self._nonce = secrets.token_hex(16)
        self._note: dict[str, Any] = {}
        self._lost: str | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="lease-heartbeat", daemon=True)
        self._written = 0.0
        self._trouble = ""
        """Why the last heartbeat couldn't be written; empty where it was, or where no answer has come yet."""
        self._is_silent = False

    def __enter__(self) -> Self:
        """Wait until nobody else holds it, and take it."""
        self._store.check_before_commit()
        pause = POLL_S
        while not self._take():
            time.sleep(pause)
            pause = min(pause * 1.2, LONGEST_POLL_S)
        self._written = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the next one have it. What can't be told to the store now, its age will tell."""
        self._stop()
        with suppress(StoreError):
            if self._lost is None and self._is_ours():
                self._write_heartbeat(released=True)

    def note(self, note: dict[str, Any]) -> None:
        """What the next heartbeat tells those who wait, such as `{"step": 300, "of": 1000}`."""
        self._note = dict(note)

    def check(self) -> None:
        """LeaseLost where another run was seen to have taken over. Cheap: the heartbeat's thread finds out.

        Warns once where that thread can't write, until it can: whether another has taken over isn't known then.
        """
        deadline = time.monotonic() + (0 if self._is_silent else PATIENCE_S)
        while self._lost is None and self._is_overdue() and time.monotonic() < deadline:
            time.sleep(0.05)
        if self._lost is not None:
            raise LeaseLost(self._lost)
        if self._is_silent != (is_silent := self._is_overdue()):
            self._is_silent = is_silent
            log.warning(self._unwritten() if is_silent else self._written_again())

    def confirm(self) -> None:
        """The same, asked of the store now: before the work is published. StoreError where it doesn't answer."""
        self._beat()
        self.check()

    def finish(self) -> None:
        """The work is done and published: forget it, with all epochs up to ours. A higher one is another's."""
        self._stop()
        Work(self._store, self._root, self.epoch).clear()
        self._remove_leases(up_to=self.epoch)

    # Taking it

    def _take(self) -> bool:
        """Whether it is ours now; tells `waiting` whose it is where it isn't."""
        holder, highest = self._look()
        if holder is not None and not (holder.released or holder.age_s > self._lease_s or holder.is_dead):
            if self._waiting is not None:
                self._waiting(holder)
            return False
        epoch = highest + 1
        if not self._backend.create(self._key(epoch, LEASE), canonical_json(_ourselves(epoch, self._nonce))):
            return False
        if max(self._epochs(), default=0) != epoch:  # we looked long ago: others have come and gone on, or finished
            self._backend.delete(self._key(epoch, LEASE))
            return False
        if holder is not None and not holder.released:
            log.info("took over from %s, whose last heartbeat is %.0f s old", holder, holder.age_s)
        self.epoch = epoch
        self._remove_leases(up_to=epoch - 1)
        return True

    def _look(self) -> tuple[Holder | None, int]:
        """The highest lease's holder, and the highest epoch that has anything at all."""
        epochs = self._epochs()
        for epoch in sorted((each for each, names in epochs.items() if LEASE in names), reverse=True):
            if (holder := self._holder(epoch)) is not None:
                return holder, max(epochs)
        return None, max(epochs, default=0)

    def _holder(self, epoch: int) -> Holder | None:
        """None where the lease isn't there, or went while we looked."""
        data = self._backend.get(self._key(epoch, LEASE))
        if data is None:
            return None
        try:
            holder = Holder(**(_parsed(data) | {"epoch": epoch}))
        except TypeError:
            holder = Holder(epoch, "", "an unknown machine", 0, None, "", "unknown", "an unknown time")
        beat = _parsed(self._backend.get(self._key(epoch, HEARTBEAT)))
        theirs = beat.get("nonce") == holder.nonce
        age_s = self._backend.age(self._key(epoch, HEARTBEAT if theirs else LEASE))
        if age_s is None:
            return None
        holder = replace(holder, age_s=age_s)
        return replace(holder, released=bool(beat.get("released")), note=beat.get("note") or {}) if theirs else holder

    def _epochs(self) -> dict[int, set[str]]:
        """What stands directly in each epoch's folder."""
        epochs: dict[int, set[str]] = {}
        for each in self._backend.list(self._root):
            if (epoch := epoch_of(self._root, each.key)) is not None:
                epochs.setdefault(epoch, set()).add(each.key[len(self._root) :].split("/")[1])
        return epochs

    # Keeping it

    def _beat_on(self) -> None:
        while self._lost is None:
            try:
                self._beat()
            except Exception as error:  # whatever it is: the next beat may succeed, and `check` tells when none does
                self._trouble = str(error)
            if self._stopped.wait(self._lease_s / 4):
                return

    def _beat(self) -> None:
        began = time.monotonic()
        if not self._is_ours():
            self._lost = self._taken()
        elif not self._stopped.is_set():
            self._write_heartbeat(released=False)
            self._written, self._trouble = began, ""

    def _is_ours(self) -> bool:
        """Our lease is there, and none is higher."""
        higher = [epoch for epoch, names in self._epochs().items() if epoch > self.epoch and LEASE in names]
        mine = _parsed(self._backend.get(self._key(self.epoch, LEASE)))
        return not higher and mine.get("nonce") == self._nonce

    def _write_heartbeat(self, *, released: bool) -> None:
        body = {"nonce": self._nonce, "note": self._note, "released": released}
        self._backend.put(self._key(self.epoch, HEARTBEAT), canonical_json(body))

    def _is_overdue(self) -> bool:
        return time.monotonic() - self._written > self._lease_s and not self._stopped.is_set()

    def _stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE_S)

    def _taken(self) -> str:
        holder, _ = self._look()
        who = f"by {holder}" if holder is not None and holder.epoch > self.epoch else "by a run that has ended since,"
        return (
            f"The work on {self._what} was taken over {who} because this run's heartbeat stopped for more than "
            f"{self._lease_s:g} s. This run stops; the checkpoints are kept. Run again to wait for the other's result."
        )

    def _unwritten(self) -> str:
        return (
            f"The store {self._store.url} couldn't be told for more than {self._lease_s:g} s that this run works on "
            f"{self._what}: {self._trouble or 'it gives no answer.'} This run goes on, and stops where it finds that "
            f"another has taken over meanwhile."
        )

    def _written_again(self) -> str:
        return f"The store {self._store.url} could be told again that this run works on {self._what}."

    # Keys

    def _remove_leases(self, up_to: int) -> None:
        """From the lowest, so that what a kill leaves still shows the newest owner."""
        for epoch, names in sorted(self._epochs().items()):
            for name in (HEARTBEAT, LEASE):
                if epoch <= up_to and name in names:
                    self._backend.delete(self._key(epoch, name))

    def _key(self, epoch: int, name: str) -> str:
        return f"{epoch_folder(self._root, epoch)}{name}"


def _ourselves(epoch: int, nonce: str) -> dict[str, Any]:
    """What a lease says of its owner: no more than others need to tell who it is and whether it lives."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    holder = Holder(epoch, nonce, socket.gethostname(), os.getpid(), _started(os.getpid()), _boot_id(), user_name(), at)
    return {name: value for name, value in asdict(holder).items() if name not in {"note", "age_s", "released"}}


def _boot_id() -> str | None:
    """The boot of this machine, and the namespace of its pids: containers of one host may share all but that."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When the process started, in ticks since boot; None where there is no such process, or only its zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()  # the name, in brackets, may hold blanks and brackets
    return None if state in {"Z", "X"} else fields[18]


def _is_alive(pid: int, started: str | None) -> bool:
    if started is not None:
        return _started(pid) == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _parsed(data: bytes | None) -> dict[str, Any]:
    """A small record; empty where there is none, or none that can be read."""
    try:
        body = json.loads(data or b"")
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
