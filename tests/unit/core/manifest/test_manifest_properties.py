"""What holds for every manifest, however its rows, parts, batches and shards fall."""

from __future__ import annotations

import itertools
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_samples import batch, publish_rows

from airflow_dataflux.core.manifest import Digest, Manifest, ManifestFiles
from airflow_dataflux.core.manifest.parts import Mark
from airflow_dataflux.core.manifest.sharding import OBJECT_WEIGHT_BYTES, Interval, cut

MORE = settings(deadline=None, max_examples=150)
ON_FILES = settings(deadline=None, max_examples=40)

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1, max_size=12)
GENERATIONS = st.integers(1, 2**63 - 1)
OBJECTS = st.dictionaries(NAMES, st.tuples(GENERATIONS, st.integers(0, 2**40)), max_size=40)
COUNTER = itertools.count()


def rows_of(objects: dict[str, tuple[int, int]]) -> Any:
    names = sorted(objects, key=str.encode)
    return batch(names, generations=[objects[name][0] for name in names], sizes=[objects[name][1] for name in names])


@st.composite
def pieces(draw: st.DrawFn, rows: Any) -> list[Any]:
    """The rows, cut anywhere, with empty pieces too."""
    cuts = sorted(draw(st.lists(st.integers(0, rows.num_rows), max_size=6)))
    return [rows.slice(a, b - a) for a, b in itertools.pairwise([0, *cuts, rows.num_rows])]


def published(data: st.DataObject, objects: dict[str, tuple[int, int]]) -> Manifest:
    return publish_rows(
        f"memory://property-{next(COUNTER)}", data.draw(pieces(rows_of(objects))), files=ManifestFiles()
    )


@MORE
@given(OBJECTS, st.data())
def test_a_digest_does_not_depend_on_how_the_rows_are_divided(objects: dict, data: st.DataObject) -> None:
    rows = rows_of(objects)
    divided = data.draw(pieces(rows))
    whole = Digest().extend(rows)
    digest = Digest()
    for piece in divided:
        digest = digest.extend(piece)
    assert digest == whole
    composed = [Digest().extend(piece) for piece in divided]
    assert sum(composed, Digest()) == whole
    middle = data.draw(st.integers(0, len(composed)))  # composing is associative: any tree of joins will do
    assert sum(composed[:middle], Digest()) + sum(composed[middle:], Digest()) == whole


@MORE
@given(st.lists(st.tuples(NAMES, GENERATIONS), max_size=20), st.lists(st.tuples(NAMES, GENERATIONS), max_size=20))
def test_other_rows_or_another_order_have_another_fingerprint(one: list, other: list) -> None:
    def fingerprint(pairs: list) -> str:
        names, generations = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        columns = {"name": pa.array(names, pa.string()), "generation": pa.array(generations, pa.int64())}
        return Digest().extend(pa.record_batch(columns)).fingerprint()

    assert (fingerprint(one) == fingerprint(other)) == (one == other)
    for k in range(len(one) - 1):
        swapped = [*one[:k], one[k + 1], one[k], *one[k + 2 :]]
        assert (fingerprint(swapped) == fingerprint(one)) == (swapped == one)


@MORE
@given(st.lists(st.tuples(NAMES, GENERATIONS), min_size=1, max_size=8), st.data())
def test_any_single_change_changes_the_fingerprint(pairs: list, data: st.DataObject) -> None:
    def fingerprint(pairs: list) -> str:
        columns = {
            "name": pa.array([pair[0] for pair in pairs], pa.string()),
            "generation": pa.array([pair[1] for pair in pairs], pa.int64()),
        }
        return Digest().extend(pa.record_batch(columns)).fingerprint()

    at = data.draw(st.integers(0, len(pairs) - 1))
    name, generation = pairs[at]
    changes = [
        [(name + "x", generation)],
        [("x" + name, generation)],
        [(name, generation ^ 1)],
        [],
        [(name, generation), (name, generation)],
        [(name[:1], generation), (name[1:], generation)],  # the same bytes of names, cut elsewhere
    ]
    for change in changes:
        assert fingerprint([*pairs[:at], *change, *pairs[at + 1 :]]) != fingerprint(pairs)
    if len(pairs) > 1:
        # A letter that moves over the border between two names.
        (first, one), (second, two) = pairs[0], pairs[1]
        moved = [(first + second[:1], one), (second[1:], two), *pairs[2:]]
        assert fingerprint(moved) != fingerprint(pairs)


@MORE
@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=80), st.integers(1, 100), st.integers(1, 9), st.data())
def test_shards_are_contiguous_whole_balanced_and_never_empty(
    sizes: list[int], count: int, spacing: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(sizes) - 1))
    stop = data.draw(st.integers(start + 1, len(sizes)))
    marks = [Mark(row, sum(sizes[:row]), str(row)) for row in range(0, len(sizes), spacing)]
    reads: list[tuple[int, int]] = []

    def read(first: int, end: int) -> pa.Array:
        reads.append((first, end))
        return pa.array(sizes[first:end], pa.int64())

    interval = Interval(start=start, stop=stop, total_bytes=sum(sizes[start:stop]))
    shards = cut(interval, count, marks, read)
    assert len(shards) == min(count, stop - start)
    assert [shard.start for shard in shards] == [start, *(shard.stop for shard in shards[:-1])]
    assert shards[-1].stop == stop
    assert all(shard.start < shard.stop for shard in shards)
    assert all(shard.total_bytes == sum(sizes[shard.start : shard.stop]) for shard in shards)
    assert all(end - first <= spacing for first, end in reads)
    assert cut(interval, count, marks, read) == shards
    weights = [size + OBJECT_WEIGHT_BYTES for size in sizes[start:stop]]
    fair = sum(weights) / len(shards)
    if max(weights) <= fair:  # otherwise single rows are heavier than a shard should be
        for shard in shards:
            assert abs(
                sum(sizes[shard.start : shard.stop]) + OBJECT_WEIGHT_BYTES * (shard.stop - shard.start) - fair
            ) <= (max(weights) + 1e-6 * fair)


@ON_FILES
@given(OBJECTS, st.data())
def test_what_is_published_is_read_back_in_order_and_by_shards(objects: dict, data: st.DataObject) -> None:
    manifest = published(data, objects)
    expected = rows_of(objects)
    assert manifest.to_arrow().combine_chunks().equals(pa.Table.from_batches([expected]).combine_chunks())
    assert manifest.fingerprint == Digest().extend(expected).fingerprint()
    names = [row.name for row in manifest]
    assert names == sorted(names, key=str.encode)
    count = data.draw(st.integers(1, 12))
    shards = manifest.shards(count)
    assert [row for shard in shards for row in shard] == list(manifest)
    assert sum(shard.total_bytes for shard in shards) == manifest.total_bytes
    if shards:
        k = data.draw(st.integers(0, len(shards) - 1))
        assert list(Manifest.from_reference(manifest.shard(k, count).reference())) == list(shards[k])


@ON_FILES
@given(OBJECTS, st.integers(0, 50), st.data())
def test_boundary_names_are_names_of_rows_ascending_and_not_the_first(
    objects: dict, count: int, data: st.DataObject
) -> None:
    manifest = published(data, objects)
    boundaries = manifest.boundary_names(count)
    names = [row.name for row in manifest]
    assert len(boundaries) == max(0, min(count, len(names) - 1))
    assert boundaries == sorted(set(boundaries) & set(names[1:]), key=str.encode)


@ON_FILES
@given(OBJECTS, OBJECTS, st.data())
def test_a_difference_is_that_of_the_sets_of_objects(before: dict, after: dict, data: st.DataObject) -> None:
    # Half of the objects are common, so that all three kinds of difference occur.
    kept = data.draw(st.sets(st.sampled_from(sorted(before)) if before else st.nothing()))
    after = {**after, **{name: before[name] for name in kept}}
    diff = published(data, after).diff(published(data, before))
    added = sorted((name for name in after if name not in before), key=str.encode)
    removed = sorted((name for name in before if name not in after), key=str.encode)
    changed = sorted((n for n in after if n in before and after[n][0] != before[n][0]), key=str.encode)
    assert [row.name for row in diff.added] == added
    assert [row.name for row in diff.removed] == removed
    assert [(old.name, old.generation, new.generation) for old, new in diff.changed] == [
        (name, before[name][0], after[name][0]) for name in changed
    ]
    counts = diff.counts()
    assert (counts.added, counts.removed, counts.changed) == (len(added), len(removed), len(changed))
    assert diff.differs() == bool(added or removed or changed)
