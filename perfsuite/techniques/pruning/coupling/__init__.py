"""What may be cut together in a model that no architecture describes: found by following one call, proven by another.

``examples`` finds an input, ``trace`` follows a call operator by operator, by the rules of ``layers``, ``moves`` and
``mixing``, over ``labels`` that say which unit each element belongs to. ``units`` makes groups of what was coupled,
``numbers`` finds the attributes that count them, ``proof`` compares the cut model with the masked one.
"""
