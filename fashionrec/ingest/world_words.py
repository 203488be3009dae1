"""The words that the synthetic fashion world is made of."""

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
}
STYLES: dict[str, tuple[str, ...]] = {
    "Clothing": ("Floral", "Striped", "Linen", "Checked", "Velvet", "Plain"),
    "Footwear": ("Leather", "Suede", "Canvas", "Knit", "Patent", "Vegan"),
    "Accessories & Jewelry": ("Minimal", "Vintage", "Classic", "Beaded", "Braided", "Engraved"),
    "Luggage & Bags": ("Leather", "Canvas", "Quilted", "Nylon", "Woven", "Recycled"),
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
SIZES: dict[str, tuple[str, ...]] = {
    "letters": ("XS", "S", "M", "L", "XL"),
    "shoes": ("36", "37", "38", "39", "40", "41", "42", "43"),
    "bags": ("Small", "Medium", "Large"),
    "one": ("One Size",),
}


def misspell(text: str, place: int) -> str:
    """Return the text with the letters at `place` and after it swapped."""
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]
