"""The demonstration: one data folder, 200 vehicles, a good release, a bad one, and an audit of everyone's records."""

from agent_sim.demo.story import run_demo

__all__ = ["run_demo"]
