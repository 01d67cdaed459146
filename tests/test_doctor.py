"""The doctor says what is missing and what to do next."""

import subprocess

import pytest

from medlib import __main__, doctor


def test_requirements_are_read_part_by_part():
    needs = doctor.requirements()
    assert (
        needs["torch"] == ">=2.6"
        and needs["SimpleITK"].startswith(">=")
        and "nbval" not in needs
    )
    assert doctor.requirements("build the book")["jupyter-book"] == ">=1.0.4,<2"


def test_unmet_names_the_missing_and_the_old():
    found = doctor.unmet({"no-such-package": ">=1", "numpy": ">=999", "torch": ">=2.4"})
    assert (
        found.keys() == {"no-such-package", "numpy"}
        and found["no-such-package"] == "" != found["numpy"]
    )


@pytest.fixture
def pip(monkeypatch):
    calls = []
    monkeypatch.setattr(
        subprocess, "run", lambda command, check: calls.append(command[4:])
    )
    return calls


def test_install_asks_for_nothing_where_all_is_there(pip):
    doctor.install("numpy")
    assert pip == []


def test_install_asks_for_what_is_missing_and_holds_torch(pip, monkeypatch):
    needs = {"torch": ">=999", "numpy": ">=1", "no-such-package": ">=3"}
    monkeypatch.setattr(doctor, "requirements", lambda: needs)
    doctor.install("another-one")
    (asked,) = pip
    assert asked[1:3] == ["no-such-package>=3", "another-one"]
    assert [name.split("==")[0] for name in asked[3:]] == ["torch", "torchvision"]


def test_missing_data_come_with_the_next_step(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    monkeypatch.setenv("MEDLIB_MIRROR", str(tmp_path))
    monkeypatch.delenv("MEDLIB_OFFLINE", raising=False)
    found = {what.split(":")[0]: (well, advice) for well, what, advice in doctor.sets()}
    assert found["pneumoniamnist"] == (True, "") and found["digits"] == (True, "")
    assert (
        not found["acdc"][0]
        and "creatis" in found["acdc"][1]
        and "MEDLIB_MIRROR" in found["acdc"][1]
    )
    monkeypatch.setenv("MEDLIB_OFFLINE", "1")
    assert not next(
        well for well, what, _ in doctor.sets() if what.startswith("pneumoniamnist")
    )


def test_forecast_scales_with_the_speed_of_this_machine():
    slow, fast = (dict(doctor.forecast(seconds)) for seconds in (2.0, 1.0))
    assert slow.keys() == fast.keys() and slow["20_motion"] == pytest.approx(
        2 * fast["20_motion"], abs=1
    )


def test_the_report_is_whole_and_its_status_is_the_exit_code(monkeypatch, capsys):
    monkeypatch.setattr(
        doctor, "sets", lambda: iter([(False, "acdc: not here", "fetch it")])
    )
    assert __main__.main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert (
        "OK   torch" in printed and "FAIL acdc: not here\n       → fetch it" in printed
    )
    assert "device: " in printed and "20_motion" in printed


def test_without_torch_the_packages_are_still_listed(monkeypatch, capsys):
    monkeypatch.setattr(
        doctor, "unmet", lambda needs: {name: "" for name in needs if name == "torch"}
    )
    assert not doctor.report()
    printed = capsys.readouterr().out
    assert (
        "FAIL torch is missing" in printed
        and "OK   scipy" in printed
        and "nothing more" in printed
    )


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["nurse"])
    assert "doctor" in capsys.readouterr().err
