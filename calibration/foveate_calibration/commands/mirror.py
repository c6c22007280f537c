"""`foveate calibrate mirror`."""

from __future__ import annotations

import argparse

from foveate_calibration import arguments
from foveate_calibration.commands import rig

_EXAMPLES = """  foveate calibrate mirror logs/boards.mcap --board charuco:17x13:30mm:14mm:DICT_5X5_250 -o mirror.yaml
  foveate calibrate mirror logs/boards.mcap --board charuco:17x13:30mm:14mm:DICT_5X5_250 --residual gaussian_process"""


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Its arguments."""
    text = "a camera behind one or two galvanometer mirrors, from a recording of boards"
    parser = arguments.action(actions, "mirror", text, _EXAMPLES)
    rig.add_recording(parser, light=False)
    rig.add_fit(parser)
    parser.add_argument("--residual", default="best", choices=("best", "physical", "polynomial", "gaussian_process"),
                        help="what is added to the physical model (default: the best on held-out views)")  # fmt: skip
    arguments.add_output(parser, "mirror.yaml")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read, fit, write, tell."""
    from foveate_calibration.procedures.mirror import fit_mirror
    from foveate_calibration.procedures.rig_document import rig_document

    free = rig.free_names(options)  # before the long reading
    reading = rig.read(options, None)
    fit = fit_mirror(
        reading.views, reading.camera, machined=options.machined, free_lens=free,
        residual=options.residual, tell=arguments.tell,
    )  # fmt: skip
    came = {**rig.came_from(options, reading, "mirror"), "residual": fit.chosen}
    calibration = rig_document(fit.rig, came, fit.camera)
    compared = {name.replace("_", " "): f"{px:.4f} px on held-out views" for name, px in fit.held_out_px.items()}
    told = {**rig.lines(fit.rig), **compared, "chosen": fit.chosen.replace("_", " ")}
    title = f"Mirror, {len(fit.rig.problem.views)} views of {options.board}"
    return arguments.finish(options, calibration, title, rig.shown(fit.rig), fit.rig.removed, (), told)
