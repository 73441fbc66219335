"""The shape of a table of listed objects: the properties of `model.Row`, a column each.

Apart from `Row`, because whoever imports this imports Arrow, which takes longer than a request.
"""

from __future__ import annotations

import pyarrow as pa

ROW_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("generation", pa.int64(), nullable=False),
        pa.field("crc32c", pa.uint32()),  # null: not known from the listing (CMEK objects)
        pa.field("storage_class", pa.string(), nullable=False),
        pa.field("updated", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("content_type", pa.string()),
        pa.field("content_encoding", pa.string()),
    ]
)
