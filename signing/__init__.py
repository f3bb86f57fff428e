"""Uptane for Outrider: keys, both repositories, manifests, and the verification that vehicles do.

Two trust domains: the Image repository (`image_repo`, offline keys: which images exist) and the Director (`director`,
`signer`, online keys: which vehicle shall run which of them). A vehicle believes what both say alike (`verify`), and
the server believes what each control unit signs (`manifest`). `pki` is the X.509 of the connections, which nothing
here trusts with software. Everything takes bytes and `now`; no module reads a clock.

For agents in Python there is the rest of a vehicle's side, too: `identity`, `calls`, `outbox`, `completion`,
`retrieval`, `primary`, `slots`. Of these `calls`, `outbox` and `primary` speak the wire; nothing else here imports it.
"""
