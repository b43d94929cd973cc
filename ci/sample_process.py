#!/usr/bin/env python3
"""Writes the memory of a small program to a file: parsed JSON, its text, and indexes over both.

    ci/sample_process.py FILE

The program is this one. It writes its own heap, so it needs no privileges. The bytes differ a
little from run to run (addresses), and what they compress to stays within a percent.
"""

import json
import sys

MAX_BYTES = 64 << 20


def build():
    """Returns what a service keeps: records, their text, and an index of them by tag."""
    records = [
        {
            "id": i,
            "name": f"item {i * 7919 % 9973}",
            "score": i / 7,
            "tags": [str(i % 97), str(i % 89)],
        }
        for i in range(150_000)
    ]
    texts = [json.dumps(record) for record in records[:60_000]]
    by_tag = {}
    for record in records:
        by_tag.setdefault(record["tags"][0], []).append(record)
    return records, texts, by_tag


def anonymous():
    """Yields the ranges of this process that belong to no file and can be read and written."""
    with open("/proc/self/maps", encoding="ascii") as maps:
        for line in maps:
            fields = line.split()
            named = len(fields) > 5 and fields[5] != "[heap]"
            if fields[1].startswith("rw") and not named:
                start, end = (int(part, 16) for part in fields[0].split("-"))
                yield start, end


def main(path):
    kept = build()
    written = 0
    with open("/proc/self/mem", "rb", buffering=0) as memory, open(path, "wb") as out:
        for start, end in list(anonymous()):
            memory.seek(start)
            try:
                chunk = memory.read(min(end - start, MAX_BYTES - written))
            except OSError:
                continue  # a range that only the kernel reads
            written += out.write(chunk)
    del kept
    print(f"{written} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
