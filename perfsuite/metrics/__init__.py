"""The metrics that come with perfsuite, as declarations: importing them imports no torch. One file for each family."""
