"""A file name means the same file on every system, inside the output folder."""

from __future__ import annotations

import ntpath
import posixpath

import hypothesis.strategies as st
import pytest
from hypothesis import assume, example, given

from promptmill.errors import FileNameError
from promptmill.table import check_name, name_key


@pytest.mark.parametrize(
    "name",
    [
        "a.png",
        "街拍/花瓶 1_v2.png",
        "a/b/c/d.png",
        ".hidden",
        "a..b.png",
        "console.png",
        "com10.png",
        "-a.png",
        "~/a.png",
        "emoji 👩‍👩‍👧.png",
        "x" * 255,
        "瓶" * 85,
    ],
)
def test_good_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../a.png",
        "a/../../b.png",
        "a/./b.png",
        "/etc/passwd",
        "//server/share",
        "a//b.png",
        "a/",
        "C:/a.png",
        "C:a.png",
        "a.png:stream",
        "..\\a.png",
        "\\\\server\\a.png",
        "a\0.png",
        "a\n.png",
        "a\x7f.png",
        "a\x85.png",
        "a\ud800.png",
        'a"b',
        "a:b?*",
        "a<b",
        "a>b",
        "a|b",
        "CON",
        "con.png",
        "nul.tar.gz",
        "Aux /a.png",
        "x/COM1.txt",
        "lpt9",
        "COM¹.png",
        "conin$",
        "a.",
        "a ",
        "a ./b.png",
        " a.png",
        "a/ b.png",
        "x" * 256,
        "瓶" * 86,
        "/".join(["x" * 100] * 6),
    ],
)
def test_bad_names_are_errors_with_the_value_and_a_hint(name):
    with pytest.raises(FileNameError) as caught:
        check_name(name)

    assert caught.value.value == name
    assert caught.value.hint


@pytest.mark.parametrize("name", ["..", "../a.png", "a/../../b.png"])
def test_names_that_climb_are_told_so(name):
    with pytest.raises(FileNameError, match="stays inside the output folder"):
        check_name(name)


def test_names_come_back_composed():
    assert check_name("cafe\u0301.png") == "caf\u00e9.png"


@pytest.mark.parametrize(
    ("one", "other"),
    [("caf\u00e9.png", "cafe\u0301.png"), ("A.PNG", "a.png"), ("Straße", "STRASSE"), ("Σας", "ΣΑΣ")],
)
def test_names_of_the_same_file(one, other):
    assert name_key(one) == name_key(other)


def test_names_of_different_files():
    assert name_key("a.png") != name_key("a1.png")


@given(st.text(st.sampled_from("ab./\\: ~CON\0é\u0301*$1") | st.characters(), max_size=12))
@example("..")
@example("C:..")
def test_names_never_leave_the_output_folder(name):
    try:
        name = check_name(name)
    except FileNameError:
        assume(False)
    assert posixpath.normpath(posixpath.join("/out", name)) == f"/out/{name}"
    windows = ntpath.normpath(ntpath.join("D:\\out", name))
    assert windows == "D:\\out\\" + name.replace("/", "\\")


@given(st.text(max_size=8))
def test_the_key_of_a_key_is_the_key(name):
    assert name_key(name_key(name)) == name_key(name)
