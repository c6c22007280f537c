"""foveate: edge and robotics vision as a YAML graph of typed nodes.

The names here are the public interface; each is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveate.checking import load_graph as load_graph
    from foveate.device import Device as Device
    from foveate.errors import FoveateError as FoveateError
    from foveate.errors import GraphError as GraphError
    from foveate.messages import Boxes as Boxes
    from foveate.messages import CameraInfo as CameraInfo
    from foveate.messages import DepthFrame as DepthFrame
    from foveate.messages import Events as Events
    from foveate.messages import Frame as Frame
    from foveate.messages import Gaze as Gaze
    from foveate.messages import Imu as Imu
    from foveate.messages import LaserState as LaserState
    from foveate.messages import Message as Message
    from foveate.messages import MirrorState as MirrorState
    from foveate.messages import Objects as Objects
    from foveate.messages import Pose as Pose
    from foveate.messages import ProbabilityMap as ProbabilityMap
    from foveate.messages import Stamp as Stamp
    from foveate.node import Folder as Folder
    from foveate.node import Node as Node
    from foveate.node import Problem as Problem
    from foveate.node import Unit as Unit
    from foveate.recording import Recording as Recording
    from foveate.run import Run as Run

_HOME = {
    "Boxes": "messages",
    "CameraInfo": "messages",
    "DepthFrame": "messages",
    "Device": "device",
    "Events": "messages",
    "Folder": "node",
    "FoveateError": "errors",
    "Frame": "messages",
    "Gaze": "messages",
    "GraphError": "errors",
    "Imu": "messages",
    "LaserState": "messages",
    "Message": "messages",
    "MirrorState": "messages",
    "Node": "node",
    "Objects": "messages",
    "Pose": "messages",
    "ProbabilityMap": "messages",
    "Problem": "node",
    "Recording": "recording",
    "Run": "run",
    "Stamp": "messages",
    "Unit": "node",
    "load_graph": "checking",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'foveate' has no attribute {name!r}")
    return getattr(import_module(f"foveate.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
