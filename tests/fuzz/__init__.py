"""Hostile bytes, made from numbers: whoever reads what others wrote must refuse it by its own errors, and soon.

`mutations` makes a case from a number, `subjects` says what reads it and by which errors it may refuse. The short form
is in `test_fuzz`; `make fuzz` goes on for ten minutes. A case that fails is repeated by its number.
"""
