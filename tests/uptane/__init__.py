"""Uptane by requirement and by attack: what there is to prove, who proves it, and the page that says so."""
