#!/usr/bin/env bash
# Checks that the files with unsafe code are exactly those that UNSAFE.md lists, apart from tests
# and fuzz targets.
set -euo pipefail
cd "$(dirname "$0")/.."
files=$(git ls-files -co --exclude-standard '*.rs' ':!*/tests/*' ':!fuzz/*' | sort -u |
    while read -r file; do [ -e "$file" ] && echo "$file"; done)
found=$(grep -lE '^[^/"]*\bunsafe( (\{|fn|impl|trait|extern)|\()' $files | sort)
listed=$(grep -oE '^\| `[^`]+\.rs`' UNSAFE.md | tr -d '|` ' | sort)
if ! diff <(echo "$listed") <(echo "$found"); then
    echo "UNSAFE.md (<) and the code (>) differ" >&2
    exit 1
fi
echo "$(echo "$found" | wc -l) files"
