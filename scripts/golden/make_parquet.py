#!/usr/bin/env python3
"""Writes tests/golden/zstd-1.parquet and zstd-2.parquet (pages of version 1 and 2). Needs pyarrow."""

import pathlib

import pyarrow
import pyarrow.parquet

GOLDEN = pathlib.Path(__file__).parents[2] / "tests/golden"
TEXTS = [f"row {i} " * (i % 40) for i in range(400)]

for version in ("1", "2"):
    table = pyarrow.table({"text": TEXTS})
    pyarrow.parquet.write_table(
        table, GOLDEN / f"zstd-{version}.parquet", compression="zstd", data_page_size=2048,
        row_group_size=150, data_page_version=f"{version}.0", use_dictionary=version == "2",
    )
