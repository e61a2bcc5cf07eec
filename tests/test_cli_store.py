"""The commands that look at the store and care for it, as their users meet them: what each answers, and how it ends."""

import getpass
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli_store import app
from pipeline.config import VocabularyConfig
from pipeline.corpus.ingest import ingest_corpus
from pipeline.errors import BertmillError
from pipeline.store import Artifact, Input, Store, doctor
from pipeline.store.keys import alias_key
from pipeline.store.local import sha256_of
from pipeline.store.retraction import retract
from pipeline.vocabulary.build import build_vocabulary
from tests.artifacts import commit, keys, recipe
from tests.conftest import free_port
from tests.damage import damage_blob, entry_of
from tests.small import small_home
from tests.texts import corpus, lines, rows, source, write
from tests.users import User, check_refused

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
MEGABYTE = {"vocab.txt": "m" * 1_000_000}


@pytest.fixture(autouse=True)
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command finds the store that the test has, and writes lines of one length."""
    for name in {"store", "any_store"} & set(request.fixturenames):
        monkeypatch.setenv("BERTMILL_STORE", request.getfixturevalue(name).url)
    monkeypatch.setenv("COLUMNS", "100")


def answer(*words: object, status: int = 0) -> list[str]:
    """The lines that the command answers with; it ends with that status."""
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done.stdout.splitlines()


def refusal(*words: object) -> str:
    """The sentence that the command fails with."""
    with pytest.raises(BertmillError) as error:
        answer(*words)
    return str(error.value)


def take_back(store: Store, artifact: Artifact) -> None:
    retract(store, store.version(str(artifact)), "licence withdrawn")


# Look


def test_ls_lists_artifacts_oldest_first_and_only_those_asked_for(store: Store) -> None:
    assert answer("ls") == []
    made = [commit(store, recipe(number, name)) for number, name in enumerate(("small", "large", "small"))]
    take_back(store, made[0])
    listed = answer("ls")
    assert [line.split()[1] for line in listed] == [str(each) for each in made]
    assert re.fullmatch(TIME, listed[0].split()[0])
    assert [line.endswith("  [retracted]") for line in listed] == [True, False, False]
    asked = {what: len(answer("ls", what)) for what in ("vocabulary", "vocabulary/small", "vocabulary/sma", "corpus")}
    assert asked == {"vocabulary": 3, "vocabulary/small": 2, "vocabulary/sma": 0, "corpus": 0}
    assert refusal("ls", "vocabluary") == "There is no kind 'vocabluary'. Did you mean 'vocabulary'?"


def test_ls_long_tells_sizes_users_and_aliases_too(store: Store) -> None:
    first, second, third = (commit(store, recipe(number), MEGABYTE) for number in range(3))
    for alias in ("production", "tested"):
        store.aliases.tag(first, alias)
    take_back(store, second)
    store.backend.put(f"artifacts/vocabulary/small/{third.version}/manifest.json", b"{")
    user = f"{getpass.getuser():12}"
    assert [re.sub(TIME, "T", line) for line in answer("ls", "--long")] == [
        f"T          1.0 MB  {user}  {first}  production tested",
        f"T          1.0 MB  {user}  {second}  [retracted]",
        f"T          0.0 MB  unreadable    {third}  latest",
    ]


def test_show_tells_what_an_artifact_was_made_from_and_each_file_it_holds(store: Store, tmp_path: Path) -> None:
    parents = tuple(commit(store, recipe(number)) for number in range(2))
    (tmp_path / "a.arrow").write_text("a" * 1_234)
    with store.draft(recipe(2, parents=parents)) as draft:
        draft.add("train/a.arrow", tmp_path / "a.arrow", rows=5_678)
        draft.add("b.txt", tmp_path / "a.arrow")
        made = draft.commit(totals={"words": 7})
    shown = answer("show", "vocabulary/small")
    assert f'version = "{made.version}"' in shown
    assert f'parents = ["{parents[0]}", "{parents[1]}"]' in shown
    assert "size = 18" in shown
    assert not [line for line in shown if line.startswith("tombstone")]
    sha256 = entry_of(store, made, "b.txt").sha256[:12]
    assert shown[-2:] == [f"       1,234  {sha256}  b.txt", f"       1,234  {sha256}  train/a.arrow  5,678 rows"]


def test_show_dropped_tells_what_each_step_of_a_corpus_took_out_with_examples(store: Store, tmp_path: Path) -> None:
    given = [
        *rows(30),
        {"id": "again", "text": "The [b]mill[/b]"},
        {"id": "more", "text": "the  [b]mill[/b]"},
        {"id": "e", "text": " "},
    ]
    path = write(tmp_path / "a.jsonl", lines(given) + "{\n")
    made = ingest_corpus(corpus(source(path), max_bad_share=0.1), store=store)
    shown = [re.split(r"  +", line.strip()) for line in answer("show", made, "--dropped")]
    assert ["read", "33 of 34", "1 not JSON"] in shown
    assert ["length", "32 of 33", "1 too short"] in shown
    assert ["deduplication", "31 of 32", "1 duplicate text"] in shown
    assert ["not JSON", "mine/a.jsonl line 34"] in shown
    assert ["duplicate text", "mine/more", "the [b]mill[/b]"] in shown
    vocabulary = commit(store, recipe())
    assert refusal("show", vocabulary, "--dropped") == f"{vocabulary} is a vocabulary; --dropped is for a corpus."


def test_show_fit_tells_how_a_vocabulary_fits_heldout_text_and_which_words_it_splits(
    store: Store, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl", lines(rows(60)))
    made = ingest_corpus(corpus(source(path), heldout_share=0.3), store=store)
    vocabulary = build_vocabulary(VocabularyConfig(name="mine", size=60), made, store=store)
    shown = [re.split(r"  +", line.strip()) for line in answer("show", vocabulary, "--fit")]
    assert shown[0] == ["measure", "this"]
    assert ["entries", "60"] in shown
    assert ["unknown tokens", "0.0000%"] in shown
    (split,) = (line for line in shown if line[:2] == ["split word", "number"])
    assert len(split[2].split()) > 1
    assert split[2].replace(" ##", "") == "number"
    assert refusal("show", made, "--fit") == f"{made} is a corpus; --fit is for a vocabulary."


def test_show_samples_and_card_tell_what_a_dataset_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = small_home(tmp_path / "home")
    monkeypatch.setenv("BERTMILL_STORE", small.store.url)
    shown = answer("show", small.dataset, "--samples", 3)
    assert sum(line.startswith("sample ") for line in shown) == 3
    assert sum(line.startswith("  A  [CLS] ") for line in shown) == 3
    assert any("[MASK]←" in line for line in shown)
    card = [re.split(r"  +", line.strip()) for line in answer("show", small.dataset, "--card")]
    assert card[0] == ["measure", "train", "held-out"]
    assert ["tokens of source small", "100.00%", "100.00%"] in card
    for option in ("--card", "--samples=1"):
        sentence = f"{small.corpus} is a corpus; {option.partition('=')[0]} is for a dataset."
        assert refusal("show", small.corpus, option) == sentence
    assert refusal("batch", small.dataset, "--step", 0) == (
        f"{small.dataset} is a dataset; bertmill batch is for a pretraining."
    )
    head, known, dealt, *_ = answer("batch", "tiny", "--step", 3, "--dataset", small.dataset, "--samples", 1)
    assert head.startswith(f"step 3 of {small.dataset}: 32 samples, ")
    assert known == "  no run of it is known here: dealt as to one rank, on a CPU"
    assert dealt.startswith("  rank 0, micro-batch 0: ")
    assert refusal("batch", "pretraining/tiny", "--step", 0, "--dataset", small.dataset) == (
        "--set, --name and --dataset are for a preset; pretraining/tiny is an artifact. Leave them out."
    )


def test_show_of_a_retracted_version_tells_who_took_it_back_and_why(store: Store) -> None:
    take_back(store, made := commit(store, recipe()))
    shown = answer("show", made)
    (stone,) = [line for line in shown if line.startswith("tombstone")]
    when, who = r"\d{4}-\d\d-\d\d \d\d:\d\d", getpass.getuser()
    told = f'tombstone = "was retracted on {when} by {who}: licence withdrawn"'
    assert re.fullmatch(told, stone)
    assert f'version = "{made.version}"' in shown


def test_du_tells_each_groups_bytes_and_what_it_has_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    commit(store, recipe(0), MEGABYTE)
    monkeypatch.setenv("LOGNAME", "grace-hopper")
    commit(store, recipe(1, "other"), MEGABYTE | {"own.txt": "o" * 500_000})
    take_back(store, commit(store, recipe(2), {"gone.txt": "g" * 200_000}))
    assert answer("du") == [
        "kind        versions            MB     only here",
        "vocabulary         2           1.5           1.5",
        "all                2           1.5",
        "neither                        0.2  parts, work in flight, or for gc to remove",
    ]
    assert answer("du", "--by", "name")[:3] == [
        "name              versions            MB     only here",
        "vocabulary/other         1           1.5           0.5",
        "vocabulary/small         1           1.0           0.0",
    ]
    assert [line.split() for line in answer("du", "--by", "user")[1:3]] == [
        ["grace-hopper", "1", "1.5", "0.5"],
        ["ada", "1", "1.0", "0.0"],
    ]
    assert refusal("du", "--by", "nmae") == "--by is 'nmae'. Did you mean 'name'?"


def test_verify_ends_with_1_and_a_line_for_each_problem(store: Store) -> None:
    made, other = commit(store, recipe()), commit(store, recipe(1), {"other.txt": "other"})
    assert answer("verify") == [f"{store.url} is whole"]
    damage_blob(store, entry_of(store, made), "truncated")
    store.backend.delete(alias_key("vocabulary", "small", "latest", 1))
    assert answer("verify", status=1) == [
        f"vocab.txt of {made} has 10 bytes, not 11",
        "vocabulary/small@latest has lost move 1 of its history: it is missing or can't be read",
        f"2 problems in {store.url}. The stage that made an artifact makes it again: `bertmill KIND PRESET --force`.",
    ]
    assert answer("verify", made, status=1)[1].startswith(f"1 problem in {made}. ")
    assert answer("verify", other) == [f"{other} is whole"]


def test_verify_deep_reads_every_byte(store: Store) -> None:
    made = commit(store, recipe())
    assert answer("verify", "--deep") == [f"{store.url} is whole, every byte"]
    damage_blob(store, entry_of(store, made), "corrupt")
    assert answer("verify", "vocabulary/small") == [f"{made} is whole"]
    told = answer("verify", "vocabulary/small", "--deep", status=1)
    assert re.match(f"vocab.txt of {made} is corrupt: its sha256 is [0-9a-f]{{12}}…$", told[0])


def test_lineage_is_a_tree_a_flowchart_or_json(store: Store) -> None:
    parent = commit(store, recipe(inputs=(Input("流過.txt", 1_000_000, "0" * 64),)))
    child = commit(store, recipe(1, "child", parents=(parent,)))
    assert answer("lineage", "vocabulary/child") == [
        f"{child}",
        "",
        "made from:",
        f"└─ {parent}",
        "   └─ 1 source file, 1.0 MB: 流過.txt",
        "",
        "made into: nothing",
    ]
    assert answer("lineage", child, "--format", "mermaid")[0] == "flowchart LR"
    record = json.loads("\n".join(answer("lineage", parent, "--format", "json")))
    assert record["edges"] == [{"parent": str(parent), "child": str(child)}]
    assert record["sources"][str(parent)]["names"] == ["流過.txt"]
    take_back(store, parent)
    assert answer("lineage", parent)[0] == f"{parent} [retracted]", "of what was taken back it is asked most"
    assert refusal("lineage", child, "--format", "jsn") == "--format is 'jsn'. Did you mean 'json'?"


# Aliases


def test_tag_points_an_alias_at_an_artifact_and_keeps_the_reason(store: Store) -> None:
    made = commit(store, recipe())
    (told,) = answer("tag", "vocabulary/small", "production", "--reason", "read by two people")
    assert told == f"vocabulary/small@production -> {made}"
    assert store.resolve("vocabulary/small@production") == made
    (move,) = store.aliases.history("vocabulary", "small", "production")
    assert move.reason == "read by two people"


def test_an_alias_tells_its_moves_and_goes_back_along_them(store: Store) -> None:
    first, second = (commit(store, recipe(number)) for number in range(2))
    answer("tag", first, "production", "--reason", "read by two people")
    answer("tag", second, "production")
    (told,) = answer("tag", "vocabulary/small", "production", "--rollback", "--reason", "it can't spell")
    assert told == f"vocabulary/small@production -> {first}"
    user = f"{getpass.getuser():12}"
    assert [re.sub(TIME, "T", line) for line in answer("tag", "vocabulary/small", "production", "--history")] == [
        f"    1  T  {user}  to {first.version}  read by two people",
        f"    2  T  {user}  to {second.version}",
        f"    3  T  {user}  back to {first.version}  it can't spell",
    ]
    store.backend.put(alias_key("vocabulary", "small", "production", 2), b"{")
    assert answer("tag", "vocabulary/small", "production", "--history")[-1] == (
        "    2  is lost: the record is missing or can't be read"
    )
    assert "was at no other version before that is left" in refusal(
        "tag", "vocabulary/small", "production", "--rollback"
    )


@pytest.mark.parametrize("what", ["--history", "--rollback"])
def test_of_an_alias_that_is_not_there_it_is_said_what_is(store: Store, what: str) -> None:
    made = commit(store, recipe())
    asked = "vocabulary/small"
    assert refusal("tag", asked, "prod", what) == f"{asked} has no alias 'prod'. Known: latest."
    assert refusal("tag", asked, "lates", what) == f"{asked} has no alias 'lates'. Did you mean 'latest'?"
    assert "has no vocabulary/smal. Did you mean 'vocabulary/small'?" in refusal(
        "tag", "vocabulary/smal", "latest", what
    )
    assert refusal("tag", made, "latest", what).startswith(f"'{made}' names a version, and an alias has its history at")
    assert "give one of them" in refusal("tag", asked, "latest", "--history", "--rollback")
    assert len(keys(store, "aliases/")) == 1


# Take back and collect


def test_retract_tells_which_aliases_lead_nowhere_now_and_where_to_look_on(store: Store) -> None:
    first, second = (commit(store, recipe(number)) for number in range(2))
    store.aliases.tag(first, "production")
    assert answer("retract", first, "--reason", "licence withdrawn") == [
        f"{first} is retracted",
        "vocabulary/small@production leads nowhere now: `bertmill tag REF production`, or --rollback, moves it",
        f"`bertmill lineage {first}` shows what was made from it",
    ]
    assert answer("retract", "vocabulary/small", "--reason", "licence withdrawn")[1] == (
        "vocabulary/small@latest leads nowhere now: the next version moves it"
    )
    assert store.version(str(second)).is_retracted


def test_retract_needs_a_reason(store: Store) -> None:
    made = commit(store, recipe())
    assert answer("retract", made, status=2) == []
    assert refusal("retract", made, "--reason", " ").startswith("A retraction needs a reason: it is all that is left")
    assert not store.version(str(made)).is_retracted


def test_gc_looks_and_with_delete_removes(any_store: Store) -> None:
    commit(any_store, recipe(), MEGABYTE)
    take_back(any_store, commit(any_store, recipe(1), {"gone.txt": "g" * 500_000}))
    left_alone = "What was written in the last 7 days is left alone."
    before = keys(any_store)
    assert answer("gc") == [
        "To be removed:",
        "  blobs                       0           0.0 MB",
        "  parts                       0           0.0 MB",
        "  work in flight              0           0.0 MB",
        "  lineage marks               0           0.0 MB",
        "  unfinished uploads          0           0.0 MB",
        "Needed: 1.0 MB.",
        left_alone,
        "Nothing was removed: this was a look. Add --delete.",
    ]
    deleted = answer("gc", "--delete")
    assert (deleted[0], deleted[-1]) == ("Removed:", left_alone)
    assert [key for key in keys(any_store) if not key.startswith("work/gc/")] == before
    purged = answer("gc", "--purge", "--delete")
    assert purged[1] == "  blobs                       1           0.5 MB"
    assert left_alone not in purged
    assert len(keys(any_store, "blobs/")) == 1


def test_gc_keeps_one_version_of_an_alias_at_least(store: Store) -> None:
    assert answer("gc", "--keep", "0", status=2) == []


def test_doctor_has_a_line_for_each_trial_and_ends_with_1_where_something_is_bad(
    any_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "PROBE_BYTES", 1 << 20)
    told = answer("doctor")
    assert [re.match(r"(ok|note)  +([a-z-]+)  +\S", line) is not None for line in told] == [True] * 8, told
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("BERTMILL_STORE", (tmp_path / "file/store").as_uri())
    (bad,) = answer("doctor", status=1)
    assert bad.startswith("BAD   reachable     The store can't list ")


# Out of the store


def test_export_copies_every_file_as_it_is(store: Store, tmp_path: Path) -> None:
    made = commit(store, recipe())
    assert answer("export", "vocabulary/small", tmp_path / "a/new") == [f"{made} -> {tmp_path / 'a/new'}"]
    copied = {path.relative_to(tmp_path / "a/new").as_posix(): path for path in (tmp_path / "a").rglob("*.*")}
    entries = store.manifest(made).files
    assert {path: sha256_of(file) for path, file in copied.items()} == {each.path: each.sha256 for each in entries}


# Mistakes

MISTAKES = {
    "show nope": "'nope' is not a reference. It reads kind/name@version, such as pretraining/tiny@latest",
    "show corpus/nope@latest": "has no corpus/nope. ",
    "show vocabulary/samll": "has no vocabulary/samll. Did you mean 'vocabulary/small'",
    "show vocabulary/small@nope": "has no version or alias 'nope'. It has: latest, ",
    "tag vocabulary/small abc": "The alias 'abc' looks like a version. Give it a name, such as production",
    "export vocabulary/small {folder}": "is there and not empty. Give a new folder",
    "export vocabulary/small {folder}/file/below": "Not a directory. Give another folder",
    "verify vocabulary/small@nope": "has no version or alias 'nope'. It has: latest, ",
    "lineage vocabulary/small@nope": "has no version or alias 'nope'. It has: latest, ",
    "retract vocabulary/small@nope --reason x": "has no version or alias 'nope'. It has: latest, ",
    "tag {gone} production": "was retracted on .*: licence withdrawn. `bertmill ls vocabulary/small` shows",
    "export {gone} {folder}/new": "was retracted on .*: licence withdrawn. `bertmill ls vocabulary/small` shows",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_about_what_is_in_the_store_is_one_sentence_and_changes_nothing(
    words: str, store: Store, tmp_path: Path
) -> None:
    gone, _ = commit(store, recipe(0)), commit(store, recipe(1))
    take_back(store, gone)
    (tmp_path / "file").write_text("in the way")
    before = sorted((tmp_path / "home").rglob("*"))
    told = refusal(*(word.format(folder=tmp_path, gone=gone) for word in words.split()))
    assert re.search(MISTAKES[words], told)
    assert "\n" not in told
    assert sorted((tmp_path / "home").rglob("*")) == before


def test_an_empty_store_is_told_as_such(store: Store) -> None:
    assert refusal("show", "corpus/nope").endswith("has no corpus/nope. It is empty: `bertmill run tiny` fills it.")


# The process


def test_a_retracted_reference_is_a_sentence_and_2_a_store_that_is_not_whole_1(tmp_path: Path) -> None:
    user = User(tmp_path / "home")
    gone, left = (commit(user.store, recipe(number), {"own.txt": f"{number}"}) for number in range(2))
    take_back(user.store, gone)
    check_refused(user.call("tag", gone, "production"), f"{gone} was retracted on .*: licence withdrawn")
    damage_blob(user.store, entry_of(user.store, left, "own.txt"), "missing")
    found = user.call("verify")
    assert (found.returncode, found.stderr) == (1, "")
    assert found.stdout.startswith(f"own.txt of {left} is missing\n1 problem in ")


def test_a_service_that_does_not_answer_is_told_in_a_sentence(tmp_path: Path) -> None:
    there = {
        "BERTMILL_STORE": "s3://any/x",
        "BERTMILL_STORE_DEADLINE_S": "0.2",
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{free_port()}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    check_refused(User(tmp_path / "home").call("ls", **there), "Object storage failed at ListObjectsV2 on s3://any/x/")
