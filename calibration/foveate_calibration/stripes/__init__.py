"""Where a laser's stripe runs through an image, to a fraction of a pixel: for scanning and for calibrating."""
