import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfsuite.errors import LimitError
from perfsuite.units import Quantity, Unit, format_change, format_difference, format_value, parse_quantity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5%", Quantity(0.05, Unit.FRACTION, percent=True)),
        ("0.5pp", Quantity(0.005, Unit.FRACTION, points=True)),
        ("24 MB", Quantity(24e6, Unit.BYTES)),
        ("24MiB", Quantity(24 * 2**20, Unit.BYTES)),
        ("1.5 ms", Quantity(0.0015, Unit.SECONDS)),
        (" 20 dB ", Quantity(20, Unit.DECIBEL)),
        ("1.5x", Quantity(1.5, Unit.RATIO)),
        ("20 mJ", Quantity(0.02, Unit.JOULES)),
        ("3J", Quantity(3, Unit.JOULES)),
        ("100/s", Quantity(100, Unit.PER_SECOND)),
        ("3", Quantity(3, None)),
        (".5", Quantity(0.5, None)),
        ("1e3", Quantity(1000, None)),
    ],
)
def test_quantities_parse(text, expected):
    parsed = parse_quantity(text)
    assert parsed.value == pytest.approx(expected.value)
    assert (parsed.unit, parsed.percent, parsed.points) == (expected.unit, expected.percent, expected.points)


@pytest.mark.parametrize("text", ["", "fast", "5 parsecs", "5%%", "--5", "1e999", "nan", "5 %x"])
def test_what_is_no_quantity_is_refused_with_the_text(text):
    with pytest.raises(LimitError) as error:
        parse_quantity(text)
    assert repr(text) in str(error.value) or repr(text.split()[-1]) in str(error.value)


@given(st.text(max_size=30))
def test_any_text_parses_or_is_refused(text):
    with contextlib.suppress(LimitError):
        assert math.isfinite(parse_quantity(text).value)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (24_100_000, Unit.BYTES, "24.1 MB"),
        (512, Unit.BYTES, "512 B"),
        (0.00153, Unit.SECONDS, "1.53 ms"),
        (2e-9, Unit.SECONDS, "2 ns"),
        (3.2, Unit.SECONDS, "3.2 s"),
        (0.972, Unit.FRACTION, "97.2%"),
        (3.966, Unit.RATIO, "3.97x"),
        (1234567, Unit.COUNT, "1,234,567"),
        (1234.5, Unit.PER_SECOND, "1,234/s"),
        (31.26, Unit.DECIBEL, "31.3 dB"),
        (2300.0, Unit.JOULES, "2.3 kJ"),
        (1.5, Unit.JOULES, "1.5 J"),
        (0.0421, Unit.JOULES, "42.1 mJ"),
        (3e-6, Unit.JOULES, "3 uJ"),
        (0.25, Unit.NUMBER, "0.25"),
        (-1234.56, Unit.NUMBER, "-1235"),
    ],
)
def test_values_print_for_people(value, unit, text):
    assert format_value(value, unit) == text


def test_differences_and_changes_print_with_their_sign():
    assert format_difference(-0.005, Unit.FRACTION) == "-0.5pp"
    assert format_difference(2e6, Unit.BYTES) == "+2 MB"
    assert format_change(1.043) == "+4.3%"
    assert format_change(0.9) == "-10.0%"
    assert format_change(1.0001) == "+0.01%"
