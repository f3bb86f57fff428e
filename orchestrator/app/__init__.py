"""The composition root: builds the parts, starts them, drains them. `supervisor.serve` is its front door.

Re-exports nothing: each child is started as a module of this package, and must not load what only the supervisor needs.
"""
