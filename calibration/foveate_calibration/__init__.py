"""Geometric models of cameras and mirrors, shared by the solvers and the simulated twins."""
