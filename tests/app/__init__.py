"""The composition root: ports, children, orders."""
