"""How every node comes by its model: manifest, hash, backend, and the proof that it computes what it should."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveate import catalog
from foveate.errors import ModelError
from foveate_drivers.backends import onnx_file
from foveate_drivers.backends.base import Backend
from foveate_drivers.backends.manifest import Manifest

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model whose hash is the manifest's, on a backend that runs; `manifest` is None where there is none."""

    model: Path
    backend: Backend
    manifest: Manifest | None

    def prove(self) -> None:
        """Raises ModelError where the golden output is not what the backend gives."""
        if self.manifest is not None:
            self.manifest.prove(self.model, self.backend)


def known_backends() -> list[str]:
    """Names that `backend:` of a node may have, besides `auto`."""
    return sorted(key.split(".", 1)[1] for key in catalog.listing("drivers") if key.startswith("backend."))


def load(model: Path, *, backend: str = "onnx", provider: str = "", threads: int = 1, held: bool = True) -> Loaded:
    """Raises ModelError (another hash, files outside its folder, not to be run), BackendMissing, NotSupported.

    `backend` is a name of the entry points `backend.NAME`, or `auto`: what the board's profile says of this model.
    `held`: a model without manifest is held against onnxruntime once; one with a manifest has its golden pair.
    """
    manifest = Manifest.beside(model)
    if manifest is not None:
        manifest.verify(model)
    if backend == AUTO:
        from foveate_drivers.backends.profile import chosen

        backend, provider, threads = chosen(model, provider, threads)
    kind: type[Backend] = catalog.load("drivers", f"backend.{backend}")
    takes_onnx = ".onnx" in kind.suffixes  # whatever the file is called
    if takes_onnx and model.is_file():
        onnx_file.refuse_escapes(model)
    made = kind(model, provider=provider, threads=threads)
    if held and manifest is None and backend != "onnx" and takes_onnx:
        from foveate_drivers.backends.parity import hold

        hold(model, backend, made)
    return Loaded(model, made, manifest)


def load_known(
    model: Path, doing: str, options: Mapping[str, Any], *, missing: str = "", unknown: str = ""
) -> tuple[Manifest, Loaded]:
    """`load` for what cannot do without a manifest. `doing`: what fails without; `missing`: what makes such a file;
    `unknown`: what to say where there is no manifest."""
    if missing and not model.is_file():
        raise ModelError(str(model), doing, f"no such file; {missing}")
    if Manifest.beside(model) is None:
        text = unknown or f"no manifest {model.with_suffix('.json').name} beside it"
        raise ModelError(str(model), doing, text)
    loaded = load(model, **options)
    assert loaded.manifest is not None
    return loaded.manifest, loaded
