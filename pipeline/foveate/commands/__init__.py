"""One module a command of `foveate`; each is imported only when its command is used."""
