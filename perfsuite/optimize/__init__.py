"""The techniques as people ask for them: one config, one object, one call; and what they realize, measured."""
