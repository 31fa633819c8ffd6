from serve_app.speakers.labels import known_label, openai_label, speaker_label


def test_labels_count_from_one_with_two_digits():
    assert [speaker_label(index) for index in (0, 8, 9, 99)] == [
        "SPEAKER_01",
        "SPEAKER_09",
        "SPEAKER_10",
        "SPEAKER_100",
    ]
    assert known_label(0) == "SPEAKER_01"
    assert known_label(None) is None


def test_letters_go_on_behind_z():
    assert [openai_label(index) for index in (0, 1, 25, 26, 27, 51, 52, 701, 702)] == [
        "A", "B", "Z", "AA", "AB", "AZ", "BA", "ZZ", "AAA",
    ]  # fmt: skip
    assert len({openai_label(index) for index in range(1_000)}) == 1_000
