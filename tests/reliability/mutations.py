"""Files that are not what they should be: bytes changed at random, and values of the wrong kind in the right place."""

import warnings

from hypothesis import strategies as st

from sgtheory.errors import UserError

PLACES = st.floats(0, 1, exclude_max=True)  # of the length of the file
NUMBERS = st.builds(
    lambda value, width: (value % 2 ** (8 * width)).to_bytes(width, "little"),
    st.sampled_from([0, 1, 7, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]),
    st.sampled_from([1, 2, 4, 8]),
)
EDITS = st.one_of(
    st.tuples(st.just("set"), PLACES, st.binary(min_size=1, max_size=8) | NUMBERS),
    st.tuples(st.just("flip"), PLACES, st.integers(0, 7)),
    st.tuples(st.just("insert"), PLACES, st.binary(min_size=1, max_size=64)),
    st.tuples(st.just("remove"), PLACES, st.integers(1, 64)),
    st.tuples(st.just("zero"), PLACES, st.integers(1, 256)),
    st.tuples(st.just("truncate"), PLACES, st.none()),
)
MUTATIONS = st.lists(EDITS, min_size=1, max_size=8)


def mutate(content: bytes, edits: list) -> bytes:
    """``content`` after some of :data:`EDITS`, one after the other."""
    changed = bytearray(content)
    for what, place, by in edits:
        at = int(place * len(changed))
        if what == "set":
            changed[at : at + len(by)] = by
        elif what == "flip" and changed:
            changed[at] ^= 1 << by
        elif what == "insert":
            changed[at:at] = by
        elif what == "remove":
            del changed[at : at + by]
        elif what == "zero":
            changed[at : at + by] = bytes(len(changed[at : at + by]))
        elif what == "truncate":
            del changed[at:]
    return bytes(changed)


class Refused(str):
    """The sentence with which a file was refused."""


def read_or_refused(read, path, kind: type):
    """What ``read(path)`` returns, of ``kind`` and without a warning; or the one sentence with which it refuses it."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            result = read(path)
        except UserError as error:
            sentence = str(error)
            assert len(sentence.splitlines()) == 1, sentence
            assert path.name in sentence, sentence
            assert not said, said[0].message
            return Refused(sentence)
    assert isinstance(result, kind)
    assert not said, said[0].message
    return result


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 10**400, 2**63, float("nan"), float("inf"), 1e308, 0.5])
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", "\x00", "\x1b[2J", "../../x", "reproduced", "[red]", "deterministic"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def changed_values(draw, values, replacements=JSON_VALUES):
    """``values``, nested dictionaries and lists, with a few parts replaced, removed or added at any depth."""
    for _ in range(draw(st.integers(1, 3))):
        values = _changed(draw, values, replacements)
    return values


def _changed(draw, values, replacements):
    keys = list(values) if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else ()
    if not keys or draw(st.integers(0, 9)) == 0:
        return draw(replacements)
    key = draw(st.sampled_from(list(keys)))
    copy = values.copy()
    what = draw(st.sampled_from(["deeper", "deeper", "deeper", "replace", "remove", "add"]))
    if what == "deeper" and isinstance(copy[key], dict | list) and copy[key]:
        copy[key] = _changed(draw, copy[key], replacements)
    elif what == "remove":
        del copy[key]
    elif what == "add" and isinstance(copy, dict):
        copy[draw(st.text(max_size=4))] = draw(replacements)
    else:
        copy[key] = draw(replacements)
    return copy
