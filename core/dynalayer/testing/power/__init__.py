"""Power cuts: what a program did to its files is recorded, and played back to any moment as a cut would leave it.

`Recorder` runs a program and writes down every call that changes files below a folder, whoever in the process makes it:
Python, SQLite or any other library in C. `Disk` plays that back and leaves what a power cut then could have left: what
was not flushed is lost, or a part of it, or torn at a sector; a name that a folder got or lost is only certain once
the folder was flushed. For adapters and event logs that keep files::

    recorder = Recorder(tmp_path / "recorder")                      # compiled here: Linux and a C compiler are needed
    recording = recorder.run([sys.executable, "writer.py", str(folder)], folder)
    disk, rng = Disk(recording), random.Random(7)
    for number, operation in enumerate(recording.operations):
        disk.apply(operation)
        disk.cut(tmp_path / f"cut-{number}", rng.choice(STYLES), rng)
        ...                                 # open what is there: is all that was acknowledged by then in it?

What the program told by then stands in a file below the same folder: `disk.now("told")`.
"""

from __future__ import annotations

from dynalayer.testing.power.disk import STYLES, Disk, Style
from dynalayer.testing.power.recording import Operation, Recorder, Recording

__all__ = ["STYLES", "Disk", "Operation", "Recorder", "Recording", "Style"]
