"""All entries of the zoo."""

from tests.zoo import audio, decoders, encoder_decoders, encoders, modules, multimodal, vision

FAMILIES = {
    "encoders": encoders.ENTRIES,
    "decoders": decoders.ENTRIES,
    "encoder-decoders": encoder_decoders.ENTRIES,
    "images and videos": vision.ENTRIES,
    "sound and series": audio.ENTRIES,
    "several kinds of input": multimodal.ENTRIES,
    "plain torch": modules.ENTRIES,
}
ENTRIES = tuple(entry for entries in FAMILIES.values() for entry in entries)
