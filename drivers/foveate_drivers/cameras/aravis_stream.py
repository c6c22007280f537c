"""Frames of an Aravis stream as arrays that hold their buffers: nothing is copied, nothing overwritten.

A buffer leaves the stream when its frame is read and comes back when the last array on it is gone; meanwhile the
stream gets another, so it always has as many to fill. One copy instead would cost 3 us at 512 px and 0.13 ms at
2048 px (benchmarks/gige.py).
"""

from __future__ import annotations

import ctypes
import weakref
from collections import deque
from ctypes import byref, c_size_t, c_uint64

import numpy as np
from numpy.typing import NDArray

from foveate_drivers.cameras.aravis import COMPLETE, Aravis
from foveate_drivers.cameras.genicam import Block

_AUTO = ctypes.c_int(1)  # ArvGvStreamSocketBuffer
_SPARE = 4  # buffers kept for reuse beyond those in the stream


class _Held:
    """A buffer's memory for numpy; whatever array or view is made of it keeps this alive."""

    __slots__ = ("__array_interface__", "__weakref__")

    def __init__(self, address: int, size: int) -> None:
        self.__array_interface__ = {"data": (address, False), "shape": (size,), "typestr": "|u1", "version": 3}


class AravisStream:
    """A started stream with its buffers. One thread pops; arrays may be dropped in any."""

    def __init__(self, aravis: Aravis, camera: int, payload: int, buffers: int, packet_bytes: int | None) -> None:
        """`packet_bytes`: of the image in a packet, where what incomplete frames miss is to be found; else None."""
        self._aravis = aravis
        self._c = aravis.c
        self._payload = payload
        self._buffers = buffers
        self._packet_bytes = packet_bytes
        # Aravis does not tell which packets are missing: buffers go out full of noise, and where a packet's place
        # still holds it none came
        self._noise = np.random.default_rng(0).integers(0, 256, payload if packet_bytes else 0, np.uint8)
        self._inside = 0  # buffers that the stream has
        self._returned: deque[int] = deque()
        self._closed = False
        self._stream = aravis.call("arv_camera_create_stream", camera, None, None, doing="make a stream")
        # as large as a frame, as far as net.core.rmem_max allows: its 208 kB are full after 1.7 ms at 1 Gbit/s
        self._c.g_object_set(self._stream, b"socket-buffer", _AUTO, None)
        self._fill()

    def _fill(self) -> None:
        """Give the stream as many buffers as it is to have."""
        while self._inside < self._buffers:
            buffer = self._returned.popleft() if self._returned else self._c.arv_buffer_new_allocate(self._payload)
            if self._packet_bytes:
                ctypes.memmove(self._c.arv_buffer_get_data(buffer, None), self._noise.ctypes.data, self._payload)
            self._c.arv_stream_push_buffer(self._stream, buffer)
            self._inside += 1
        while len(self._returned) > _SPARE:
            self._c.g_object_unref(self._returned.popleft())

    def pop(self, timeout_ns: int) -> Block | None:
        """The oldest block that was received, complete or not; None after the timeout."""
        self._fill()
        buffer = self._c.arv_stream_timeout_pop_buffer(self._stream, max(timeout_ns // 1000, 0))
        if not buffer:
            return None
        self._inside -= 1
        c, size = self._c, c_size_t()
        address = c.arv_buffer_get_data(buffer, byref(size))
        held = _Held(address, self._payload)
        weakref.finalize(held, self._back, buffer).atexit = False
        data = np.asarray(held)
        complete = c.arv_buffer_get_status(buffer) == COMPLETE
        missing = 0 if complete else self._blanked(data)
        shape = (0, 0, 0)  # an incomplete buffer does not tell
        if complete:
            shape = (
                c.arv_buffer_get_image_width(buffer), c.arv_buffer_get_image_height(buffer),
                c.arv_buffer_get_image_pixel_format(buffer),
            )  # fmt: skip
            data = data[: size.value]
        return Block(
            c.arv_buffer_get_frame_id(buffer), c.arv_buffer_get_timestamp(buffer),
            c.arv_buffer_get_system_timestamp(buffer), data, missing, *shape, complete,
        )  # fmt: skip

    def _blanked(self, data: NDArray[np.uint8]) -> int:
        """Make black what did not come, not what an older frame left there; how many bytes."""
        if not self._packet_bytes:
            return self._payload
        starts = np.arange(0, self._payload, self._packet_bytes)
        lengths = np.diff(starts, append=self._payload)
        absent = np.repeat(np.logical_and.reduceat(data == self._noise, starts), lengths)
        data[absent] = 0
        return int(absent.sum())

    def _back(self, buffer: int) -> None:
        """Called when the last array on a buffer is gone, by whichever thread drops it: no locks here."""
        self._returned.append(buffer)
        if self._closed:
            self._free_returned()

    def _free_returned(self) -> None:
        while True:
            try:
                self._c.g_object_unref(self._returned.popleft())
            except IndexError:
                return

    def packets(self) -> tuple[int, int, int]:
        """(packets sent again, packets missing, packets for which there was no buffer) so far."""
        resent, missing = c_uint64(), c_uint64()
        done, failed, underruns = c_uint64(), c_uint64(), c_uint64()
        self._c.arv_gv_stream_get_statistics(self._stream, byref(resent), byref(missing))
        self._c.arv_stream_get_statistics(self._stream, byref(done), byref(failed), byref(underruns))
        return resent.value, missing.value, underruns.value

    def close(self) -> None:
        """End the receiving thread; arrays that are held stay as they are."""
        if not self._closed:
            self._closed = True
            self._c.g_object_unref(self._stream)
            self._free_returned()
