"""The tool that plants faults: it plants, notices, puts back, and refuses what is rotten."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.mutation.children import Job, Slot, make_copy, run_jobs
from tests.mutation.faults import Fault, RottenFault, check_all, chosen, read_faults
from tests.mutation.run import by_area, joined_tests, share, table

SOURCE = "def double(x):\n    return 2 * x\n"
TESTS = """
from gancompress.calc import double


def test_double():
    assert double(0) == 0
    assert double(2) == 4


def test_zero():
    assert double(0) == 0
"""


def fault(old: str = "2 * x", new: str = "3 * x", **changes: object) -> Fault:
    given = {"id": "calc/threefold", "area": "calc", "file": "calc.py", "tests": ("tests/t.py",)}
    return Fault(old=old, new=new, **given | changes)  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in (
        ("gancompress/__init__.py", ""),
        ("gancompress/calc.py", SOURCE),
        ("tests/test_calc.py", TESTS),
    ):
        file = tmp_path / "root" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "root"


@pytest.mark.slow
def test_faults_are_planted_noticed_and_taken_out_again(root: Path, tmp_path: Path) -> None:
    slot = Slot(make_copy(root, tmp_path / "copy"))
    done: dict[str, Job] = {}

    def job(key: str, new: str, *tests: str, limit: float = 60.0) -> Job:
        text = fault(new=new).planted(SOURCE)
        return Job(key, ("tests/test_calc.py", *tests), "gancompress/calc.py", text, limit)

    jobs = [
        Job("whole", ("tests/test_calc.py",)),
        job("noticed", "3 * x"),
        job("passed over", "3 * x", "-k", "zero"),
        job("broken", "2 *"),
        job("endless", "all(zero == 0 for zero in iter(int, 1))", limit=3.0),
        Job("whole again", ("tests/test_calc.py",)),
    ]
    began = time.monotonic()
    run_jobs(jobs, [slot], lambda job: done.update({job.key: job}))
    assert {key: job.code for key, job in done.items()} == {
        "whole": 0, "noticed": 1, "passed over": 0, "broken": 2, "endless": None, "whole again": 0,
    }, done["whole"].output  # fmt: skip
    assert "1 failed" in done["noticed"].output
    assert time.monotonic() - began > 3.0
    assert (tmp_path / "copy" / "gancompress" / "calc.py").read_text() == SOURCE
    assert (root / "gancompress" / "calc.py").read_text() == SOURCE


@pytest.mark.parametrize(("old", "new"), [("4 * x", "5 * x"), ("x", "y"), ("2 * x", "2 * x")])
def test_a_rotten_fault_is_refused(old: str, new: str, root: Path) -> None:
    with pytest.raises(RottenFault, match="calc/threefold"):
        fault(old, new).planted(SOURCE)
    with pytest.raises(RottenFault, match=r"threefold[\s\S]*there is no tests/t\.py"):
        check_all([fault(old, new)], root)


def test_a_result_holds_until_fault_code_or_tests_change(root: Path) -> None:
    own = fault(tests=("tests/test_calc.py",))
    before = own.fingerprint(root)
    file = root / "tests" / "test_calc.py"
    file.write_text("# only a remark\n" + TESTS)
    assert own.fingerprint(root) == before
    file.write_text(TESTS.replace("== 4", "== 5"))
    assert own.fingerprint(root) != before
    assert fault(new="5 * x", tests=own.tests).fingerprint(root) != own.fingerprint(root)


def test_lists_are_read_and_chosen_from(tmp_path: Path) -> None:
    (tmp_path / "calc.yaml").write_text(
        "- file: calc.py\n  tests: tests/t.py -k 'a or b'\n  faults:\n"
        "    - {id: one, old: a, new: b}\n"
        "    - {id: two, old: a, new: c, tests: tests/other.py}\n"
    )
    one, two = read_faults(tmp_path)
    assert (one.id, one.area, one.tests) == ("calc/one", "calc", ("tests/t.py", "-k", "a or b"))
    assert two.tests == ("tests/other.py",)
    assert chosen([one, two], ["two"]) == [two]
    assert chosen([one, two], []) == chosen([one, two], ["calc"]) == [one, two]
    with pytest.raises(RottenFault, match="three"):
        chosen([one, two], ["three"])
    assert joined_tests([one.tests, ("tests/t.py", "-k", "c"), two.tests]) == {
        "tests/t.py": ("tests/t.py", "-k", "(a or b) or (c)"),
        "tests/other.py": ("tests/other.py",),
    }
    for text, words in (
        ("- {file: f, tests: tests/t.py, faults: [{id: a, old: b}]}", "lacks 'new'"),
        ("- {file: f, faults: [{id: a, old: b, new: c}]}", "names no tests"),
        ("- {file: f, tests: tests/t.py, faults: [{id: a, old: b, new: c},"
         " {id: a, old: d, new: e}]}", "stand twice: calc/a"),
    ):  # fmt: skip
        (tmp_path / "calc.yaml").write_text(text)
        with pytest.raises(RottenFault, match=words):
            read_faults(tmp_path)


def test_shares_are_counted_by_area() -> None:
    rows = [
        {"id": f"{a}/{i}", "area": a, "noticed": n}
        for i, (a, n) in enumerate([("x", True), ("x", False), ("y", True), ("y", True)])
    ]
    assert by_area(rows) == [("x", 2, 1), ("y", 2, 2)]
    assert share(rows) == 0.75
    assert table(rows).splitlines()[-1] == "  x/1"


def test_none_of_the_faults_that_ship_is_rotten() -> None:
    faults = read_faults()
    check_all(faults)
    assert len(faults) >= 150
