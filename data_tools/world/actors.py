"""Who plays in the world: names, glyphs, and which way each glyph looks."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from t2v.errors import InputError

DEFAULT_FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
_BITMAP_SIZE = 109  # the one size at which Noto Color Emoji holds its bitmaps

GlyphSource = Callable[[str], Image.Image]
"""From an emoji to its RGBA picture, cropped to the drawing. Tests pass their own and need no font."""

# One actor per line: name, glyph, where it looks (< left, > right, | at the viewer; v: a vehicle), other words for it.
_SMALL = """
robot 🤖 | android
cat 🐈 < kitty kitten
dog 🐕 < puppy
car 🚗 <v automobile
rocket 🚀 >v
unicorn 🦄 <
horse 🐎 < pony
elephant 🐘 <
dinosaur 🦖 < t-rex
dragon 🐉 <
penguin 🐧 <
octopus 🐙 |
crab 🦀 |
fish 🐟 <
shark 🦈 <
whale 🐳 <
dolphin 🐬 <
turtle 🐢 < tortoise
snake 🐍 <
frog 🐸 | toad
monkey 🐒 <
gorilla 🦍 <
lion 🦁 |
tiger 🐅 <
bear 🐻 |
panda 🐼 |
koala 🐨 |
rabbit 🐇 < bunny
mouse 🐁 <
cow 🐄 <
pig 🐖 < piglet
sheep 🐑 < lamb
goat 🐐 <
camel 🐫 <
giraffe 🦒 <
zebra 🦓 <
kangaroo 🦘 <
rooster 🐓 <
duck 🦆 <
owl 🦉 |
parrot 🦜 <
flamingo 🦩 <
butterfly 🦋 |
bee 🐝 < bumblebee
snail 🐌 <
fox 🦊 |
bus 🚌 <v
taxi 🚕 <v cab
truck 🚚 <v
tractor 🚜 <v
train 🚂 <v locomotive
bicycle 🚲 <v bike
motorcycle 🏍 <v motorbike
airplane ✈ >v plane
helicopter 🚁 <v
ufo 🛸 |v
sailboat ⛵ |v
ghost 👻 |
alien 👽 |
clown 🤡 |
snowman ⛄ |
pumpkin 🎃 | jack-o'-lantern
teddy_bear 🧸 |
pizza 🍕 |
"""

_MORE = """
wolf 🐺 |
raccoon 🦝 |
hippo 🦛 <
rhino 🦏 <
mammoth 🦣 <
bison 🦬 <
ox 🐂 <
ram 🐏 |
llama 🦙 <
deer 🦌 <
boar 🐗 <
chipmunk 🐿 < squirrel
hedgehog 🦔 <
bat 🦇 |
otter 🦦 <
skunk 🦨 <
badger 🦡 <
beaver 🦫 <
turkey 🦃 <
chick 🐥 |
eagle 🦅 <
dove 🕊 <
swan 🦢 <
dodo 🦤 <
peacock 🦚 <
crocodile 🐊 < alligator
lizard 🦎 |
brontosaurus 🦕 <
seal 🦭 <
pufferfish 🐡 <
angelfish 🐠 <
squid 🦑 |
shrimp 🦐 <
lobster 🦞 |
ant 🐜 <
beetle 🪲 |
ladybug 🐞 | ladybird
cricket 🦗 < grasshopper
scorpion 🦂 <
spider 🕷 |
caterpillar 🐛 <
poodle 🐩 <
leopard 🐆 <
orangutan 🦧 |
hamster 🐹 |
moose 🫎 <
donkey 🫏 <
goose 🪿 <
jellyfish 🪼 |
water_buffalo 🐃 <
fire_truck 🚒 <v
police_car 🚓 <v
ambulance 🚑 <v
van 🚐 <v
jeep 🚙 <v
race_car 🏎 <v
scooter 🛵 <v
skateboard 🛹 |v
trolleybus 🚎 <v
tram 🚋 <v
bullet_train 🚅 <v
ship 🚢 <v
speedboat 🚤 <v
canoe 🛶 |v
satellite 🛰 |v
lorry 🚛 <v
space_invader 👾 |
ogre 👹 |
skull 💀 |
genie 🧞 |
mermaid 🧜 |
fairy 🧚 |
vampire 🧛 |
zombie 🧟 |
wizard 🧙 |
elf 🧝 |
superhero 🦸 |
ninja 🥷 |
santa 🎅 |
princess 👸 |
king 🤴 | prince
baby 👶 |
angel 👼 |
cookie 🍪 |
hamburger 🍔 | burger
hot_dog 🌭 |
taco 🌮 |
burrito 🌯 |
donut 🍩 | doughnut
cake 🎂 |
cupcake 🧁 |
ice_cream_cone 🍦 |
popcorn_box 🍿 |
loaf 🍞 |
croissant 🥐 |
pretzel 🥨 |
cheese 🧀 |
apple 🍎 |
banana 🍌 |
strawberry 🍓 |
watermelon 🍉 |
pineapple 🍍 |
orange 🍊 |
lemon 🍋 |
pear 🍐 |
peach 🍑 |
avocado 🥑 |
carrot 🥕 |
tomato 🍅 |
broccoli 🥦 |
mushroom 🍄 |
sunflower 🌻 |
tulip 🌷 |
soccer_ball ⚽ |
basketball 🏀 |
guitar 🎸 |
drum 🥁 |
trumpet 🎺 |
violin 🎻 |
camera 📷 |
television 📺 | tv
laptop 💻 |
alarm_clock ⏰ |
umbrella ☂ |
book 📕 |
backpack 🎒 |
hat 🎩 |
crown 👑 |
boot 👢 |
sneaker 👟 < shoe
key 🔑 |
gift 🎁 | present
star ⭐ |
heart ❤ |
diamond 💎 |
moon 🌛 |
sun 🌞 |
bell 🔔 |
trophy 🏆 |
anchor ⚓ |
teapot 🫖 |
christmas_tree 🎄 |
dice 🎲 |
"""


@dataclass(frozen=True)
class Actor:
    """One actor: its word, its glyph, where the glyph looks (-1 left, 1 right, 0 at the viewer), other words for it."""

    name: str
    glyph: str
    facing: int
    is_vehicle: bool
    synonyms: tuple[str, ...]


def _parse(table: str) -> tuple[Actor, ...]:
    actors = []
    for line in table.strip().splitlines():
        name, glyph, look, *synonyms = line.split()
        facing = {"<": -1, ">": 1, "|": 0}[look[0]]
        actors.append(Actor(name.replace("_", " "), glyph, facing, look.endswith("v"), tuple(synonyms)))
    return tuple(actors)


PRESETS: dict[str, tuple[Actor, ...]] = {"small": _parse(_SMALL), "large": _parse(_SMALL + _MORE.lstrip())}


def actors_of(preset: str) -> tuple[Actor, ...]:
    """The actors of a preset, "small" or "large"; InputError for another name."""
    if preset not in PRESETS:
        raise InputError(f"unknown preset {preset!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[preset]


class FontGlyphs:
    """Glyphs from Noto Color Emoji (bitmaps 136 pixels wide). Can be sent to other processes.

    Raises:
        InputError: no such file, or not an emoji font.
    """

    def __init__(self, path: Path = DEFAULT_FONT) -> None:
        if not path.is_file():
            raise InputError(
                f"emoji font not found: {path}; install the package fonts-noto-color-emoji or name the file with --font"
            )
        self.path = path
        try:
            self._font = ImageFont.truetype(str(path), _BITMAP_SIZE)
        except OSError as error:
            raise InputError(f"{path} cannot be used as the emoji font ({error}); use NotoColorEmoji.ttf") from error

    def __reduce__(self) -> tuple[type["FontGlyphs"], tuple[Path]]:
        return FontGlyphs, (self.path,)

    def __call__(self, glyph: str) -> Image.Image:
        image = Image.new("RGBA", (168, 168))
        ImageDraw.Draw(image).text((14, 14), glyph, font=self._font, embedded_color=True)
        box = image.getbbox()
        if box is None:
            raise InputError(f"{self.path} has no picture for {glyph!r}; use a newer NotoColorEmoji.ttf")
        return image.crop(box)
