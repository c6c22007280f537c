"""Messages survive recording without loss, and Foxglove's own schemas read them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from foveate.codec import codec_of
from foveate.messages import Boxes, Frame, Gaze, Message, MirrorState, Objects, ProbabilityMap, Stamp

stamps = st.builds(
    Stamp, st.integers(0, 2**62), st.integers(0, 2**40), st.integers(0, 2**40), st.sampled_from(["pipeline", "x"])
)
angles = hnp.arrays(np.float64, 2, elements=st.floats(-1, 1))
mirrors = st.builds(MirrorState, stamps, angles, st.booleans(), st.sampled_from(["readback", "model"]))
images = st.one_of(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))),
)
frames = st.builds(
    Frame,
    stamps,
    images,
    st.sampled_from(["Mono8", "BGR8"]),
    st.integers(0, 2**40),
    st.integers(0, 9),
    st.none() | mirrors,
)


@st.composite
def boxes(draw: st.DrawFn) -> Boxes:
    n = draw(st.integers(0, 5))
    floats = st.floats(-1e3, 1e3, width=32)
    four = hnp.arrays(np.float32, (n, 4), elements=floats)
    return Boxes(
        draw(stamps), draw(four), draw(four), draw(hnp.arrays(np.float32, n, elements=st.floats(0, 1, width=32))),
        draw(hnp.arrays(np.int32, n, elements=st.integers(0, 3))), ("a", "b"), 640, 480, draw(st.integers(0, 99)),
        draw(st.none() | mirrors),
    )  # fmt: skip


@st.composite
def objects(draw: st.DrawFn) -> Objects:
    n = draw(st.integers(0, 4))
    pairs = hnp.arrays(np.float64, (n, 2), elements=st.floats(-2, 2))
    return Objects(
        draw(stamps), np.arange(n, dtype=np.int64) * 2**40, np.zeros(n, np.int32), draw(pairs), draw(pairs),
        draw(pairs),
        np.full(n, 0.1), np.ones(n, np.int32), ("vehicle",),
    )  # fmt: skip


maps = st.builds(
    ProbabilityMap, stamps, hnp.arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32)),
    st.floats(-1, 1), st.floats(-1, 1), st.floats(0.001, 0.1),
)  # fmt: skip
gazes = st.builds(Gaze, stamps, angles, st.integers(0, 2**50), st.floats(0, 9), st.sampled_from(["search", "revisit"]))


def same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, Message):
        return type(a) is type(b) and all(same(getattr(a, n), getattr(b, n)) for n in a.__dataclass_fields__)
    return a == b


@given(st.one_of(frames, boxes(), objects(), maps, gazes, mirrors))
def test_what_is_written_is_what_is_read(message: Message) -> None:
    coder = codec_of(type(message))
    assert same(coder.decode(b"".join(coder.encode(message, 10**18))), message)


@given(frames)
def test_arrays_of_messages_are_read_only(frame: Frame) -> None:
    again = codec_of(Frame).decode(b"".join(codec_of(Frame).encode(frame)))
    assert isinstance(again, Frame)
    assert not frame.image.flags.writeable and not again.image.flags.writeable


def test_a_viewer_finds_the_fields_of_its_schema() -> None:
    """Read by the field numbers of the published schemas alone."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    frame = Frame(Stamp(5), np.arange(12, dtype=np.uint8).reshape(3, 4), "Mono8", 1)
    coder = codec_of(Frame)
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(coder.schema_data).file:
        pool.Add(file)
    image = message_factory.GetMessageClass(pool.FindMessageTypeByName(coder.schema_name))
    read = image.FromString(b"".join(coder.encode(frame, 1_000_000_000)))
    assert (read.width, read.height, read.step, read.encoding) == (4, 3, 4, "mono8")  # type: ignore[attr-defined]
    assert read.data == bytes(range(12))  # type: ignore[attr-defined]
    assert read.timestamp.ToNanoseconds() == 1_000_000_005  # type: ignore[attr-defined]
    numbers = {f.name: f.number for f in read.DESCRIPTOR.fields}
    assert numbers == {
        "timestamp": 1,
        "width": 2,
        "height": 3,
        "encoding": 4,
        "step": 5,
        "data": 6,
        "frame_id": 7,
        "foveate": 100,
    }
