"""Random files that look like imports: whatever an editor, a spreadsheet or a broken program may leave."""

import random

from hypothesis import strategies as st

NAMES = ["a.csv", "a.jsonl", "a.txt", "a.json", "a.tsv", "a"]
PIECES = [
    b"prompt", b"id", b"metadata", b"completion_a", b"completion_b", b"policy_a", b"gold", b"topic", b"a", b"b",
    b'{"prompt": "a"}', b'{"prompt": "a", "id": 1, "metadata": {"x": [1]}}', b'{"prompt": [{"role": "user"',
    b'{"prompt": "a", "completion_a": "b", "completion_b": "c", "gold": "a"}', b'"prompt"', b': "', b'[{', b"}]", b"{",
    b'"', b'""', b",", b";", b"\t", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"\x00", b"\xef\xbb\xbf", b"\xff\xfe",
    b"\xe9", "漢字".encode(), "🙂".encode(), b"\xed\xa0\x80", b"\\ud800", b"1e999", b"NaN", b"=1+1", b"\\",
    b"\x1a", b"\x85", "\u2028".encode(), b"x" * 300, b"9" * 400, b"," * 250, b'"\n' * 30, b"[" * 50,
]  # fmt: skip
HEADERS = [
    b"", b"prompt\r", b"prompt\n", b"prompt,id\r\n", b"prompt,completion_a,completion_b,gold\r",
    b"prompt,completion_a,completion_b\n", b'"prompt",x,x\n', b"\xef\xbb\xbfprompt,id\n",
]  # fmt: skip

random_files = st.tuples(
    st.sampled_from(NAMES),
    st.sampled_from(HEADERS),
    st.lists(st.sampled_from(PIECES) | st.binary(max_size=12), max_size=25).map(b"".join),
).map(lambda parts: (parts[0], parts[1] + parts[2]))


def random_file(seed: int) -> tuple[str, bytes]:
    """Return the name and the content of the random file with this number."""
    draw = random.Random(seed)
    pieces = [
        draw.randbytes(draw.randrange(12)) if draw.random() < 0.1 else draw.choice(PIECES)
        for _ in range(draw.randrange(30))
    ]
    return draw.choice(NAMES), draw.choice(HEADERS) + b"".join(pieces)
