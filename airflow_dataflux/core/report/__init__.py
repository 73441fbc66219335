"""The run report: one HTML page that shows how a listing, a staging or a pack went.

Three layers, none of which knows any of these:

- **recording** (`activity`, `object_statistics`): what happens is counted while it happens, in a fixed number of
  buckets and bars, so a run of any size costs a few hundred KB of memory and microseconds for each page or batch.
- **drawing** (`charts`, `timeline`): charts as plain data, and the functions that draw them as SVG; pure.
- **the page** (`page`, `templates/`): sections of text and charts in, one HTML file out. What is HTML or CSS stands in
  `templates/`.

`formatting` writes figures and names as people read them; `run_blocks` are parts that several kinds of pages have;
`report_info` is what others are told of a written report. `core/listing/`, `core/staging/` and `core/packing/` record,
compose their page, and write it beside what they publish.
"""
