"""What quantization-aware training gives back of the accuracy that quantization takes, on handwritten digits.

For each seed a small encoder is trained on scikit-learn's digits. From there three arms are trained further on the same
batches in the same order, so that none has the advantage of more training: in float, which is then left in float (fp32)
or quantized (PTQ), and through fake quantization, which is then converted (QAT). The share that is recovered,
(QAT - PTQ) / (fp32 - PTQ), has Fieller's interval over seeds; it is undefined where fp32 - PTQ is not above its noise.
``torchao-2`` is torchao's IntxWeightOnlyConfig of that many bits, in groups of 64 as ours are, where torchao is
installed. (Its QATConfig takes no int8 activations with int8 weights.)

    .venv/bin/python benchmarks/qat.py                                    # some minutes for each seed
    .venv/bin/python benchmarks/qat.py --techniques weight-only-2 --seeds 0,1,2
"""

import argparse
import copy
import math
import statistics
import sys
import warnings

from perfsuite import FidelityWarning, convert_qat, parse_technique, prepare_qat
from perfsuite.models.digits import Digits, fine_tune, trained_encoder
from perfsuite.stats.decision import student_t_quantile

TECHNIQUES = "weight-only-2,weight-only-3,weight-only-4,int8-static"
EPOCHS, LEARNING_RATE = 2, 5e-4
CONFIDENCE = 0.95


class Ours:
    """A technique: what it makes of a model, and how that is trained for."""

    def __init__(self, name):
        self.technique, self.data = parse_technique(name), Digits().calibration()

    def quantized(self, model):
        return self.technique.apply(model, data=self.data)

    def prepared(self, model):
        return prepare_qat(model, self.technique, self.data)

    def converted(self, model):
        return convert_qat(model)


class Torchao:
    """The same of torchao, which changes models in place."""

    def __init__(self, name):
        import torch
        from torchao.quantization import IntxWeightOnlyConfig, PerGroup, quantize_
        from torchao.quantization.qat import QATConfig

        base = IntxWeightOnlyConfig(getattr(torch, f"int{name.removeprefix('torchao-')}"), PerGroup(64))
        self._do, self._base, self._config = quantize_, base, QATConfig

    def quantized(self, model):
        return self._changed(model, self._base)

    def prepared(self, model):
        return self._changed(model, self._config(self._base, step="prepare"))

    def converted(self, model):
        return self._changed(model, self._config(self._base, step="convert"))

    def _changed(self, model, config):
        result = copy.deepcopy(model)
        self._do(result, config)
        return result


def accuracies(names, seed, epochs):
    """By technique, the accuracy in fp32, after PTQ and after QAT, of one seed."""
    task, model = Digits(), trained_encoder(seed)

    def trained(arm):
        fine_tune(arm, epochs, LEARNING_RATE, seed)
        return arm.eval()

    def accuracy(arm):
        return task.score(arm.eval()).accuracy

    in_float = trained(copy.deepcopy(model))
    for name in names:
        arm = Torchao(name) if name.startswith("torchao") else Ours(name)
        through = arm.converted(trained(arm.prepared(model)))
        yield name, (accuracy(in_float), accuracy(arm.quantized(in_float)), accuracy(through))


def recovered(fp32, ptq, qat):
    """(share, low, high) over seeds, by Fieller's theorem; None where what was lost is not above its noise."""
    gained = [q - p for p, q in zip(ptq, qat, strict=True)]
    lost = [f - p for f, p in zip(fp32, ptq, strict=True)]
    n, a, b = len(lost), statistics.mean(gained), statistics.mean(lost)
    if n < 2 or b <= 0:
        return None
    t = student_t_quantile((1 + CONFIDENCE) / 2, n - 1)
    var_a, var_b = statistics.variance(gained) / n, statistics.variance(lost) / n
    both = statistics.covariance(gained, lost) / n
    g, share = t * t * var_b / b**2, a / b
    if g >= 1:
        return None
    slope = both / var_b if var_b else 0.0
    center = (share - g * slope) / (1 - g)
    inside = var_a - 2 * share * both + share**2 * var_b - g * (var_a - slope * both)
    reach = t / (b * (1 - g)) * math.sqrt(max(inside, 0.0))
    return share, center - reach, center + reach


def line(name, rows):
    fp32, ptq, qat = zip(*rows, strict=True)
    found = recovered(fp32, ptq, qat)
    means = "  ".join(f"{statistics.mean(arm):6.2%}" for arm in (fp32, ptq, qat))
    share = "undefined" if found is None else "{:.0%} ({:.0%} to {:.0%})".format(*found)
    return f"{name:16} {means}  {share}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--techniques", default=TECHNIQUES)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    warnings.simplefilter("ignore", FidelityWarning)  # accuracy is what is looked at here
    rows = {name: [] for name in options.techniques.split(",")}
    for seed in map(int, options.seeds.split(",")):
        for name, row in accuracies(rows, seed, options.epochs):
            rows[name].append(row)
            print(f"seed {seed}: {name} {row}", file=sys.stderr)
    print(f"{'technique':16} {'fp32':>6}  {'PTQ':>6}  {'QAT':>6}  recovered, {CONFIDENCE:.0%}; seeds {options.seeds}")
    for name, found in rows.items():
        print(line(name, found))


if __name__ == "__main__":
    main()
