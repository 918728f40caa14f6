"""Files as people write them into /etc/nitro_enclaves/allocator.yaml, and what our edits make of them.

``corpus`` has them by name: AWS's own verdicts on exactly these bytes are recorded in ``allocator/``.
"""

from __future__ import annotations

from random import Random

from enclavectl.host.allocator_edit import edit_allocator
from enclavectl.host.reservation import AllocatorError, Reservation

TUTORIAL = Reservation(memory_mib=8192, cpu_count=4)
# What the package ships, in its form.
SHIPPED = (
    b"---\n# Enclave configuration file.\n#\n# How much memory.\nmemory_mib: 512\n#\n# How many CPUs.\n"
    b"cpu_count: 2\n#\n# Or these:\n# cpu_pool: 2,3,6-9\n"
)
# The table of traps, row by row: what breaks the parser, and a word of the reason that we give.
REFUSED = {
    "no mark": (b"memory_mib: 512\ncpu_count: 2\n", "exactly ---"),
    "CRLF": (b"---\r\nmemory_mib: 512\r\ncpu_count: 2\r\n", "CRLF"),
    "CRLF in one line": (b"---\nmemory_mib: 512\r\ncpu_count: 2\n", "CRLF"),
    "empty line": (b"---\n\nmemory_mib: 512\ncpu_count: 2\n", "empty line"),
    "closing mark": (b"---\nmemory_mib: 512\ncpu_count: 2\n...\n", "found '...'"),
    "unknown key": (b"---\nmemory_mib: 512\ncpu_count: 2\nfoo: 1\n", "4: expected one of .* found 'foo'"),
    "no newline at the end": (b"---\nmemory_mib: 512\ncpu_count: 2", "no newline"),
    "inline comment": (b"---\nmemory_mib: 512 # half gig\ncpu_count: 2\n", "comment behind"),
    "single quotes": (b"---\nmemory_mib: '512'\ncpu_count: 2\n", "whole number"),
    "quotes without a blank": (b'---\nmemory_mib:"512"\ncpu_count: 2\n', "whole number"),
    "both CPU keys": (b"---\nmemory_mib: 512\ncpu_count: 2\ncpu_pool: 2,3\n", "both"),
    "no memory": (b"---\ncpu_count: 2\n", "no memory_mib"),
    "no CPUs": (b"---\nmemory_mib: 512\n", "no cpu_count"),
    "blanks inside quotes": (b'---\nmemory_mib: " 512 "\ncpu_count: 2\n', "yaml:2: blanks inside"),
    "no value": (b"---\nmemory_mib:\ncpu_count: 2\n", "no value"),
    "octal": (b"---\nmemory_mib: 0512\ncpu_count: 2\n", "whole number"),
    "no CPU": (b"---\nmemory_mib: 512\ncpu_count: 0\n", "at least one CPU"),
    "joined lines": (b"---\n# a \\\nmemory_mib: 512\ncpu_count: 2\n", "joins"),
    "not UTF-8": (b"---\n# caf\xe9\nmemory_mib: 512\ncpu_count: 2\n", "yaml:2: expected UTF-8"),
    "a bad line that a later one replaces": (
        b'---\nmemory_mib: "\nmemory_mib: 512\ncpu_count: 2\n',
        "yaml:2: memory_mib: expected a whole number",
    ),
    "nothing": (b"", "exactly ---"),
    "too much memory": (
        b"---\nmemory_mib: 99999999999999\ncpu_count: 2\n",
        "yaml:2: memory_mib: too large: expected at most 1099511627776, found 99999999999999",
    ),
    "too many CPUs": (b"---\nmemory_mib: 512\ncpu_count: 99999999999999\n", "yaml:3: cpu_count: too large"),
    "more digits than Python reads": (
        b"---\nmemory_mib: " + b"9" * 5000 + b"\ncpu_count: 2\n",
        "yaml:2: memory_mib: too large",
    ),
}
ACCEPTED = {
    "shipped": (SHIPPED, Reservation(memory_mib=512, cpu_count=2)),
    "double quotes": (b'---\nmemory_mib: "512"\ncpu_count: "2"\n', Reservation(memory_mib=512, cpu_count=2)),
    "the last one wins": (
        b"---\nmemory_mib: 1\nmemory_mib: 512\ncpu_count: 2\n",
        Reservation(memory_mib=512, cpu_count=2),
    ),
    "pool with blanks": (
        b"---\nmemory_mib: 512\ncpu_pool: 2, 3, 6-9\n",
        Reservation(memory_mib=512, cpu_pool=frozenset({2, 3, 6, 7, 8, 9})),
    ),
    "sorted keys, as PyYAML dumps": (
        b"---\ncpu_count: 4\nmemory_mib: 8192\n",
        TUTORIAL,
    ),
    "blank lines and keys before the mark": (
        b"\nfoo: 1\n---\nmemory_mib: 512\ncpu_count: 2\n",
        Reservation(memory_mib=512, cpu_count=2),
    ),
}
# What people have in their files, and variants of it: taken by AWS's script or not, in its own way.
PEOPLE = {
    "tabs": b"---\nmemory_mib:\t8192\ncpu_count:\t4\n",
    "units": b"---\nmemory_mib: 8Gi\ncpu_count: 4\n",
    "float": b"---\nmemory_mib: 8192.0\ncpu_count: 4\n",
    "underscore": b"---\nmemory_mib: 8_192\ncpu_count: 4\n",
    "negative": b"---\nmemory_mib: -1\ncpu_count: 4\n",
    "huge": b"---\nmemory_mib: 99999999999999\ncpu_count: 4\n",
    "key in other case": b"---\nMemory_MiB: 8192\ncpu_count: 4\n",
    "list of reservations": b"---\n- memory_mib: 4096\n  cpu_count: 2\n- memory_mib: 4096\n  cpu_pool: 2,3\n",
    "a shell's variables": b"---\nmemory_mib: $MEMORY_MIB\ncpu_count: ${CPU_COUNT}\n",
    "hash without a blank before it": b"---\nmemory_mib: 8192#8G\ncpu_count: 4\n",
    "inline comment on the CPUs": b"---\nmemory_mib: 8192\ncpu_count: 4 # two cores\n",
    "indented": b"---\n  memory_mib: 512\n  cpu_count: 2\n",
    "indented comment": b"---\n   # a comment\nmemory_mib: 512\ncpu_count: 2\n",
    "blanks at the end": b"---\nmemory_mib: 512   \ncpu_count: 2\t\n",
    "blank before the colon": b"---\nmemory_mib : 512\ncpu_count: 2\n",
    "no blank behind the colon": b"---\nmemory_mib:512\ncpu_count:2\n",
    "several blanks": b"---\nmemory_mib:    512\ncpu_count:    2\n",
    "mark with a blank": b"--- \nmemory_mib: 512\ncpu_count: 2\n",
    "mark with a comment": b"--- # x\nmemory_mib: 512\ncpu_count: 2\n",
    "mark twice": b"---\nmemory_mib: 512\n---\ncpu_count: 2\n",
    "directive before the mark": b"%YAML 1.2\n---\nmemory_mib: 512\ncpu_count: 2\n",
    "byte order mark": b"\xef\xbb\xbf---\nmemory_mib: 512\ncpu_count: 2\n",
    "old Mac line ends": b"---\rmemory_mib: 512\rcpu_count: 2\r",
    "flow mapping": b"---\n{memory_mib: 512, cpu_count: 2}\n",
    "flow list": b"---\nmemory_mib: 512\ncpu_pool: [2, 3]\n",
    "block list": b"---\nmemory_mib: 512\ncpu_pool:\n  - 2\n  - 3\n",
    "quoted pool": b'---\nmemory_mib: 512\ncpu_pool: "2,3"\n',
    "single-quoted pool": b"---\nmemory_mib: 512\ncpu_pool: '2,3'\n",
    "quoted keys": b'---\n"memory_mib": 512\n"cpu_count": 2\n',
    "null": b"---\nmemory_mib: ~\ncpu_count: 2\n",
    "hexadecimal": b"---\nmemory_mib: 0x200\ncpu_count: 2\n",
    "words": b"---\nmemory_mib: half\ncpu_count: 2\n",
    "pool that ends before it begins": b"---\nmemory_mib: 512\ncpu_pool: 3-2\n",
    "pool with a blank inside": b"---\nmemory_mib: 512\ncpu_pool: 2 3\n",
    "empty CPU key beside a pool": b"---\nmemory_mib: 512\ncpu_count:\ncpu_pool: 2,3\n",
    "two colons": b"---\nmemory_mib: 1:512\ncpu_count: 2\n",
    "address in a comment": b"---\n# see https://a.b/c: d\nmemory_mib: 512\ncpu_count: 2\n",
    "key before the colon of a sentence": b"---\nmemory_mib: 512\ncpu_count: 2\nnote to self: buy milk\n",
    "NUL": b"---\nmemory_mib: 5\x0012\ncpu_count: 2\n",
    "UTF-8 comment": "---\n# M\u00fcnchen \u65e5\u672c\nmemory_mib: 512\ncpu_count: 2\n".encode(),
    "full-width digits": "---\nmemory_mib: \uff15\uff11\uff12\ncpu_count: 2\n".encode(),
    "no-break space": "---\nmemory_mib:\u00a0512\ncpu_count: 2\n".encode(),
    "quote at the end only": b'---\nmemory_mib: 512"\ncpu_count: 2\n',
    "blanks inside the quotes of a pool": b'---\nmemory_mib: 512\ncpu_pool: " 2,3 "\n',
    "ours, hand": b"# \xff\r\n\r\nmemory_mib: '1' # x\\\r\n",
}
_RANDOM_FILES = 150


def corpus() -> dict[str, bytes]:
    """Every file whose verdict is recorded, and for each the file that an edit makes of it."""
    files = {name: data for name, (data, _) in {**REFUSED, **ACCEPTED}.items()} | PEOPLE
    draw = Random(1)
    wanted = dict.fromkeys(files, TUTORIAL)
    for number in range(_RANDOM_FILES):
        files[f"random {number}"] = _random_file(draw)
        wanted[f"random {number}"] = _random_reservation(draw)
    edits = {}
    for name, data in files.items():
        try:
            edits[f"{name}, edited"] = edit_allocator(data, wanted[name], "allocator.yaml")
        except AllocatorError:
            continue  # a list of reservations is left alone
    return files | edits


def _random_reservation(draw: Random) -> Reservation:
    memory_mib = draw.randint(1, 1 << 20)
    if draw.random() < 0.5:
        return Reservation(memory_mib=memory_mib, cpu_count=draw.randint(1, 128))
    return Reservation(
        memory_mib=memory_mib, cpu_pool=frozenset(draw.sample(range(1, 130), draw.randint(1, 9)))
    )


def _random_file(draw: Random) -> bytes:
    lines = [_random_line(draw) for _ in range(draw.randint(0, 9))]
    if draw.random() < 0.7:
        lines.insert(draw.randint(0, len(lines) // 2), "---")
    end = draw.choice(["\n", "\n", "\n", "\r\n"])
    return (end.join(lines) + (end if draw.random() < 0.8 else "")).encode()


def _random_line(draw: Random) -> str:
    kind = draw.random()
    if kind < 0.2:
        return "#" + "".join(draw.choice("abc :#\"'-\\\u00e9\t") for _ in range(draw.randint(0, 12)))
    if kind < 0.3:
        return draw.choice(["", " ", "---", "...", "--- # x", "{memory_mib: 1}", "- 1", "cpu_count"])
    key = draw.choice(["memory_mib", "cpu_count", "cpu_pool", '"memory_mib"', "foo", "memory_mib ", "- foo"])
    value = draw.choice(
        [
            str(draw.randint(0, 10**6)),
            f"'{draw.randint(0, 99)}'",
            f'"{draw.randint(0, 99)}"',
            "2,3,6-9",
            "~",
            "|",
            "",
        ]
    )
    comment = draw.choice(["", "", "", " # why", "\t# a: b"])
    return f"{draw.choice(['', '', ' '])}{key}:{draw.choice([' ', ' ', '', '  ', chr(9)])}{value}{comment}"
