"""AVI, MP4, MOV and MKV through PyAV, decoded as frames are asked for."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np

from jaxmicro.data.read.stack import Axis, LazyFrames, Stack, colour_dtype, saturation_of
from jaxmicro.errors import DataError

# Going forward by fewer frames than this decodes them; further, or backward, seeks a key frame.
_DECODE_AT_MOST = 50


def failures() -> tuple[type[Exception], ...]:
    import av

    return av.FFmpegError, OSError, ValueError, IndexError, RuntimeError


def open_video(path: Path, select: str | None = None) -> Stack:
    """Frames of the first video stream with the times the file plays them at."""
    reader = _Reader(path)
    try:
        first = reader.read(0)
        dtype, warnings = colour_dtype(first, path.name)
        n = len(reader.times_s)
        shape = (n, first.shape[0], first.shape[1])
        frames = LazyFrames(reader.read, shape, dtype)
    except BaseException:
        reader.close()
        raise
    weakref.finalize(frames, reader.close)
    step = np.diff(reader.times_s)
    axis = Axis("t", n, unit="s", values=reader.times_s)
    if n > 1 and np.allclose(step, step[0], rtol=1e-2, atol=1e-3):
        interval = float(reader.times_s[-1] - reader.times_s[0]) / (n - 1)
        axis = Axis("t", n, interval, "s", float(reader.times_s[0]))
    if n > 1:
        warnings = (
            *warnings,
            f"times are those at which the video plays ({1.0 / np.median(step):.4g} frames/s); "
            "give --frame-interval if it was recorded at another rate",
        )
    return Stack(
        frames,
        (axis, Axis("y", shape[1]), Axis("x", shape[2])),
        f"video ({reader.codec})",
        saturation_of(first.dtype, reader.bits),
        (*warnings, *reader.warnings),
    )


class _Reader:
    """One open video: decodes on where it can, seeks where it must."""

    def __init__(self, path: Path):
        import av

        self._path = path
        self.warnings: list[str] = []
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path}: there is no picture track in it")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise DataError(f"{path}: the video's codec is not known; save it as MP4 or TIFF")
            self.codec, announced = str(stream.codec_context.name), int(stream.frames)
            self._base = stream.time_base
            stamps = [p.pts for p in container.demux(stream) if p.size]
            rate = float(stream.average_rate or 25)
            duration_s = 0.0 if container.duration is None else container.duration / av.time_base
        if not stamps:
            raise DataError(f"{path}: the video holds no frames; it may be truncated")
        if len(stamps) < 0.9 * announced:
            raise DataError(
                f"{path}: the video announces {announced} frames and holds {len(stamps)}; "
                "it is truncated, copy it again"
            )
        if len(stamps) != announced and announced:
            self.warnings.append(
                f"the video announces {announced} frames, {len(stamps)} were found"
            )
        # Without time stamps of its own a stream can only be counted through from its start.
        self._stamps = sorted(p for p in stamps if p is not None)
        self._stamped = len(set(self._stamps)) == len(stamps)
        if self._stamped:
            self.times_s = np.array(
                [float((p - self._stamps[0]) * self._base) for p in self._stamps]
            )
        else:
            self.times_s = np.arange(len(stamps)) / rate
        if not announced and self.times_s[-1] + 2.0 / rate < 0.9 * duration_s:
            raise DataError(
                f"{path}: the video announces {duration_s:.4g} s and its last frame is at "
                f"{self.times_s[-1]:.4g} s; it is truncated, copy it again"
            )
        self.bits: int | None = None
        self._container: Any = None
        self._next = 0
        self._frames: Any = iter(())
        self._restart(0)

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def read(self, t: int) -> np.ndarray:
        """Frame t as (y, x) or (y, x, 3)."""
        if t < self._next or t - self._next > _DECODE_AT_MOST:
            self._restart(t)
        for frame in self._frames:
            if self._stamped and frame.pts is not None:
                found = int(np.searchsorted(self._stamps, frame.pts))
            else:
                found = self._next
            self._next = found + 1
            if found >= t:
                if found > t:
                    break
                return self._pixels(frame)
        raise DataError(f"{self._path}: frame {t} cannot be decoded; the video is damaged there")

    def _restart(self, t: int) -> None:
        import av

        self.close()
        self._container = av.open(str(self._path))
        stream = self._container.streams.video[0]
        stream.thread_type = "AUTO"
        self._next = 0
        if self._stamped and t > 0:
            self._container.seek(self._stamps[t], stream=stream, backward=True)
        self._frames = self._container.decode(stream)

    def _pixels(self, frame: Any) -> np.ndarray:
        if not frame.format.name.startswith("gray"):
            return frame.to_ndarray(format="rgb24")
        if frame.format.name == "gray":
            return frame.to_ndarray()
        self.bits = int(frame.format.components[0].bits)
        return frame.to_ndarray()
