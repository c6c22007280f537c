"""The actions of `foveate calibrate`: each module has `add(actions)`, and imports what it needs when it runs."""
