from perfsuite import show_progress
from perfsuite.progress import tell, watched


def test_progress_is_shown_on_standard_error_and_only_inside(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich draws bars on a terminal only
    with show_progress():
        tell("calibrating", 1, 2)
        tell("calibrating", 2, 2)
    tell("afterwards", 1, 1)
    captured = capsys.readouterr()
    assert "calibrating" in captured.err
    assert "afterwards" not in captured.err
    assert captured.out == ""


def test_the_innermost_watcher_sees_it():
    seen = []
    with watched(lambda *step: seen.append(("outer", *step))), watched(lambda *step: seen.append(("inner", *step))):
        tell("work", 1, 1)
    assert seen == [("inner", "work", 1, 1)]
