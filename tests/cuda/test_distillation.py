"""Distillation and quantization-aware training of models on a GPU."""

import pytest
import torch

from perfsuite import DistillationLoss, convert_qat, distill, prepare_qat
from perfsuite.measure.outputs import fidelity
from tests.distillation.small import encoder, examples, teacher, weights
from tests.distillation.test_resume import Stop, StopsAt


def run(device, number=0, **options):
    return distill(
        teacher().to(device), encoder(dropout=0.3).to(device), examples(), epochs=2, learning_rate=1e-2,
        loss=StopsAt(number), **options,
    )  # fmt: skip


def test_a_student_on_a_gpu_learns_from_its_teacher(cuda):
    student, loss = encoder(2, dropout=0.0).to(cuda), DistillationLoss(alpha=1)
    found = distill(teacher().to(cuda), student, examples(64), epochs=30, learning_rate=3e-2, loss=loss)
    assert found.losses[-1] < found.losses[0] / 4
    assert next(found.student.parameters()).device.type == "cuda"


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(cuda, tmp_path):
    whole = run(cuda)
    with pytest.raises(Stop):
        run(cuda, 6, checkpoint=tmp_path, every=1)
    found = run(cuda, checkpoint=tmp_path, every=1)
    assert found.resumed > 0
    assert torch.equal(weights(found.student), weights(whole.student))


@pytest.mark.parametrize("technique", ["int8-dynamic", "int8-static"])
def test_a_model_that_is_trained_for_integers_is_converted_there(cuda, technique):
    model, data = encoder(dropout=0.0).to(cuda).eval(), examples()
    tokens = torch.randint(0, 20, (8, 6), generator=torch.Generator().manual_seed(0)).to(cuda)
    prepared = prepare_qat(model, technique, data=[(tokens,)])
    distill(teacher().to(cuda), prepared, data, steps=4, learning_rate=1e-3)
    converted = convert_qat(prepared.eval())
    with torch.no_grad():
        found = fidelity(prepared(tokens).double().cpu(), converted(tokens).double().cpu())
    assert found["sqnr"] >= 40
