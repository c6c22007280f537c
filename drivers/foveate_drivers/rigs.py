"""Devices of a rig without a graph around them, held against their drivers as a graph would."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from foveate.catalog import did_you_mean, listing
from foveate.checking import Checker
from foveate.device import Device
from foveate.errors import Fault, FoveateError, GraphError
from foveate.expansion import Expander
from foveate.flat import Setting
from foveate.graph import Built, Graph

_IT = "it"  # the only device of a rig made for one URI


def load_devices(rig: Path, wanted: Mapping[str, type[Device]], settings: list[str]) -> dict[str, Device]:
    """Devices of a rig file by name, constructed and not open, and those that they hold in turn (first).

    `wanted`: the families that the names must be of; `settings`: texts `rig.device.option=value`. Raises GraphError.
    """
    return _checked(str(rig.resolve()), wanted, settings)


def device_of(uri: str, family: type[Device], options: Mapping[str, str]) -> Device:
    """A device by its URI, constructed and not open. Raises FoveateError."""
    try:
        settings = [f"rig.{_IT}.{name}={value}" for name, value in options.items()]
        return _checked({_IT: {"uri": uri}}, {_IT: family}, settings)[_IT]
    except GraphError as error:  # places in a file that nobody wrote say nothing
        texts = [fault.text.replace(f"rig.{_IT}.", "") for fault in error.faults]
        raise FoveateError(f"{uri}: {'; '.join(texts)}") from None


def family_of(uri: str, family: str = "") -> str:
    """The family of the driver for a URI: camera, mirror ... Raises FoveateError where it must be said."""
    scheme = uri.partition(":")[0]
    known = [key.split(".", 1) for key in listing("drivers") if not key.startswith(("backend.", "truth."))]
    families = sorted({kind for kind, name in known if name == scheme})
    if family:
        return family
    if len(families) == 1:
        return families[0]
    if families:
        raise FoveateError(f"{uri}: '{scheme}:' may be a {' or a '.join(families)}; say which with --family")
    raise FoveateError(f"{uri}: no driver for '{scheme}:'{did_you_mean(scheme, {name for _, name in known})}")


def _checked(rig: Any, wanted: Mapping[str, type[Device]], settings: list[str]) -> dict[str, Device]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rig"
        path.write_text(json.dumps({"foveate": 1, "nodes": {}, "rig": rig}), encoding="utf-8")
        expander = Expander(path, [Setting.parse(text) for text in settings], [Path.cwd(), Path("/")])
        checker = Checker(expander.run(), expander)
        for name, family in wanted.items():
            if name in checker.flat.devices:
                checker.device(name, family)
            elif not checker.flat.faults:
                known = did_you_mean(name, checker.flat.devices)
                raise GraphError([Fault(str(rig), 1, 1, f"the rig has no device '{name}'{known}")])
    if checker.flat.faults:
        raise GraphError(checker.flat.told())
    specs = {name: spec for name, spec in checker.devices.items() if spec is not None}
    built = Built(Graph("rig", path, {}, (), specs), {})
    for name in specs:
        built.device(name)
    return built.devices
