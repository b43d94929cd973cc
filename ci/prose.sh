#!/usr/bin/env bash
# Checks the English of this repository by the rules that need no judgment. There is no allow-list.
#
#   ci/prose.sh [PATH...]    files or folders to check; all of the repository if none is named
#
# Looks at the .rs, .md, .sh and .py files that git knows or would add, and fails on
#
#   - lines over 100 columns, in code and prose. Rows of markdown tables may be longer, and so may
#     a line that fits without its link targets and addresses.
#   - pronouns that name no actor
#   - first lines of a doc comment (`///` or `//!`) that do not stand alone: they refer to the item
#     before, or begin with a question word, or with a verb that fits any function
#   - rates with an article: `5 a second`, `8 bytes an object`, `once a pass`; they take `per`
#
# Text in backticks is code, and exempt from the rules about words. Exceptions are rules of this
# script, so whatever it reports is rewritten.
set -euo pipefail
exec python3 - "$@" <<'PY'
import pathlib, re, subprocess, sys

WIDTH = 100

PRONOUN = re.compile(r"(?<![a-z])(?:(?:no|some|any|every)body|who(?:so)?ever)(?![a-z])", re.I)

OPENING = re.compile(
    r"(?:The same|As above|Likewise|Of these|What|Who|Where|Is|Gives|Says|Tells|Sees to"
    r"|Asks memory for)(?![\w'-])"
)

# What a quantity is counted by. A word is here because the rate is common, not because it is rare
# as an object of a verb: the patterns below tell those apart by what stands before "a".
PER = (
    "byte word bit frame page run arena zspage slot chunk class pool store shard segment bucket "
    "stage entry key handle object block value item record row line file folder crate table box "
    "list node set size type trait rule case test mutant program process thread worker processor "
    "CPU core reader writer context dictionary codec allocator allocation compressor executor "
    "job call operation load read write insert free lookup look-up exchange switch signal step "
    "round pass turn batch sample measurement window level side figure second minute hour day "
    "millisecond"
).replace(" ", "|")
COUNT = (
    r"[1-9]\d*(?:[.,_]\d+)*|two|three|four|five|six|seven|eight|nine|ten|twelve"
    r"|hundreds?|thousands?|millions?|several|few"
)
UNIT = (
    r"[KMG]iB|[nµu]?s|ms|bytes|bits|words|nanoseconds|microseconds|milliseconds|cycles"
    r"|instructions|times|percent|%"
)
# Words that may stand between "one" or a number and "a" without making a rate.
LINK = (
    r"(?!(?:of|with|for|to|on|in|at|by|is|as|or|and|than|from|after|before|over|under|into|like"
    r"|has|had|was|are|be|that|until|unless|when|while|if|not|only|per|share|take)\b)"
)
# A rate of time: `switches a second`, not `needs a second thread` or `takes a second`.
TIME = (
    r"(?!(?:takes|needs|lasts|is|was|has|as|waits|within|always)\b)[a-z-]+s an? "
    r"(?:second|minute|hour|day|millisecond)(?=$|[^\w\s-]| (?:and|or|on|at|in|with|of|for|to)\b)"
)
# `once a pass`, not the conjunction: "once a pass has ended".
ONCE = (
    rf"(?:once|twice) an? (?:{PER})(?=$|[^\w\s-]| (?:and|or|in|on|with|for|by|at|to|when|over)\b)"
)
RATE = re.compile(
    rf"(?<![\w.-])(?:{ONCE}|(?:{COUNT})(?: ?(?:{UNIT})| {LINK}[a-z-]+s)? an? (?:{PER})"
    rf"|one {LINK}(?![a-z-]*s\b)[a-z-]+ an? (?:{PER})"
    rf"|(?:{UNIT}) an? (?:{PER})"
    rf"|{TIME})(?![\w-])",
    re.I,
)


def files(paths):
    names = ["git", "ls-files", "-co", "--exclude-standard", "--deduplicate", "--", *paths]
    listed = subprocess.run(names, check=True, capture_output=True, text=True).stdout.split("\n")
    kinds = {".rs", ".md", ".sh", ".py"}
    for name in map(pathlib.Path, filter(None, listed)):
        if name.is_file() and (name.suffix in kinds or str(name).endswith(".ci/run")):
            yield name


def prose(line, kind):
    """What a line says, without the comment's marker, indent and code in backticks."""
    text = line.strip()
    marker = {".rs": r"//[/!]? ?", ".md": r"(?:[>*-] )+"}.get(kind, r"#+ ?")
    text = re.sub(rf"^{marker}", "", text)
    return re.sub(r"`[^`]*`", "``", text)


def too_long(line, kind):
    if len(line) <= WIDTH:
        return False
    markdown = kind == ".md" or re.match(r"\s*//[/!]", line)
    if markdown and re.match(r"\s*(?://[/!]\s*)?\|", line):
        return False
    if markdown:
        line = re.sub(r"\]\([^)\s]*\)|^(\s*(?://[/!] )?\[[^]]+\]:) \S+$", r"]\1", line)
    return len(re.sub(r"https?://[^\s)>\"]+", "", line)) > WIDTH


def check(path):
    kind = path.suffix or ".sh"
    lines = path.read_text().split("\n")
    said = [prose(line, kind) for line in lines]
    for at, line in enumerate(lines):
        if too_long(line, kind):
            yield at, f"{len(line)} columns"
        for word in PRONOUN.finditer(said[at]):
            yield at, f"\"{word[0]}\": name the actor"
        # A rate may be wrapped, so the next line belongs to it.
        both = said[at] + " " + (said[at + 1] if at + 1 < len(said) else "")
        for rate in RATE.finditer(both):
            if rate.start() < len(said[at]):
                yield at, f"\"{rate[0]}\": write per"
        doc = re.match(r"\s*(//[/!]) ", line) if kind == ".rs" else None
        if doc and not (at and lines[at - 1].lstrip().startswith(doc[1])):
            first = re.sub(r"^[*_]+", "", line.strip()[4:])
            if begins := OPENING.match(first):
                yield at, f"first line begins with \"{begins[0]}\""


found = 0
for path in files(sys.argv[1:]):
    for at, wrong in check(path):
        found += 1
        print(f"{path}:{at + 1}: {wrong}")
if found:
    sys.exit(f"{found} lines to rewrite; CONTRIBUTING.md says how")
PY
