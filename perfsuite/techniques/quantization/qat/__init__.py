"""Quantization-aware training: layers that compute in float on what their quantized layers will hold."""
