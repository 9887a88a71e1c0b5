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

HEADER = struct.Struct(">QBxxxI")
"""Nanoseconds since the epoch; the stream (1: stdout, 2: stderr); length of what follows in bytes."""

NAMES = {1: "stdout", 2: "stderr"}


class Log:
    """Appends to `file_name` in the directory that `directory` is a descriptor of (owned), and rotates it to
    `file_name.1`, … when it would grow beyond `max_size` bytes, keeping `max_files` in all."""

    file_name = "local.log"

    def __init__(self, directory: int, max_size: int, max_files: int) -> None:
        self._directory, self._max_size, self._max_files = directory, max_size, max_files
        self._file = -1
        self._open()

    def write(self, stream: int, chunk: bytes) -> None:
        """Appends what came out of `stream` (1 or 2). Raises `OSError` where the disk is full."""
        parts = self.format(stream, chunk, time.time_ns())
        length = sum(map(len, parts))
        if self._size and self._size + length > self._max_size:
            self._rotate()
        self._size += os.writev(self._file, parts)

    def format(self, stream: int, chunk: bytes, now: int) -> list[bytes]:
        """The record of a chunk, in parts."""
        return [HEADER.pack(now, stream, len(chunk)), chunk]

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
        names = [self.file_name, *(f"{self.file_name}.{number}" for number in range(1, self._max_files))]
        for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
            try:
                os.rename(newer, older, src_dir_fd=self._directory, dst_dir_fd=self._directory)
            except FileNotFoundError:
                pass
        if len(names) == 1:
            os.unlink(self.file_name, dir_fd=self._directory)
        self._open()


class JsonLog(Log):
    """Docker's `json-file`: `{"log": "text\\n", "stream": "stdout", "time": "…Z"}`, one object a line of output."""

    file_name = "json.log"

    def format(self, stream: int, chunk: bytes, now: int) -> list[bytes]:
        """One JSON object a line; a chunk's last line may lack its end, as Docker's partial lines do."""
        seconds, nanoseconds = divmod(now, 1_000_000_000)
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}Z"
        rest = f',"stream":"{NAMES[stream]}","time":"{at}"}}\n'
        lines = chunk.decode(errors="replace").splitlines(keepends=True)
        return ["".join(f'{{"log":{quoted(line)}{rest}' for line in lines).encode()]


DRIVERS = {"local": Log, "json-file": JsonLog}
