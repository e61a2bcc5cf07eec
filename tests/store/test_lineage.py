"""Where an artifact comes from and where it went: whole both ways, whatever was killed, retracted or lost meanwhile."""

import json
import re

import pytest

from pipeline.store import Artifact, Input, Store
from pipeline.store import lineage as tracing
from pipeline.store.keys import lineage_key, manifest_key
from pipeline.store.lineage import Lineage, Sources, as_mermaid, as_record, as_tree, lineage_of
from pipeline.store.retraction import retract
from tests.artifacts import commit, keys, recipe

WORDS = Input("texts/words.txt", 2_500_000, "0" * 64)


def source(name: str, size: int = 1_000_000) -> Input:
    return Input(name, size, "0" * 64)


def made_family(store: Store) -> dict[str, Artifact]:
    """A diamond: `a` into `b` and `c`, both into `d`, that into `e`; and `alone`, which has no part in it."""
    a = commit(store, recipe(0, "a", inputs=(WORDS, source("texts/b.txt"))))
    b = commit(store, recipe(1, "b", parents=(a,)))
    c = commit(store, recipe(2, "c", parents=(a,), inputs=(source("c.txt"),)))
    d = commit(store, recipe(3, "d", parents=(b, c)))
    e = commit(store, recipe(4, "e", parents=(d,)))
    alone = commit(store, recipe(5, "alone"))
    return {"a": a, "b": b, "c": c, "d": d, "e": e, "alone": alone}


def named(text: str, family: dict[str, Artifact]) -> str:
    """The text without the versions, as the goldens have it."""
    for artifact in family.values():
        text = text.replace(artifact.version, "")
    return text


def test_an_artifact_is_led_back_to_its_sources_and_forward_to_all_that_was_made_from_it(
    any_store: Store,
) -> None:
    family = made_family(any_store)
    a, b, c, d, e, alone = (str(each) for each in family.values())
    assert lineage_of(any_store, family["d"]) == Lineage(
        root=d,
        parents={d: (b, c), b: (a,), c: (a,), a: ()},
        children={d: (e,)},
        sources={a: Sources(2, 3_500_000, ("texts/words.txt", "texts/b.txt")), c: Sources(1, 1_000_000, ("c.txt",))},
        gone={},
    )
    forward = lineage_of(any_store, family["a"])
    assert forward.children == {a: (b, c), b: (d,), c: (d,), d: (e,)}
    assert forward.parents == {a: ()}
    assert lineage_of(any_store, family["alone"]) == Lineage(alone, {alone: ()}, {}, {}, {})


def test_a_mark_whose_child_was_never_committed_counts_for_nothing(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publish that is killed leaves the mark that it wrote first, and no manifest."""
    parent = commit(any_store, recipe())
    child = recipe(1, "child", parents=(parent,))

    def killed(key: str, data: bytes) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(any_store.backend, "create", killed)
        with pytest.raises(KeyboardInterrupt):
            commit(any_store, child)
    mark = lineage_key(("vocabulary", "small", parent.version), ("vocabulary", "child", child.fingerprint[:12]))
    assert keys(any_store, "lineage/") == [mark]
    assert lineage_of(any_store, parent).children == {}
    made = commit(any_store, child)
    assert lineage_of(any_store, parent).children == {str(parent): (str(made),)}


def test_of_two_names_with_the_same_fingerprint_each_has_its_own_children(any_store: Store) -> None:
    one, other = commit(any_store, recipe(0, "one")), commit(any_store, recipe(0, "other"))
    assert (one.version, one.digest) == (other.version, other.digest), "a name is no part of a fingerprint"
    child = commit(any_store, recipe(1, "child", parents=(other,)))
    assert lineage_of(any_store, one).children == {}
    assert lineage_of(any_store, other).children == {str(other): (str(child),)}
    assert lineage_of(any_store, child).parents == {str(child): (str(other),), str(other): ()}


def test_a_forced_version_is_a_parent_and_a_child_of_its_own(any_store: Store) -> None:
    first = commit(any_store, recipe())
    second = commit(any_store, recipe(), {"vocab.txt": "other"}, force=True)
    child = commit(any_store, recipe(1, "child", parents=(second,)))
    again = commit(any_store, recipe(1, "child", parents=(second,)), force=True)
    assert (second.version, again.version) == (f"{first.version}-2", f"{child.version}-2")
    assert lineage_of(any_store, first).children == {}
    assert lineage_of(any_store, second).children == {str(second): (str(child), str(again))}
    assert lineage_of(any_store, again).parents == {str(again): (str(second),), str(second): ()}


def test_what_is_no_longer_to_be_had_is_still_shown_and_said_to_be_so(
    any_store: Store,
) -> None:
    family = made_family(any_store)
    a, b, c, d, e, _ = family.values()
    retract(any_store, any_store.version(str(e)), "licence")
    any_store.backend.delete(manifest_key("vocabulary", "b", b.version))
    any_store.backend.put(manifest_key("vocabulary", "c", c.version), b"{")
    found = lineage_of(any_store, d)
    assert found.gone == {str(e): "retracted", str(b): "missing", str(c): "unreadable"}
    assert found.parents == {str(d): (str(b), str(c)), str(b): (), str(c): ()}
    assert f"├─ {b} [missing]\n└─ {c} [unreadable]\n" in as_tree(found)
    assert f"└─ {e} [retracted]" in as_tree(found)
    retract(any_store, any_store.version(str(a)), "licence")
    assert as_tree(lineage_of(any_store, a)).startswith(f"{a} [retracted]\n"), "itself too"


# As text


def test_a_tree_is_drawn_with_lines_and_what_was_drawn_above_is_not_drawn_again(
    store: Store,
) -> None:
    family = made_family(store)
    assert named(as_tree(lineage_of(store, family["e"])), family) == (
        "vocabulary/e@\n"
        "\n"
        "made from:\n"
        "└─ vocabulary/d@\n"
        "   ├─ vocabulary/b@\n"
        "   │  └─ vocabulary/a@\n"
        "   │     └─ 2 source files, 3.5 MB: texts/words.txt, texts/b.txt\n"
        "   └─ vocabulary/c@\n"
        "      ├─ vocabulary/a@ (above)\n"
        "      └─ 1 source file, 1.0 MB: c.txt\n"
        "\n"
        "made into: nothing"
    )
    assert named(as_tree(lineage_of(store, family["a"])), family) == (
        "vocabulary/a@\n"
        "\n"
        "made from:\n"
        "└─ 2 source files, 3.5 MB: texts/words.txt, texts/b.txt\n"
        "\n"
        "made into:\n"
        "├─ vocabulary/b@\n"
        "│  └─ vocabulary/d@\n"
        "│     └─ vocabulary/e@\n"
        "└─ vocabulary/c@\n"
        "   └─ vocabulary/d@ (above)"
    )


def test_an_artifact_that_is_a_parent_twice_is_drawn_with_one_end(store: Store) -> None:
    parent = commit(store, recipe())
    child = commit(store, recipe(1, "child", parents=(parent, parent)))
    assert as_tree(lineage_of(store, child)).splitlines()[2:5] == ["made from:", f"├─ {parent}", f"└─ {parent}"]


def test_a_flowchart_has_each_artifact_and_each_edge_once(store: Store) -> None:
    family = made_family(store)
    assert named(as_mermaid(lineage_of(store, family["d"])), family) == (
        "flowchart LR\n"
        '    a0["vocabulary/a@"]\n'
        '    a1["vocabulary/b@"]\n'
        '    a2["vocabulary/c@"]\n'
        '    a3["vocabulary/d@"]\n'
        '    a4["vocabulary/e@"]\n'
        '    s0[("2 source files, 3.5 MB: texts/words.txt, texts/b.txt")] --> a0\n'
        '    s1[("1 source file, 1.0 MB: c.txt")] --> a2\n'
        "    a0 --> a1\n"
        "    a0 --> a2\n"
        "    a1 --> a3\n"
        "    a2 --> a3\n"
        "    a3 --> a4\n"
        "    style a3 stroke-width:3px"
    )


def test_a_record_for_programs_has_the_same_as_plain_json(store: Store) -> None:
    family = made_family(store)
    retract(store, store.version(str(family["e"])), "licence")
    record = json.dumps(as_record(lineage_of(store, family["c"])))
    assert json.loads(named(record, family)) == {
        "root": "vocabulary/c@",
        "nodes": [
            {"reference": "vocabulary/a@", "state": "sound"},
            {"reference": "vocabulary/c@", "state": "sound"},
            {"reference": "vocabulary/d@", "state": "sound"},
            {"reference": "vocabulary/e@", "state": "retracted"},
        ],
        "edges": [
            {"parent": "vocabulary/a@", "child": "vocabulary/c@"},
            {"parent": "vocabulary/c@", "child": "vocabulary/d@"},
            {"parent": "vocabulary/d@", "child": "vocabulary/e@"},
        ],
        "sources": {
            "vocabulary/a@": {"files": 2, "bytes": 3_500_000, "names": ["texts/words.txt", "texts/b.txt"]},
            "vocabulary/c@": {"files": 1, "bytes": 1_000_000, "names": ["c.txt"]},
        },
    }


def test_of_many_sources_the_first_three_are_named(store: Store) -> None:
    inputs = tuple(source(f"{number}.txt", 10_000_000) for number in range(1_200))
    made = commit(store, recipe(inputs=inputs))
    told = "1,200 source files, 12,000.0 MB: 0.txt, 1.txt, 2.txt and 1,197 more"
    assert as_tree(lineage_of(store, made)).splitlines()[3] == f"└─ {told}"


EVIL = 'a"]; click a0 href "javascript:x"\n    evil-->a0 %% #quot; <b>`*\x1b[31m&lt;\u2028河.txt'


def test_a_file_name_can_break_out_of_neither_a_flowchart_nor_a_tree(store: Store) -> None:
    lineage = lineage_of(store, commit(store, recipe(inputs=(source(EVIL),))))
    lines = as_mermaid(lineage).splitlines()
    assert [line.strip().split("[")[0] for line in lines] == ["flowchart LR", "a0", "s0", "style a0 stroke-width:3px"]
    shape = re.fullmatch(r'    s0\[\("([^"]*)"\)\] --> a0', lines[2])
    assert shape is not None
    shown = re.sub(r"#(\d+);", lambda code: chr(int(code[1])), shape[1])
    assert shown == f"1 source file, 1.0 MB: {EVIL}", "the reader sees the name"
    assert not set('"[]<>`;#&%*\x1b\u2028') & set(re.sub(r"#\d+;", "", shape[1]))
    tree = as_tree(lineage)
    assert len(tree.splitlines()) == 6
    assert "\x1b" not in tree
    assert "河.txt" in tree


def test_a_name_that_was_made_by_hand_can_not_break_out_of_a_flowchart() -> None:
    root, evil = "vocabulary/a@0", 'vocabulary/b@1:"]\n    evil --> a0'
    lines = as_mermaid(Lineage(root, {root: (evil,), evil: ()}, {}, {}, {evil: "missing"})).splitlines()
    assert len(lines) == 5
    assert lines[2].startswith('    a1["vocabulary/b@1:#34;#93;#10;    evil --#62; a0 ')


def test_a_lineage_that_runs_in_a_circle_ends(store: Store) -> None:
    """No recipe makes one; a manifest that was changed by hand may."""
    first, second = "vocabulary/a@0", "vocabulary/b@1"
    circle = Lineage(first, {first: (second,), second: (first,)}, {first: (second,), second: (first,)}, {}, {})
    assert as_tree(circle).count("(above)") == 2
    assert len(as_mermaid(circle).splitlines()) == 6
    made = commit(store, recipe())
    body = json.loads(store.backend.get(key := manifest_key("vocabulary", "small", made.version)) or b"")
    body["parents"] = [{"reference": str(made), "digest": made.digest, "manifest_sha256": made.manifest_sha256}]
    store.backend.put(key, json.dumps(body).encode())
    store.backend.put(lineage_key(*[("vocabulary", "small", made.version)] * 2), b"")
    assert lineage_of(store, made).parents == {str(made): (str(made),)}
    assert lineage_of(store, made).children == {str(made): (str(made),)}


def test_what_is_looked_for_one_by_one_and_what_is_looked_through_is_the_same(
    any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = commit(any_store, recipe())
    children = [commit(any_store, recipe(number, parents=(root,))) for number in range(1, 5)]
    for number, child in enumerate(children):
        commit(any_store, recipe(10 + number, "grandchild", parents=(child,)))
    retract(any_store, any_store.version(str(children[0])), "a mistake")
    any_store.backend.put(lineage_key(("vocabulary", "small", root.version), ("vocabulary", "small", "c0ffee")), b"")
    for artifact in (root, children[1]):
        one_by_one = lineage_of(any_store, artifact)
        with monkeypatch.context() as patched:
            patched.setattr(tracing, "FEW", 0)
            assert lineage_of(any_store, artifact) == one_by_one
    assert len(lineage_of(any_store, root).children) == 5
