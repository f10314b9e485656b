"""How many iterations a call makes: the one number that an injected slowdown changes."""

INNER = 20
