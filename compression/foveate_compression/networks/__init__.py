"""Small networks that the compression toolkit is measured and tested on; each takes images of 0 to 1."""
