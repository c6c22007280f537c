"""The same hop in other frameworks; these files run in the peers' own environments, without foveate."""
