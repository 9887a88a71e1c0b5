"""A container's log: files in its directory, written a chunk of output at a time, rotated by size.

`local` (the default) keeps the output as it came: records of a header `(time, stream, length)` and so many bytes, so
that writing costs one system call a chunk, however many lines it has. `json-file` writes Docker's JSON object a line,
for collectors that read such files.
"""

from __future__ import annotations

import os
import struct
import time
from _json import encode_basestring as quoted  # `json` is slow to import

HEADER = struct.Struct(">QBBxxI")
"""Nanoseconds since the epoch; the stream (1: stdout, 2: stderr); 1 where it goes on with a line begun before, whose
beginning a rotation may have taken away; length of what follows in bytes."""

NAMES = {1: "stdout", 2: "stderr"}
_LONGEST_LINE = 16 << 10
"""Bytes of a line that are kept back until it ends; Docker's number."""


class Log:
    """Appends to `file_name` in the directory that `directory` is a descriptor of (owned), and rotates it to
    `file_name.1`, … when it would grow beyond `max_size` bytes, keeping `max_files` in all."""

    file_name = "local.log"

    def __init__(self, directory: int, max_size: int, max_files: int) -> None:
        self._directory, self._max_size, self._max_files = directory, max_size, max_files
        self._file = -1
        self._amid_line = {1: False, 2: False}
        self._open()

    @classmethod
    def names(cls, max_files: int) -> list[str]:
        """Of the files there may be, the newest first."""
        return [cls.file_name, *(f"{cls.file_name}.{number}" for number in range(1, max_files))]

    def write(self, stream: int, chunk: bytes) -> None:
        """Appends what came out of `stream` (1 or 2). Raises `OSError` where the disk is full."""
        parts = self.format(stream, chunk, time.time_ns())
        length = sum(map(len, parts))
        if length > self._max_size and 0 < (middle := _end_of_line_amid(chunk)) < len(chunk):
            self.write(stream, chunk[:middle])
            self.write(stream, chunk[middle:])
            return
        if self._size and self._size + length > self._max_size:
            self._rotate()
        self._size += os.writev(self._file, parts)
        self._amid_line[stream] = not chunk.endswith(b"\n")

    def format(self, stream: int, chunk: bytes, now: int) -> list[bytes]:
        """The record of a chunk, in parts."""
        return [HEADER.pack(now, stream, self._amid_line[stream], len(chunk)), chunk]

    def close(self) -> None:
        """Closes the file and the directory."""
        os.close(self._file)
        os.close(self._directory)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(self.file_name, flags, 0o640, dir_fd=self._directory)
        self._size = os.fstat(self._file).st_size

    def _rotate(self) -> None:
        os.close(self._file)
        names = self.names(self._max_files)
        for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
            try:
                os.rename(newer, older, src_dir_fd=self._directory, dst_dir_fd=self._directory)
            except FileNotFoundError:
                pass
        if len(names) == 1:
            os.unlink(self.file_name, dir_fd=self._directory)
        self._open()


def _end_of_line_amid(chunk: bytes) -> int:
    """Where a line ends that is near the middle; 0 where no line ends."""
    middle = len(chunk) // 2
    return (chunk.rfind(b"\n", 0, middle) + 1) or (chunk.find(b"\n", middle) + 1)


class JsonLog(Log):
    """Docker's `json-file`: `{"log": "text\n", "stream": "stdout", "time": "…Z"}`, one object a line of output."""

    file_name = "json.log"

    def __init__(self, directory: int, max_size: int, max_files: int) -> None:
        super().__init__(directory, max_size, max_files)
        self._begun = {1: b"", 2: b""}

    def write(self, stream: int, chunk: bytes) -> None:
        """As above; a line that has no end yet waits for it."""
        whole, end, rest = (self._begun[stream] + chunk).rpartition(b"\n")
        if len(rest) > _LONGEST_LINE:
            whole, end, rest = whole + end + rest, b"", b""
        self._begun[stream] = rest
        if whole or end:
            super().write(stream, whole + end)

    def format(self, stream: int, chunk: bytes, now: int) -> list[bytes]:
        """One JSON object a line; the last line may lack its end, as Docker's partial lines do."""
        seconds, nanoseconds = divmod(now, 1_000_000_000)
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}Z"
        rest = f',"stream":"{NAMES[stream]}","time":"{at}"}}\n'
        *whole, last = chunk.decode(errors="replace").split("\n")
        lines = [*(f"{line}\n" for line in whole), *([last] if last else [])]
        return ["".join(f'{{"log":{quoted(line)}{rest}' for line in lines).encode()]

    def close(self) -> None:
        for stream, rest in self._begun.items():
            if rest:
                super().write(stream, rest)
        super().close()


DRIVERS = {"local": Log, "json-file": JsonLog}
