"""The run report: one HTML page that shows how a listing or a staging went.

Three layers, none of which knows a listing or a staging:

- **recording** (`series`, `spans`, `census`): what happens is counted while it happens, in a fixed number of buckets
  and bars, so a run of any size costs a few hundred KB of memory and microseconds for each page or batch.
- **blocks**: what a page consists of (figures, tables, pictures), as plain data.
- **drawing** (`page` and the modules it uses): blocks in, HTML with inline SVG out; pure functions.

`core/listing/` and `core/staging/` record, compose their page from blocks, and write it beside what they publish.
"""
