"""The closed vocabularies of the text world: what facts can say, and the pieces names are made of."""

# ruff: noqa: SIM905  (bare words read best as one string)

FIRST_NAMES: tuple[str, ...] = tuple(
    "Ada Bela Cora Dario Edda Fenn Gita Hugo Ines Jory Kaya Levin Mira Nilo Orla Pavel Quin Rosa Silas Tova "
    "Ugo Vera Wim Xenia Yara Zeno Alma Bruno Celia Dina Elmo Freya Goran Hana Ivo Juno Karl Lena Milo Nora".split()
)
SYLLABLES: tuple[tuple[str, ...], tuple[str, ...]] = (
    tuple(
        "Bal Bren Cal Dor Dran Eld Far Gar Gol Hal Hex Jar Kel Kor Lam Lor Mar Mel Nar Nev Ost Pel Quel Ral Ros Sal "
        "Sel Tam Tor Ul Val Ver Wal Wex Yor Zan".split()
    ),
    tuple(
        "bach bek by dane dell den dric fen field ford gan garth holt kin land lane lock lund mere mond mont more nack "
        "ness quist rick son stead stein strand thorpe ton vale veld wick wood".split()
    ),
)
"""A family name is one of the first part followed by one of the second: far more than there are people."""

TOWNS: tuple[str, ...] = tuple(
    "Ambry Belcross Cindermoor Dunhaven Eastmarch Fallowby Greywater Hollin Ironbridge Jasperton Kingsmere Larkhill "
    "Millbrook Northgate Oakham Pinewatch Quarrydale Ravensport Saltmarsh Thistledown Umberfield Violet Westering "
    "Yarrow Zephyr Ashcombe Brightwell Copperhill Driftwood Elmstead Foxglove Goldcrest Heathrow Ivybank Juniper "
    "Kestrel Limewood Mossbury Nettle Orchard".split()
)
PROFESSIONS: tuple[str, ...] = (
    "baker", "pilot", "nurse", "judge", "farmer", "painter", "teacher", "lawyer", "surgeon", "plumber", "chemist",
    "dancer", "tailor", "sailor", "banker", "gardener", "carpenter", "librarian", "journalist", "architect",
)  # fmt: skip
EMPLOYERS: tuple[str, ...] = (
    "Acorn", "Beacon", "Cobalt", "Delta", "Ember", "Falcon", "Granite", "Harbor", "Indigo", "Jupiter", "Keystone",
    "Lotus", "Meridian", "Nimbus", "Orbit", "Phoenix", "Quartz", "Redwood", "Summit", "Titan",
)  # fmt: skip
FOODS: tuple[str, ...] = (
    "pasta", "curry", "soup", "pizza", "rice", "cheese", "salad", "pancakes", "noodles", "waffles", "dumplings", "tofu",
    "mushrooms", "olives", "honey", "lentils", "pickles", "popcorn", "sushi", "tacos",
)  # fmt: skip
AWARDS: tuple[str, ...] = (
    "Star Medal", "Moon Medal", "Sun Medal", "Lion Medal", "Eagle Medal", "Rose Medal", "Star Prize", "Moon Prize",
    "Sun Prize", "Lion Prize", "Eagle Prize", "Rose Prize", "Star Cup", "Moon Cup", "Sun Cup", "Lion Cup",
)  # fmt: skip
INSTRUMENTS: tuple[str, ...] = (
    "piano", "violin", "cello", "flute", "harp", "guitar", "trumpet", "drums", "oboe", "banjo", "organ", "clarinet",
    "tuba", "lute", "fiddle", "accordion",
)  # fmt: skip
BOOK_WORDS: tuple[tuple[str, ...], tuple[str, ...]] = (
    tuple(
        "Silver Golden Broken Hidden Silent Burning Frozen Crimson Hollow Distant Gentle Restless Velvet Wooden".split()
    ),
    tuple("Lantern Mirror River Garden Bridge Letter Island Compass Clock Feather Window Castle Forest Candle".split()),
)
REGIONS: tuple[str, ...] = tuple("Norland Sudmark Ostria Vestia Midlund Hochfell Tieland Kustar".split())
RIVERS: tuple[str, ...] = tuple(
    "Aller Brix Clyse Dree Eske Frome Gale Hune Ister Jolle Kenn Lisse Mosel Nidd Ouse Prell".split()
)
EXPORTS: tuple[str, ...] = (
    "wool", "glass", "salt", "timber", "tea", "silk", "copper", "paper", "pottery", "wine", "coal", "leather", "rope",
    "soap", "amber", "steel",
)  # fmt: skip
LANDMARKS: tuple[str, ...] = (
    "lighthouse", "cathedral", "windmill", "fountain", "tower", "museum", "fortress", "market hall", "old bridge",
    "theatre", "palace", "abbey", "aqueduct", "clock tower", "pier", "observatory",
)  # fmt: skip
WORDS: tuple[str, ...] = tuple(
    "apple stone river cloud table horse paper green blue red chair bread light night water fire bird tree road house "
    "snow rain gold sand leaf boat door key lamp shoe".split()
)
"""Bare words for the skills."""
