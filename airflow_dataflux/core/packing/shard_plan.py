"""Which samples go into which shard (pure).

Guarantees: every sample is in exactly one shard, whole; shards are numbered from 0 in the order of the samples; the
plan depends on nothing but the samples and the rule, so every task of a mapped pack finds the same one. By bytes, no
shard is longer than asked for unless it is a single sample. By count, there are exactly so many shards, of about equal
length, or one for each sample if there are fewer samples.
Memory: one shard's objects.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Protocol

import msgspec

from airflow_dataflux.core.config import DEFAULT_NAME_TEMPLATE
from airflow_dataflux.core.errors import InvalidRequestError
from airflow_dataflux.core.packing.samples import Member, Sample, webdataset_extension, webdataset_key
from airflow_dataflux.core.packing.tar_format import archive_bytes, member_bytes

PACK_FORMAT = "dataflux-pack/1"

_NAMED = 5


class ShardPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One shard that is to be written.

    Attributes:
        index: from 0.
        name: relative to the pack's place.
        members: in their order in the shard.
        sample_sizes: how many members each sample has, in their order.
        archive_bytes: the shard's length.
        digest: of what determines its bytes: same digest, same shard.
    """

    index: int
    name: str
    members: tuple[Member, ...]
    sample_sizes: tuple[int, ...]
    archive_bytes: int
    digest: str

    @property
    def total_bytes(self) -> int:
        """Bytes of its objects."""
        return sum(member.size for member in self.members)

    def without(self, changed: frozenset[str]) -> ShardPlan:
        """Return this shard without the samples that one of these objects belongs to; its digest stays."""
        members: list[Member] = []
        sample_sizes: list[int] = []
        position = 0
        for count in self.sample_sizes:
            sample = self.members[position : position + count]
            position += count
            if not any(member.name in changed for member in sample):
                members += sample
                sample_sizes.append(count)
        length = archive_bytes(sum(member_bytes(member.name, member.size) for member in members))
        return msgspec.structs.replace(
            self, members=tuple(members), sample_sizes=tuple(sample_sizes), archive_bytes=length
        )


class Filling(msgspec.Struct):
    """How far a plan has come: the shard that is being filled, and everything before it."""

    shard_index: int = 0
    shard_bytes: int = 0
    all_samples: int = 0
    all_bytes: int = 0


class ShardRule(Protocol):
    """Decides where a shard ends."""

    def is_full(self, filling: Filling, sample_bytes: int) -> bool:
        """Return whether the next sample, whose members take so many bytes, begins another shard."""
        ...


class ByBytes(msgspec.Struct, frozen=True):
    """Shards of at most so many bytes."""

    limit: int

    def is_full(self, filling: Filling, sample_bytes: int) -> bool:
        """Return whether the shard would become too long."""
        return archive_bytes(filling.shard_bytes + sample_bytes) > self.limit


class ByCount(msgspec.Struct, frozen=True, kw_only=True):
    """So many shards of about equal length, of samples that were counted before."""

    shard_count: int
    sample_count: int
    members_bytes: int

    @classmethod
    def of(cls, shard_count: int, samples: Iterable[Sample]) -> ByCount:
        """Count the samples, in a pass of their own."""
        sample_count = members_bytes = 0
        for sample in samples:
            sample_count += 1
            members_bytes += _sample_bytes(sample)
        return cls(shard_count=min(shard_count, sample_count), sample_count=sample_count, members_bytes=members_bytes)

    def is_full(self, filling: Filling, sample_bytes: int) -> bool:
        """Return whether the shard has its part, or every sample that is left has to begin a shard."""
        shards_left = self.shard_count - filling.shard_index - 1
        if shards_left == 0:
            return False
        if self.sample_count - filling.all_samples <= shards_left:
            return True
        middle_of_sample = filling.all_bytes + sample_bytes / 2
        return middle_of_sample * self.shard_count > self.members_bytes * (filling.shard_index + 1)


def plan_shards(samples: Iterable[Sample], rule: ShardRule, name_template: str) -> Iterator[ShardPlan]:
    """Yield the shards in their order."""
    filling = Filling()
    members: list[Member] = []
    sample_sizes: list[int] = []
    for sample in samples:
        sample_bytes = _sample_bytes(sample)
        if members and rule.is_full(filling, sample_bytes):
            yield _shard(filling, members, sample_sizes, name_template)
            filling.shard_index, filling.shard_bytes, members, sample_sizes = filling.shard_index + 1, 0, [], []
        members += sample
        sample_sizes.append(len(sample))
        filling.shard_bytes += sample_bytes
        filling.all_samples += 1
        filling.all_bytes += sample_bytes
    if members:
        yield _shard(filling, members, sample_sizes, name_template)


def _sample_bytes(sample: Sample) -> int:
    return sum(member_bytes(member.name, member.size) for member in sample)


def _shard(filling: Filling, members: list[Member], sample_sizes: list[int], name_template: str) -> ShardPlan:
    pinned = [(member.name, member.generation, member.size) for member in members]
    return ShardPlan(
        index=filling.shard_index,
        name=name_template.format(index=filling.shard_index),
        members=tuple(members),
        sample_sizes=tuple(sample_sizes),
        archive_bytes=archive_bytes(filling.shard_bytes),
        digest=blake2b(PACK_FORMAT.encode() + msgspec.msgpack.encode(pinned), digest_size=16).hexdigest(),
    )


_LONGEST_NAME_BYTES = 240
"""File systems take 255 bytes; the record of a shard has the shard's name and some more."""


def checked_name_template(template: str) -> str:
    """Return `template` if each index makes another usable name of it. Raises InvalidRequestError."""
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
        names = {template.format(index=index) for index in (0, 1, 12345678)}
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        raise InvalidRequestError(f"name_template {template!r} cannot be filled in: {error}.") from error
    if "index" not in fields or len(names) != 3:
        raise InvalidRequestError(
            f"name_template {template!r} must hold {{index}}, such as {DEFAULT_NAME_TEMPLATE!r}: every shard needs a "
            "name of its own."
        )
    for name in names:
        segments = name.split("/")
        if any(segment in ("", ".", "..") or segment.startswith(".dataflux") for segment in segments) or any(
            ord(character) < 32 for character in name
        ):
            raise InvalidRequestError(
                f"name_template {template!r} makes {name!r}, which is no plain path relative to the output."
            )
        if any(len(segment.encode("utf-8", "surrogatepass")) > _LONGEST_NAME_BYTES for segment in segments):
            raise InvalidRequestError(
                f"name_template {template[:100]!r} makes a name of more than {_LONGEST_NAME_BYTES} bytes: shorten it."
            )
    return template


class PackDigest:
    """Digest of a pack's shards, in their order."""

    def __init__(self) -> None:
        self._digest = blake2b(PACK_FORMAT.encode(), digest_size=16)

    def add(self, name: str, digest: str) -> None:
        """Add a shard's name and digest."""
        self._digest.update(f"\n{name}\n{digest}".encode())

    @property
    def fingerprint(self) -> str:
        """The digest of all shards so far."""
        return self._digest.hexdigest()


class PlanTotals(msgspec.Struct):
    """What a plan holds, counted while its shards are taken.

    Attributes:
        shards, samples, objects: how many.
        total_bytes: of the objects.
        archive_bytes: of the shards.
        unread: objects that WebDataset's reader passes over.
        clashing: names of objects whose extension another object of the same sample has, too; the first few.
    """

    shards: int = 0
    samples: int = 0
    objects: int = 0
    total_bytes: int = 0
    archive_bytes: int = 0
    unread: int = 0
    clashing: list[str] = []
    _digest: PackDigest = msgspec.field(default_factory=PackDigest)

    @property
    def fingerprint(self) -> str:
        """Digest of all shards so far: same fingerprint, same names and bytes of shards."""
        return self._digest.fingerprint

    def add(self, shard: ShardPlan) -> None:
        """Count a shard."""
        self.shards += 1
        self.samples += len(shard.sample_sizes)
        self.objects += len(shard.members)
        self.total_bytes += shard.total_bytes
        self.archive_bytes += shard.archive_bytes
        self._digest.add(shard.name, shard.digest)
        self._look_at_keys(shard)

    def _look_at_keys(self, shard: ShardPlan) -> None:
        before: str | None = None
        extensions: set[str] = set()
        for member in shard.members:
            key = webdataset_key(member.name)
            if key is None:
                self.unread += 1
                continue
            if key != before:
                before, extensions = key, set()
            extension = webdataset_extension(member.name, key)
            if extension in extensions and len(self.clashing) < _NAMED:
                self.clashing.append(member.name)
            extensions.add(extension)
