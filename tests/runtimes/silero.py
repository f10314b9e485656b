"""Silero's voice activity detector in torch, with the weights of an ONNX file that its makers ship (``silero-vad``).

One frame of audio (B, 576) at 16 kHz and the state (2, B, 128) of its LSTM, to the probability of speech (B, 1) and the
next state. The other files of the package hold other weights.
"""

from importlib.util import find_spec
from pathlib import Path

import onnx
import torch
from torch import nn

FRAME, STATE = 576, 128
FILE = Path(find_spec("silero_vad").origin).parent / "data" / "silero_vad_16k_op15.onnx"


class Silero(nn.Module):
    def __init__(self):
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm_cell = nn.LSTMCell(128, STATE)
        self.final_conv = nn.Conv1d(128, 1, 1)
        stored = onnx.load(FILE).graph.initializer  # in the order of the layers
        weights = [torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()) for tensor in stored]
        self.load_state_dict(dict(zip(self.state_dict(), weights, strict=True)))

    def forward(self, frame, state):
        padded = nn.functional.pad(frame, (0, 64), "reflect").unsqueeze(1)
        real, imaginary = self.stft_conv(padded).chunk(2, dim=1)  # (B, 129, T) each
        x = (real.square() + imaginary.square()).sqrt()
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = layer(x).relu()
        hidden, cell = self.lstm_cell(x.squeeze(-1), (state[0], state[1]))
        speech = self.final_conv(hidden.unsqueeze(-1).relu()).sigmoid()
        return speech.squeeze(1), torch.stack((hidden, cell))


def audio(batch, seed=0):
    """Frames of a tone that glides and is drowned in noise more and more, and a state that is not empty."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(FRAME) / 16_000
    pitch = 100 + 150 * torch.rand(batch, 1, generator=generator)
    voiced = sum(torch.sin(2 * torch.pi * k * pitch * time) / k for k in range(1, 12))
    noise = torch.randn(batch, FRAME, generator=generator)
    return 0.1 * voiced + 0.02 * noise, 0.3 * torch.randn(2, batch, STATE, generator=generator)
