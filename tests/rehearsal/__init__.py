"""The modelled fleet: vehicles, runs, and the engine as a rule of them."""
