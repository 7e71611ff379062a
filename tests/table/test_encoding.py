"""Which encoding a file is read in, and when it must be named."""

from __future__ import annotations

import sys

import pytest

from promptmill.errors import TableError

SIMPLIFIED = """sku,名称,style,prompt
A1,陶瓷花瓶,studio,红色陶瓷花瓶，放在木桌上，柔和的晨光，产品摄影
A2,连衣裙,街拍,蓝色丝绸连衣裙，模特站在海边，电影感灯光
A3,保温杯,studio,不锈钢保温杯，白色背景，正面视角
A4,双肩包,街拍,复古皮质双肩包，浅景深，珐琅扣
"""
TRADITIONAL = """sku,名稱,style,prompt
A1,陶瓷花瓶,studio,紅色陶瓷花瓶，放在木桌上，柔和的晨光，產品攝影
A2,連衣裙,街拍,藍色絲綢連衣裙，模特兒站在海邊，電影感燈光
A3,保溫杯,studio,不鏽鋼保溫杯，白色背景，正面視角
A4,雙肩包,街拍,復古皮質雙肩包，淺景深
"""
JAPANESE = """sku,名称,style,prompt
A1,花瓶,studio,赤い陶器の花瓶、木のテーブルの上、柔らかな朝の光
A2,ワンピース,街角,青いシルクのワンピース、海辺に立つモデル
A3,保温ボトル,studio,ステンレス製の保温ボトル、白い背景、正面から
"""
KOREAN = """sku,prompt
A1,나무 탁자 위의 빨간 도자기 꽃병, 부드러운 아침 빛
A2,파란 실크 드레스, 바닷가에 선 모델, 영화 같은 조명
""".replace(", ", " ")
FRENCH = "sku,prompt\nA1,vase en céramique rouge\nA2,crème brûlée et château\nA3,robe très détaillée\n"


def prompts(table):
    return [row.fields["prompt"] for row in table.rows()]


@pytest.mark.parametrize(
    ("encoding", "used", "note"),
    [
        ("utf-8", "utf-8", None),
        ("utf-8-sig", "utf-8", "read as UTF-8 (byte order mark)"),
        ("utf-16", "utf-16", "read as UTF-16 (byte order mark)"),
        ("utf-32", "utf-32", "read as UTF-32 (byte order mark)"),
        ("gbk", "gb18030", "read as GB18030"),
        ("gb18030", "gb18030", "read as GB18030"),
    ],
)
@pytest.mark.parametrize("text", [SIMPLIFIED, TRADITIONAL])
def test_chinese_tables_are_read_and_the_encoding_reported(read, text, encoding, used, note):
    table = read(text, stored=encoding)

    assert prompts(table) == [line.split(",")[3] for line in text.splitlines()[1:]]
    assert table.encoding == used
    first = f"first row: {text.split(',')[0]} = A1"
    assert [line[: len(expected)] for line, expected in zip(table.notes, [note, first], strict=False)] == (
        [note, first] if note else []
    )


def test_utf16_with_a_big_endian_mark(read):
    table = read(b"\xfe\xff" + SIMPLIFIED.encode("utf-16-be"))

    assert table.encoding == "utf-16"
    assert len(prompts(table)) == 4


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (TRADITIONAL, "big5"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (KOREAN, "euc_kr"),
        (SIMPLIFIED, "utf-16-le"),
        (SIMPLIFIED, "utf-16-be"),
        ("id,prompt\n1,a red vase\n", "utf-16-le"),
        ("id,prompt\n1,a red vase\n", "utf-16-be"),
    ],
)
def test_other_encodings_are_an_error_that_names_them(read, text, encoding):
    with pytest.raises(TableError) as caught:
        read(text, stored=encoding)

    assert caught.value.hint.startswith(f"--encoding {encoding}")
    column = 3 if "style" in text else 1
    assert prompts(read(text, stored=encoding, encoding=encoding)) == [
        line.split(",")[column] for line in text.splitlines()[1:]
    ]


def test_western_european_text_is_not_taken_for_chinese(read):
    with pytest.raises(TableError, match="neither UTF-8 nor plainly GB18030") as caught:
        read(FRENCH, stored="cp1252")

    assert "--encoding cp125" in caught.value.hint


def test_charset_normalizer_gives_advice_on_other_scripts(read):
    text = (
        "id,prompt\n1,красная керамическая ваза на деревянном столе\n2,синее шёлковое платье и зелёный чай\n"
    )

    with pytest.raises(TableError) as caught:
        read(text, stored="cp1251")

    assert caught.value.hint.startswith("--encoding cp1251")


def test_advice_is_given_without_charset_normalizer(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)

    with pytest.raises(TableError) as caught:
        read(TRADITIONAL, stored="big5")

    assert caught.value.hint.startswith("--encoding big5")


def test_one_broken_byte_in_a_utf8_table_is_not_read_as_gb18030(read):
    content = SIMPLIFIED.encode().replace("海".encode(), b"\xe6")

    with pytest.raises(TableError, match=r"t.csv line 3: not valid UTF-8") as caught:
        read(content)

    assert "repair this line" in caught.value.hint


def test_one_broken_byte_in_a_gb18030_table_names_the_line(read):
    content = SIMPLIFIED.encode("gb18030") + b"A5,x,y,\xff\n"

    with pytest.raises(TableError, match=r"t.csv line 6: not valid GB18030"):
        read(content)


def test_a_fault_behind_the_sample_is_found(read):
    content = ("id,prompt\n" + "".join(f"{n},红色花瓶\n" for n in range(200_000))).encode() + b"x,\xff\n"

    with pytest.raises(TableError, match=r"t.csv line 200002: not valid UTF-8"):
        read(content)


def test_a_named_encoding_is_checked_over_the_whole_file(read):
    with pytest.raises(TableError, match=r"t.csv line 2: not valid BIG5") as caught:
        read("id,prompt\n1,x\xff\n", stored="latin-1", encoding="big5")

    assert caught.value.hint == "leave --encoding out to have it detected"


def test_utf16_that_is_named_but_has_no_mark(read):
    with pytest.raises(TableError, match="not valid UTF-16") as caught:
        read("id,prompt\n1,x\n", stored="utf-16-le", encoding="utf-16")

    assert caught.value.hint == "leave --encoding out to have it detected"


@pytest.mark.parametrize("encoding", ["klingon", "zlib", "hex", "", "rot13"])
def test_encodings_that_are_none(read, encoding):
    with pytest.raises(TableError, match="--encoding: no such encoding"):
        read("id,prompt\n1,x\n", encoding=encoding)


def test_a_named_encoding_drops_the_byte_order_mark(read):
    table = read(SIMPLIFIED, stored="utf-8-sig", encoding="utf-8")

    assert table.columns[0] == "sku"


def test_a_guess_from_few_characters_is_said_to_be_weak(read):
    table = read("id,prompt\n1,花瓶\n", stored="gbk")

    assert prompts(table) == ["花瓶"]
    assert "weak guess" in table.notes[0]
    assert table.notes[1] == "first row: id = 1, prompt = 花瓶"


def test_gbk_that_is_valid_utf8_by_chance_is_said_to_be_weak(read):
    content = "id,prompt\n1,态台\n".encode("gbk")
    content.decode("utf-8")

    table = read(content)

    assert "read as UTF-8, a weak guess from 2 characters" in table.notes[0]


@pytest.mark.parametrize("prompt", ["café", "花瓶", "a red vase", "12 °C", "“quoted” – dash"])
def test_short_utf8_is_no_guess(read, prompt):
    assert read(f"id,prompt\n1,{prompt}\n").notes == []


@pytest.mark.parametrize(
    ("head", "kind"),
    [(b"PK\x03\x04\x14\0", "xlsx"), (b"PAR1\x15\x04", "parquet"), (b"\xd0\xcf\x11\xe0", "xls")],
)
def test_a_workbook_named_csv(read, head, kind):
    with pytest.raises(TableError, match=f"this is an? {kind} file, not text"):
        read(head)
