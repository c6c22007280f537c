"""Hardware behind small interfaces: each family has real devices and a simulated twin."""
