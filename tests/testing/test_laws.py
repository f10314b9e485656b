"""Each law is seen to catch the defect that it is about, planted in a technique that is right otherwise."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from perfsuite import Int8Dynamic
from perfsuite.protocols import Inputs
from perfsuite.storage import Stored
from perfsuite.techniques.common import copy_finite
from perfsuite.techniques.values import Original
from perfsuite.testing import LAWS, TechniqueContract, contract
from perfsuite.testing.strategies import Sample, TiedClassifier


@dataclass(frozen=True)
class Planted(Original):
    """The identity, with one defect: ``defect(model, copy)`` returns the result."""

    defect: object = None

    def apply(self, model, *, data=None):
        return self.defect(model, copy_finite(model))


def sample():
    torch.manual_seed(0)
    return Sample(TiedClassifier(30, 8).eval(), Inputs((torch.randint(0, 30, (2, 5)),)), "tied classifier")


def changes_the_given(model, result):
    with torch.no_grad():
        model.hidden.bias += 1
    return result


def is_random(model, result):
    with torch.no_grad():
        result.hidden.bias += torch.from_numpy(__import__("numpy").random.default_rng().standard_normal(8)).float()
    return result


def returns_half(model, result):
    return result.half()


def forgets_the_mode(model, result):
    return result.train()


class NotCopyable(nn.Module):
    """Draws its noise when it is made, also when it is a copy."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.noise = torch.rand(1).item()

    def forward(self, tokens):
        return self.inner(tokens) + self.noise

    def __deepcopy__(self, memo):
        return NotCopyable(copy.deepcopy(self.inner, memo)).train(self.training)


def is_not_copyable(model, result):
    return NotCopyable(result)


def unties(model, result):
    result.output.weight = nn.Parameter(result.output.weight.detach().clone())
    return result


class Forgetful(TiedClassifier):
    """Keeps a factor that its state does not hold."""

    factor = 1.0

    def forward(self, tokens):
        return super().forward(tokens) * self.factor


def loses_state(model, result):
    forgetful = Forgetful(30, 8)
    forgetful.load_state_dict(result.state_dict())
    forgetful.factor = 2.0
    return forgetful.eval()


DEFECTS = {
    contract.leaves_the_model_untouched: changes_the_given,
    contract.is_reproducible: is_random,
    contract.keeps_shape_and_dtype: returns_half,
    contract.keeps_the_mode: forgets_the_mode,
    contract.can_be_deep_copied: is_not_copyable,
    contract.keeps_tied_parameters_tied: unties,
    contract.round_trips_through_files: loses_state,
}


def test_every_law_has_its_planted_defect():
    by_other_means = {contract.counts_what_is_stored, contract.refuses_non_finite_weights}
    assert set(DEFECTS) | by_other_means == set(LAWS)


@pytest.mark.parametrize("law", DEFECTS, ids=lambda law: law.__name__)
def test_the_law_catches_it_and_lets_the_identity_pass(law):
    law(Original(), sample())
    with pytest.raises(AssertionError):
        law(Planted(defect=DEFECTS[law]), sample())


def test_a_false_claim_about_the_file_is_caught(monkeypatch):
    """Sparsity lost on save and load: what is claimed is not what the file holds."""
    contract.counts_what_is_stored(Int8Dynamic(), sample())
    for wrong in ({"size_bytes": 1}, {"nonzeros": -1}, {"elements": 1}):
        honest = contract.count_stored

        def lies(model, honest=honest, wrong=wrong):
            claimed = {**honest(model).__dict__}
            return Stored(**{name: value + wrong.get(name, 0) for name, value in claimed.items()})

        with monkeypatch.context() as patch:
            patch.setattr(contract, "count_stored", lies)
            with pytest.raises(AssertionError, match=r"(is|are) not the file's"):
                contract.counts_what_is_stored(Int8Dynamic(), sample())


def test_a_technique_that_swallows_nan_is_caught():
    class Swallows(Original):
        def apply(self, model, *, data=None):
            return copy.deepcopy(model)

    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        contract.refuses_non_finite_weights(Swallows(), sample())


@dataclass(frozen=True)
class OfAThirdParty:
    """Not registered, changes structure, and keeps every law."""

    name: str = "theirs"

    def apply(self, model, *, data=None):
        return self.skeleton(copy_finite(model))

    def skeleton(self, model):
        return model


class TestThirdParty(TechniqueContract):
    technique = OfAThirdParty()

    def test_reloads_in_a_fresh_process(self, tmp_path):
        """A fresh process does not know a technique that is not registered there."""
        with pytest.raises(Exception, match="returned non-zero"):
            super().test_reloads_in_a_fresh_process(tmp_path)
