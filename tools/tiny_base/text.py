"""Made-up fashion text for the tiny base: words, titles, queries. Nothing here comes from a shop or from the demo's world."""

from random import Random


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COLOURS = _words(
    """
    black white grey silver ivory cream beige sand camel tan brown chocolate rust copper gold yellow mustard orange coral peach pink
    rose  blush fuchsia magenta red burgundy crimson scarlet wine purple lilac lavender violet plum navy blue sky teal turquoise aqua
    mint sage olive  khaki green emerald forest charcoal anthracite denim indigo nude taupe multicolour
    """
)
MATERIALS = _words(
    """
    cotton linen wool cashmere merino silk satin velvet leather suede denim corduroy tweed fleece jersey chiffon lace mesh nylon
    polyester viscose  modal bamboo canvas straw rubber patent faux fur knit cable ribbed quilted padded recycled organic stainless
    steel sterling brass pearl crystal  enamel resin wooden beaded
    """
)
STYLES = _words(
    """
    slim regular relaxed loose oversized cropped long short mini midi maxi wrap pleated belted tailored classic casual formal elegant
    vintage retro  modern basic essential premium sport sporty outdoor everyday weekend office party evening wedding holiday festival
    beach travel running training  yoga hiking winter spring summer autumn light heavy warm soft stretch waterproof breathable lined
    hooded sleeveless v-neck crew round high low  waist wide straight skinny flared tapered striped checked plaid floral printed plain
    dotted leopard zebra graphic embroidered sequin studded  fringed ruffled layered chunky dainty slip-on lace-up zip button strappy
    pointed platform block heel flat ankle knee over small medium large
    """
)
KINDS = {
    "Clothing": _words(
        """
        dress skirt blouse shirt t-shirt top tank camisole polo sweater jumper cardigan hoodie sweatshirt jacket coat parka trench blazer
        vest waistcoat  jeans trousers pants chinos leggings joggers shorts jumpsuit romper suit pyjamas robe nightdress bikini swimsuit
        bra briefs boxers socks tights  kimono tunic turtleneck bodysuit overalls poncho windbreaker raincoat anorak
        """
    ),
    "Footwear": _words(
        """
        sneakers trainers boots loafers sandals heels pumps flats mules clogs slippers espadrilles oxfords brogues derbies moccasins
        wedges  flip-flops slides ballerinas wellingtons shoes booties
        """
    ),
    "Bags": _words(
        """
        bag handbag backpack tote clutch purse wallet satchel crossbody shoulder bucket duffel suitcase luggage trolley messenger
        briefcase  rucksack pouch hobo weekender cardholder holdall
        """
    ),
    "Accessories": _words(
        """
        necklace earrings ring bracelet bangle watch brooch pendant anklet hoops studs chain scarf shawl hat cap beanie beret gloves
        mittens belt tie  bow sunglasses glasses umbrella hairband scrunchie keyring cufflinks headband snood fan
        """
    ),
}
PEOPLE = ("women's", "men's", "women's", "men's", "women", "men", "girls", "boys", "kids", "unisex", "ladies", "womens", "mens", "baby")
EXTRAS = _words(
    """
    with pockets hood belt bow buckle tassel strap zip pattern print collar sleeves lining set pack pair of the for and in a size gift
    occasion season  material holiday length fit sleeve neckline heel toe closure style new collection edition limited
    vegan woven engraved braided minimal carry-on derby ballet hoop charm vacation everyday gold-tone
    """
)
ATTRIBUTES = {
    "brand": (),
    "colour": COLOURS,
    "size": ("XS", "S", "M", "L", "XL", "XXL", "one size", "36", "37", "38", "39", "40", "41", "42", "44", "46"),
    "material": MATERIALS,
    "season": ("spring", "summer", "autumn", "winter", "all year"),
    "occasion": ("casual", "work", "party", "wedding", "sport", "travel", "evening", "beach", "everyday", "school"),
    "holiday": ("Christmas", "Easter", "Halloween", "Valentine's Day", "Mother's Day"),
    "department": ("women", "men", "kids", "sport"),
}
_SYLLABLES = _words(
    """
    al an ar bel ber bo bra ca cel cor da del do el en es fa fen fi ga gra ha hel i ja ka kel la lan le lo lu ma mir mel mi mo na nel
    no nor o or  pa per pra que ra ren ri ro sa san sel si so sta ta tel ter ti to tra u va vel ver vi vo wa wen win ya za zel
    """
)


# The one brand of the demo's world that these syllables can spell.
_TAKEN = "corvina"


def random_word(rng: Random) -> str:
    """Return a word that no list holds, as brands and model names are."""
    word = "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 3)))
    return random_word(rng) if word == _TAKEN else word


def random_title(rng: Random, category: str) -> str:
    """Return a title of two to seven words with one of the category's products in it."""
    return random_family(rng, category)[0]


def random_family(rng: Random, category: str) -> list[str]:
    """Return the titles of up to five variants of one product: the same but for the colour, at times also for the size."""
    words = [rng.choice(MATERIALS)] if rng.random() < 0.5 else []
    words += rng.sample(STYLES, rng.randint(0, 2))
    words += [rng.choice(KINDS[category])] if rng.random() < 0.7 else rng.sample(KINDS[category], 2)
    if rng.random() < 0.5:
        words = [rng.choice(PEOPLE), *words] if rng.random() < 0.7 else [*words, "for", rng.choice(PEOPLE)]
    if rng.random() < 0.6 or len(words) < 2:
        words = [random_word(rng), *words]
    case = rng.choice((_capitals, _capitals, lambda text: text[0].upper() + text[1:], str))
    colours = rng.sample(COLOURS, rng.randint(2, 5))
    if rng.random() < 0.25:
        colours = [f"{colour}{rng.choice(('', ', ' + rng.choice(ATTRIBUTES['size'])))}" for colour in rng.choices(colours, k=4)]
    season = rng.choice((*ATTRIBUTES["season"], *EXTRAS))
    # A colour stands before the rest or after it.
    form = rng.choice(("{colour} {rest}", "{rest}, {colour}", "{rest}, {colour}, {season}", "{rest} in {colour}"))
    rest = " ".join(words)
    return list(dict.fromkeys(case(form.format(colour=colour, rest=rest, season=season)) for colour in colours))


def _capitals(text: str) -> str:
    return " ".join(word.capitalize() for word in text.split())


def random_query(rng: Random, title: str) -> str:
    """Return one to three words of a title as a shopper would type them."""
    words = title.lower().replace(",", "").split()
    kept = sorted(rng.sample(range(len(words)), min(len(words), rng.randint(1, 3))))
    return " ".join(words[i] for i in kept)


class IdStyle:
    """How the IDs of one catalogue look: their length, letters before them, and whether variants share a beginning."""

    def __init__(self, rng: Random) -> None:
        self._length = rng.choice((5, 6, 6, 6, 6, 6, 7, 8, 9, 10))
        self._prefix = rng.choice(("A", "B", "SKU-", "P", "item-", "i_")) if rng.random() < 0.2 else ""
        self._shared = self._length >= 8 and rng.random() < 0.7
        self._family = ""

    def __call__(self, rng: Random) -> str:
        """Return another ID."""
        digits = "".join(rng.choice("0123456789") for _ in range(self._length))
        if self._shared and self._family and rng.random() < 0.6:
            digits = self._family + digits[-3:]
        self._family = digits[:-3]
        return self._prefix + digits


def all_words() -> list[str]:
    """Return every listed word once."""
    words = [*COLOURS, *MATERIALS, *STYLES, *PEOPLE, *EXTRAS]
    words += [word for kinds in KINDS.values() for word in kinds]
    words += [word for values in ATTRIBUTES.values() for value in values for word in value.split()]
    words += [*KINDS, *ATTRIBUTES, "price"]
    return list(dict.fromkeys(words))
