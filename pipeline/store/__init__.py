"""Versioned artifacts in object storage: the manifest decides."""

from pipeline.store.artifact import Artifact, FileEntry, Input, Manifest, Recipe
from pipeline.store.draft import Draft, Part, PartDraft
from pipeline.store.lease import Holder, Lease
from pipeline.store.store import Store, open_store
from pipeline.store.work import Work

__all__ = [
    "Artifact",
    "Draft",
    "FileEntry",
    "Holder",
    "Input",
    "Lease",
    "Manifest",
    "Part",
    "PartDraft",
    "Recipe",
    "Store",
    "Work",
    "open_store",
]
