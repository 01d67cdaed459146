"""The doctor says what is missing and what to do next."""

import os
import subprocess
from types import SimpleNamespace

import pytest

from medlib import __main__, doctor, paths


def test_requirements_are_those_of_the_package_or_of_one_extra():
    own, chapters = doctor.requirements(), doctor.requirements("chapters")
    assert own["torch"] == ">=2.6"
    assert chapters["SimpleITK"].startswith(">=")
    assert not own.keys() & chapters.keys()
    assert doctor.requirements("build")["jupyter-book"] == "<2,>=1.0.4"


def test_without_a_checkout_they_are_read_from_the_installed_package(monkeypatch):
    listed = [
        "torch>=2.6",
        'monai>=1.4; extra == "chapters"',
        'nbval; extra == "build"',
    ]
    monkeypatch.setattr(paths, "CHECKOUT", None)
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: listed)
    assert doctor.requirements() == {"torch": ">=2.6"}
    assert doctor.requirements("chapters") == {"monai": ">=1.4"}
    assert doctor.requirements("build") == {"nbval": ""}


def test_unmet_names_the_missing_and_the_old():
    found = doctor.unmet({"no-such-package": ">=1", "numpy": ">=999", "torch": ">=2.4"})
    assert found.keys() == {"no-such-package", "numpy"}
    assert found["no-such-package"] == "" != found["numpy"]


@pytest.fixture
def pip(monkeypatch):
    """What each call of pip is asked for; it installs nothing, and fails where asked
    for "bad".
    """
    calls = []

    def run(command, check):
        calls.append(command[command.index("install") :])
        return SimpleNamespace(returncode=int("bad" in command))

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_install_asks_for_nothing_where_all_is_there(pip):
    doctor.install("numpy")
    assert pip == []


def test_install_asks_for_what_is_missing_and_holds_all_that_will_do(pip, monkeypatch):
    needs = {
        "": {"torch": ">=999", "numpy": ">=1", "scipy": ">=1", "pillow": ">=999"},
        "chapters": {"no-such-package": ">=3", "jupyterlab": ">=999"},
    }
    monkeypatch.setattr(doctor, "requirements", lambda extra="": needs[extra])
    doctor.install("another-one")
    (asked,) = pip
    lacking, hold = asked[2:5], asked[5:]
    assert lacking == ["pillow>=999", "no-such-package>=3", "another-one"]
    assert [name.split("==")[0] for name in hold] == [
        "torch", "torchvision", "numpy", "scipy"
    ]  # fmt: skip
    assert all(line.split("==")[1] for line in hold)


def test_install_says_where_pip_fails(pip):
    with pytest.raises(RuntimeError, match="could not install bad"):
        doctor.install("bad")


def test_what_is_missing_comes_with_the_command_that_brings_it(monkeypatch):
    monkeypatch.setattr(doctor, "requirements", lambda extra: {"no-such-package": ">3"})
    ((well, what, advice),) = doctor.packages("chapters")
    assert (
        not well and what == "no-such-package is missing; expected: no-such-package>3"
    )
    assert advice == f'pip install -e "{paths.CHECKOUT}[chapters]"'
    monkeypatch.setattr(paths, "CHECKOUT", None)
    ((_, _, advice),) = doctor.packages("chapters")
    assert advice == 'pip install "medlib[chapters]"'


def test_missing_data_come_with_the_next_step(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDLIB_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.delenv("MEDLIB_OFFLINE", raising=False)

    def found():
        return {what.split(":")[0]: (well, tip) for well, what, tip in doctor.sets()}

    seen = found()
    assert all(well for well, _ in seen.values())  # what lacks is fetched, or optional
    monkeypatch.setenv("MEDLIB_OFFLINE", "1")
    well, tip = found()["acdc"]
    assert not well and "MEDLIB_OFFLINE" in tip
    assert not found()["pneumoniamnist"][0]
    card = {"title": "By a form", "path": "form", "page": "https://form.example"}
    monkeypatch.setattr(doctor, "_registry", lambda: {"form": card})
    well, tip = found()["form"]
    assert not well and "form.example" in tip and "MEDLIB_MIRROR" in tip
    assert str(tmp_path / "cache") in tip
    monkeypatch.undo()
    monkeypatch.setenv("MEDLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDLIB_MIRROR", str(tmp_path / "mirror"))
    (tmp_path / "mirror" / "acdc").mkdir(parents=True)
    assert found()["acdc"] == (True, "")


def test_a_step_takes_time_and_leaves_the_precision_alone(monkeypatch):
    monkeypatch.setenv("MEDLIB_PRECISION", "bf16")
    assert 0 < doctor.step("no") < 60
    assert os.environ["MEDLIB_PRECISION"] == "bf16"


def test_the_speed_is_that_of_the_precision_that_trainings_take(monkeypatch):
    monkeypatch.setattr(doctor, "step", {"bf16": 0.04, "no": 0.06}.get)
    for precision, seconds in (("bf16", 0.04), ("no", 0.06), ("fp16", 0.06)):
        monkeypatch.setenv("MEDLIB_PRECISION", precision)
        assert doctor.speed()[0] == seconds
    assert "40 ms" in doctor.speed()[1] and "60 ms" in doctor.speed()[1]


def test_the_forecast_is_the_presss(monkeypatch):
    done = SimpleNamespace(returncode=0, stdout="20_motion 33\n", stderr="")
    asked = []

    def run(command, **options):
        asked.extend([*command[1:], options["cwd"]])
        return done

    monkeypatch.setattr(subprocess, "run", run)
    assert doctor.forecast(0.25).splitlines()[1:] == ["  20_motion 33"]
    assert asked == ["-m", "press", "forecast", "--seconds", "0.25", paths.CHECKOUT]
    done.returncode, done.stderr = 1, "no stamps\n"
    assert doctor.forecast(0.25) == "No forecast: no stamps"


@pytest.fixture
def quick(monkeypatch):
    """A doctor that neither measures nor asks the press."""
    monkeypatch.setattr(doctor, "step", lambda precision: 0.5)
    monkeypatch.setattr(doctor, "forecast", lambda seconds: f"forecast at {seconds}")


def test_the_report_is_whole_and_its_status_is_the_exit_code(
    monkeypatch, capsys, quick
):
    monkeypatch.setattr(
        doctor, "sets", lambda: iter([(False, "acdc: not here", "fetch it")])
    )
    assert __main__.main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "OK   torch" in printed and "OK   monai" in printed
    assert "FAIL acdc: not here\n       → fetch it" in printed
    assert "device: " in printed and "forecast at 0.5" in printed
    monkeypatch.setattr(doctor, "sets", lambda: iter([]))
    assert __main__.main(["doctor"]) == 0


def test_without_a_checkout_extras_and_data_are_no_fault(monkeypatch, capsys, quick):
    needs = {"": {"torch": ""}, "chapters": {"no-such-package": ""}, "build": {}}
    monkeypatch.setattr(doctor, "requirements", lambda extra="": needs[extra])
    monkeypatch.setattr(
        doctor, "sets", lambda: iter([(False, "acdc: not here", "fetch it")])
    )
    assert not doctor.report()
    monkeypatch.setattr(paths, "CHECKOUT", None)
    capsys.readouterr()
    assert doctor.report()
    printed = capsys.readouterr().out
    assert "FAIL no-such-package" in printed and "forecast" not in printed


def test_without_torch_the_packages_are_still_listed(monkeypatch, capsys):
    monkeypatch.setattr(
        doctor, "unmet", lambda needs: {name: "" for name in needs if name == "torch"}
    )
    assert not doctor.report()
    printed = capsys.readouterr().out
    assert "FAIL torch is missing" in printed
    assert "OK   scipy" in printed and "nothing more" in printed


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["nurse"])
    assert "doctor" in capsys.readouterr().err
