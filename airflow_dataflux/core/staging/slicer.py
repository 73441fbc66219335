"""Cut the stream of a composite back into its components while it arrives (pure).

Guarantees: the slices of one component, joined, are its bytes, in order; `crc32c` on its last slice covers all of
them; bytes beyond the last component are an error, never ignored. Memory: one chunk, whatever the composite's size.

Assumptions: chunks come in order, of any lengths, each non-empty chunk once. A component of zero bytes yields one
empty slice. One thread uses a slicer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from airflow_dataflux.core.errors import VerificationError
from airflow_dataflux.core.staging.checksum import extend


class Slice(msgspec.Struct, frozen=True, gc=False):
    """Some bytes of one component.

    Attributes:
        component: index of the component in the composite.
        offset: where `data` begins in the component.
        data: the bytes.
        last: the component is complete with this slice.
        crc32c: checksum of the component's bytes up to and with this slice.
    """

    component: int
    offset: int
    data: bytes
    last: bool
    crc32c: int


class Slicer:
    """Feed chunks, take slices, then `finish`."""

    def __init__(self, sizes: Sequence[int]) -> None:
        """`sizes` are the components' bytes, in the composite's order."""
        self._sizes = sizes
        self._component = 0
        self._offset = 0
        self._crc = 0
        self.received_bytes = 0

    def feed(self, chunk: bytes) -> Iterator[Slice]:
        """Yield the slices that `chunk` holds, and the empty components that follow them.

        Raises VerificationError if there are more bytes than the components have. Exhaust it before the next feed.
        """
        yield from self._empty_components()
        position, end = 0, len(chunk)
        while position < end:
            if self._component == len(self._sizes):
                raise VerificationError(
                    f"The stream is longer than its components together ({sum(self._sizes)} bytes)."
                )
            missing = self._sizes[self._component] - self._offset
            # A chunk inside one component is not copied.
            data = chunk if position == 0 and end <= missing else chunk[position : position + missing]
            position += len(data)
            self.received_bytes += len(data)
            self._crc = extend(self._crc, data)
            last = len(data) == missing
            yield Slice(self._component, self._offset, data, last, self._crc)
            if last:
                self._next_component()
            else:
                self._offset += len(data)
        yield from self._empty_components()

    def finish(self) -> Iterator[Slice]:
        """Yield what is left to yield after the last chunk: empty components only.

        Raises VerificationError if bytes are missing.
        """
        yield from self._empty_components()
        if self._component < len(self._sizes):
            raise VerificationError(
                f"The stream ended after {self.received_bytes} of {sum(self._sizes)} bytes, in component "
                f"{self._component + 1} of {len(self._sizes)}."
            )

    def _empty_components(self) -> Iterator[Slice]:
        while self._component < len(self._sizes) and self._sizes[self._component] == 0:
            yield Slice(self._component, 0, b"", True, 0)
            self._next_component()

    def _next_component(self) -> None:
        self._component += 1
        self._offset = 0
        self._crc = 0
