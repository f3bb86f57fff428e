"""Rules compared on modelled fleets: what each would have cost, on the same seeds."""
