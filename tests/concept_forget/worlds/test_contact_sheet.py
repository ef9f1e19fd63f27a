from PIL import Image

from concept_forget.worlds.contact_sheet import contact_sheet


def test_the_last_row_may_be_short_and_every_picture_is_on_the_page():
    colours = ("red", "lime", "blue")
    page = contact_sheet([Image.new("RGB", (96, 96), c) for c in colours], ["a", "b\nb", "c"], columns=2)
    found = {colour for _, colour in page.getcolors(maxcolors=10_000)}
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255)} <= found
