"""A short form of fuzzing: the seeds, changed a little, and every input that once made trouble.

``python -m tools.fuzz`` is the long form, guided by coverage.
"""

from __future__ import annotations

from functools import cache
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.codecs import CODECS
from ingest.formats import FORMATS
from tests.fuzzing.targets import CRASHES, TARGETS, Target, changed, seeds

made = cache(lambda name: TARGETS[name]())
some = cache(lambda name: sorted(set(seeds(name)), key=len)[:200])
CHANGES = st.lists(
    st.tuples(st.sampled_from(["put", "drop", "copy", "cut"]), st.integers(0, 4000), st.binary(min_size=1, max_size=8)),
    max_size=6,
)


def with_bytes_changed(seed: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    data = bytearray(seed)
    for kind, place, new in changes:
        at = place % (len(data) + 1)
        if kind == "put":
            data[at : at + len(new)] = new
        elif kind == "drop":
            del data[at : at + len(new)]
        elif kind == "copy":
            data[at:at] = data[at : at + 50] or new
        else:
            del data[at:]
    return bytes(data)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_changed_seeds_break_no_law(name: str) -> None:
    run: Target = made(name)
    for seed in some(name):
        run(seed)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(some(name)) | st.binary(max_size=40), CHANGES, st.integers(0, 2**32))
    def law(seed: bytes, changes: list[tuple[str, int, bytes]], random: int) -> None:
        run(with_bytes_changed(seed, changes))
        run(changed(name, seed, Random(random)) or seed)

    law()


@pytest.mark.parametrize("path", sorted(CRASHES.glob("*.bin")), ids=lambda path: path.stem)
def test_what_once_broke_a_law_no_longer_does(path: object) -> None:
    name, _, _ = path.stem.rpartition("-")  # type: ignore[attr-defined]
    TARGETS[name]()(path.read_bytes())  # type: ignore[attr-defined]


def test_every_format_and_codec_is_a_target() -> None:
    assert {"clock", "packets", *FORMATS, *(f"codec_{name}" for name in CODECS)} == set(TARGETS)


def test_each_target_has_seeds() -> None:
    assert all(next(iter(seeds(name)), None) is not None for name in TARGETS)
