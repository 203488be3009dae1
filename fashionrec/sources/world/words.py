"""The words that the synthetic world is made of, and the figures by which its verticals differ."""

from itertools import islice, product
from typing import NamedTuple


class Noun(NamedTuple):
    """A kind of product: who it is for ("" for all), its name, what people call it in short, a usual price in EUR, and how it is sized."""

    gender: str
    name: str
    short: str
    price: float
    sizes: str


class Brand(NamedTuple):
    """A brand and its price level, 1 is usual."""

    name: str
    level: float


class Vertical(NamedTuple):
    """How a vertical differs from fashion: ratios of fashion's figure to its own (paper, section 3), and what is our own choice.

    `new_items`: items new in a month, of as many on sale. `actions`: searches and clicks before a purchase. `queries`: different queries
    a day. `calendar_pull`: how strongly season, occasion and holiday drive demand; 1 is fashion's (the paper gives no figure).
    """

    new_items: float
    actions: float
    queries: float
    calendar_pull: float


class Holiday(NamedTuple):
    """A holiday and the months in which people buy for it."""

    name: str
    months: tuple[int, ...]


FASHION = "fashion"
VERTICALS = {
    FASHION: Vertical(1.0, 1.0, 1.0, 1.0),
    "electronics": Vertical(3.6, 1.55, 2.63, 0.15),
    "toys": Vertical(6.7, 1.81, 2.38, 0.25),
}
# The categories of each vertical.
CATEGORIES: dict[str, tuple[str, ...]] = {
    FASHION: ("Clothing", "Footwear", "Accessories & Jewelry", "Luggage & Bags"),
    "electronics": ("Electronics",),
    "toys": ("Toys & Games",),
}
NOUNS: dict[str, tuple[Noun, ...]] = {
    "Clothing": (
        Noun("Women's", "Wrap Dress", "dress", 60, "letters"),
        Noun("Men's", "Oxford Shirt", "shirt", 45, "letters"),
        Noun("Women's", "Blouse", "top", 38, "letters"),
        Noun("", "Hoodie", "sweatshirt", 50, "letters"),
        Noun("Men's", "Chinos", "trousers", 55, "letters"),
        Noun("Women's", "Pleated Skirt", "skirt", 42, "letters"),
        Noun("", "Rain Jacket", "jacket", 95, "letters"),
        Noun("Men's", "Polo Shirt", "polo", 35, "letters"),
    ),
    "Footwear": (
        Noun("", "Sneakers", "trainers", 75, "shoes"),
        Noun("Women's", "Ankle Boots", "boots", 95, "shoes"),
        Noun("Men's", "Loafers", "loafer", 85, "shoes"),
        Noun("Women's", "Ballet Flats", "flats", 50, "shoes"),
        Noun("", "Running Shoes", "runners", 90, "shoes"),
        Noun("Men's", "Derby Shoes", "derbys", 110, "shoes"),
        Noun("Women's", "Heeled Sandals", "heels", 70, "shoes"),
        Noun("", "Hiking Boots", "hikers", 120, "shoes"),
    ),
    "Accessories & Jewelry": (
        Noun("Women's", "Hoop Earrings", "earrings", 28, "one"),
        Noun("Women's", "Pendant Necklace", "necklace", 40, "one"),
        Noun("Men's", "Belt", "belts", 32, "letters"),
        Noun("", "Sunglasses", "shades", 65, "one"),
        Noun("", "Scarf", "shawl", 30, "one"),
        Noun("Men's", "Tie", "necktie", 25, "one"),
        Noun("", "Wrist Watch", "watch", 140, "one"),
        Noun("Women's", "Charm Bracelet", "bracelet", 35, "one"),
    ),
    "Luggage & Bags": (
        Noun("Women's", "Tote Bag", "tote", 70, "one"),
        Noun("", "Backpack", "rucksack", 65, "bags"),
        Noun("Women's", "Crossbody Bag", "crossbody", 55, "one"),
        Noun("Men's", "Messenger Bag", "messenger", 80, "bags"),
        Noun("", "Carry-On Suitcase", "suitcase", 130, "bags"),
        Noun("Women's", "Clutch", "purse", 45, "one"),
        Noun("", "Duffel Bag", "duffel", 75, "bags"),
        Noun("Men's", "Briefcase", "laptop bag", 120, "one"),
    ),
    "Electronics": (
        Noun("", "Headphones", "earphones", 90, "one"),
        Noun("", "Phone Charger", "charger", 25, "one"),
        Noun("", "Tablet", "pad", 280, "bags"),
        Noun("", "Wireless Speaker", "speaker", 80, "bags"),
        Noun("", "Action Camera", "camera", 210, "one"),
        Noun("", "Keyboard", "keys", 60, "bags"),
        Noun("", "Power Bank", "battery", 35, "one"),
        Noun("", "Monitor", "screen", 220, "bags"),
        Noun("", "Router", "wifi box", 95, "one"),
        Noun("", "Game Controller", "gamepad", 55, "one"),
        Noun("", "Desk Lamp", "lamp", 40, "one"),
        Noun("", "Memory Card", "card", 20, "one"),
    ),
    "Toys & Games": (
        Noun("", "Building Blocks", "bricks", 45, "bags"),
        Noun("", "Jigsaw Puzzle", "puzzle", 20, "bags"),
        Noun("", "Board Game", "game", 35, "one"),
        Noun("", "Plush Bear", "teddy", 25, "bags"),
        Noun("", "Toy Train", "train", 55, "one"),
        Noun("", "Doll House", "dolls", 80, "one"),
        Noun("", "Race Car", "car", 18, "one"),
        Noun("", "Craft Kit", "crafts", 22, "one"),
        Noun("", "Card Game", "cards", 15, "one"),
        Noun("", "Water Blaster", "blaster", 20, "bags"),
        Noun("", "Play Kitchen", "kitchen", 95, "one"),
        Noun("", "Scooter", "kickboard", 60, "bags"),
    ),
}
STYLES: dict[str, tuple[str, ...]] = {
    "Clothing": ("Floral", "Striped", "Linen", "Checked", "Velvet", "Plain"),
    "Footwear": ("Leather", "Suede", "Canvas", "Knit", "Patent", "Vegan"),
    "Accessories & Jewelry": ("Minimal", "Vintage", "Classic", "Beaded", "Braided", "Engraved"),
    "Luggage & Bags": ("Leather", "Canvas", "Quilted", "Nylon", "Woven", "Recycled"),
    "Electronics": ("Wireless", "Compact", "Foldable", "Rugged", "Slim", "Refurbished"),
    "Toys & Games": ("Wooden", "Magnetic", "Musical", "Glow", "Giant", "Mini"),
}
BRANDS = (
    Brand("Marlow", 1.0),
    Brand("Oakfield", 0.8),
    Brand("Brightwater", 1.2),
    Brand("Tessaly", 1.6),
    Brand("Norvane", 0.7),
    Brand("Kitewell", 1.0),
    Brand("Aldermoor", 1.4),
    Brand("Solenne", 1.1),
    Brand("Pinemark", 0.6),
    Brand("Corvina", 1.9),
)
COLOURS = ("Black", "White", "Navy", "Red", "Beige", "Green", "Grey", "Pink", "Brown", "Blue")
SEASONS = ("Summer", "Winter", "Spring", "Autumn", "All Season")
OCCASIONS = ("Everyday", "Work", "Party", "Travel", "Wedding", "Holiday")
# Months in which an occasion is dressed for more than in others.
OCCASION_MONTHS: dict[str, tuple[int, ...]] = {
    "Work": (1, 9),
    "Party": (11, 12),
    "Travel": (6, 7),
    "Wedding": (5, 6, 8),
    "Holiday": (6, 7, 8),
}
# The first is none: most things are made for no holiday.
HOLIDAYS = (
    Holiday("", ()),
    Holiday("Christmas", (11, 12)),
    Holiday("Valentine's Day", (1, 2)),
    Holiday("Mother's Day", (4, 5)),
    Holiday("Halloween", (9, 10)),
)
MATERIALS: dict[str, tuple[str, ...]] = {
    "Clothing": ("Cotton", "Wool", "Viscose", "Silk"),
    "Footwear": ("Rubber", "Textile", "Cork"),
    "Accessories & Jewelry": ("Silver", "Steel", "Brass", "Wool"),
    "Luggage & Bags": ("Polyester", "Cotton", "Felt"),
    "Electronics": ("Plastic", "Aluminium"),
    "Toys & Games": ("Plastic", "Wood", "Cotton"),
}
SIZES: dict[str, tuple[str, ...]] = {
    "letters": ("XS", "S", "M", "L", "XL"),
    "shoes": ("36", "37", "38", "39", "40", "41", "42", "43"),
    "bags": ("Small", "Medium", "Large"),
    "one": ("One Size",),
}
# What the names of further brands are made of.
_SYLLABLES = (
    (
        "Al",
        "Ber",
        "Cor",
        "Dan",
        "El",
        "Fen",
        "Gar",
        "Hol",
        "Is",
        "Jor",
        "Kal",
        "Lan",
        "Mor",
        "Nel",
        "Ol",
        "Per",
        "Quin",
        "Ros",
        "Sal",
        "Tor",
    ),
    ("a", "ba", "ca", "da", "e", "fa", "ga", "i", "la", "li", "ma", "mi", "na", "ne", "o", "ra", "re", "ri", "sa", "ta", "te", "u", "va"),
    ("bell", "by", "cott", "dale", "den", "don", "field", "ford", "ham", "land", "low", "mar", "more", "net", "rell", "rin", "son", "ton"),
)


def misspell(text: str, place: int) -> str:
    """Return the text with the letters at `place` and after it swapped."""
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def brands(count: int) -> tuple[Brand, ...]:
    """Return that many brands: the ones above, then made-up names of three syllables, no two alike (8,290 at most)."""
    made = (Brand("".join(parts[::-1]), 0.6 + 0.1 * (number % 11)) for number, parts in enumerate(product(*_SYLLABLES[::-1])))
    return (*BRANDS, *islice(made, max(0, count - len(BRANDS))))[:count]
