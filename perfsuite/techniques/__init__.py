"""The techniques: ``values`` says what they are (no torch), the other files how they are done."""
