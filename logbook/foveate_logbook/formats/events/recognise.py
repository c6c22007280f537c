"""Which event format a file is in, by what it holds."""

from __future__ import annotations

from pathlib import Path

from foveate.errors import RecordingError
from foveate_logbook.formats.events import prophesee
from foveate_logbook.formats.events.base import EventReader
from foveate_logbook.formats.events.dat import DatFile
from foveate_logbook.formats.events.dsec_hdf5 import MAGIC as HDF5_MAGIC
from foveate_logbook.formats.events.dsec_hdf5 import DsecFile
from foveate_logbook.formats.events.es import MAGIC as ES_MAGIC
from foveate_logbook.formats.events.es import EsFile
from foveate_logbook.formats.events.evt2 import Evt2File
from foveate_logbook.formats.events.evt3 import Evt3File
from foveate_logbook.formats.events.text import TextFile, layout_of

KINDS = "events in EVT2, EVT3, DAT, AEDAT4, Event Stream, HDF5 of DSEC and text"
_AEDAT = b"#!AER-DAT"
_WORDS = {"EVT2": Evt2File, "EVT3": Evt3File, "DAT": DatFile}
_NMNIST = {".bin", ".bs2"}  # records of five bytes without a head: nothing but the name tells
_HEAD = 1 << 14


def reader_of(path: Path, unit: str | None = None) -> EventReader | None:
    """A reader of the events in a file, None where it holds none.

    `unit`: of a text's times. Raises RecordingError for event files of a kind that is not read, BackendMissing.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    if head.startswith(_AEDAT):
        return _aedat(path, head)
    if head.startswith(ES_MAGIC):
        return EsFile(path)
    if head.startswith(b"%"):
        values, _ = prophesee.head_of(path)
        form = prophesee.format_of(values)
        if form in _WORDS:
            return _WORDS[form](path)
        if form:
            raise RecordingError(f"{path}: events in {form}: of Prophesee's formats EVT2, EVT3 and DAT are read")
    if head.startswith(HDF5_MAGIC):
        return DsecFile(path)
    if head.startswith(b"MATLAB "):
        raise RecordingError(f"{path}: a MATLAB file: events are not read from it; write text, 't x y p' a line")
    if path.suffix.lower() in _NMNIST and path.stat().st_size % 5 == 0 and head:
        raise RecordingError(f"{path}: by its name and size events of N-MNIST (5 bytes each, no head): not read; "
                             f"tonic or faery convert them")  # fmt: skip
    return TextFile(path, unit) if layout_of(head) is not None else None


def _aedat(path: Path, head: bytes) -> EventReader:
    version = head[len(_AEDAT) : len(_AEDAT) + 3].decode("ascii", "replace")
    if not version.startswith("4"):
        raise RecordingError(f"{path}: an AEDAT file of version {version}: 4 is read; dv-processing converts it")
    from foveate_logbook.formats.events.aedat4 import Aedat4File

    return Aedat4File(path)
