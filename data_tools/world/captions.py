"""Captions: the same picture in many words."""

import random

from data_tools.world.verbs import Shot

# Present participles (the first is the usual one), third person, past tense.
_FORMS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "dancing": (("dancing",), "dances", "danced"),
    "flying": (("flying", "soaring"), "flies", "flew"),
    "running": (("running", "racing"), "runs", "ran"),
    "driving": (("driving", "racing"), "drives", "drove"),
    "jumping": (("jumping", "hopping", "leaping"), "jumps", "jumped"),
    "sleeping": (("sleeping", "napping"), "sleeps", "slept"),
    "standing": (("standing", "waiting"), "stands", "stood"),
    "spinning": (("spinning", "twirling", "turning around"), "spins", "spun"),
    "floating": (("floating", "drifting"), "floats", "floated"),
}
_TIMES = {"night": ("at night", "in the night"), "sunset": ("at sunset", "in the evening"), "day": ("during the day",)}


def _mostly_first(rng: random.Random, words: tuple[str, ...], chance: float) -> str:
    """The first word, or with the given chance one of the others."""
    return rng.choice(words[1:]) if len(words) > 1 and rng.random() < chance else words[0]


def article(noun: str) -> str:
    """The indefinite article as it is spoken: an owl, a unicorn, a ufo."""
    return "an" if noun[0] in "aeiou" and not noun.startswith(("uni", "ufo")) else "a"


def caption(shot: Shot, time: str, rng: random.Random) -> str:
    """A sentence or phrase about a shot, with its article, tense, preposition and synonyms drawn from rng.

    Plurals appear where the picture shows many ("among the trees"); there is always one actor.
    """
    actor = _mostly_first(rng, (shot.actor.name, *shot.actor.synonyms), 0.15)
    drives = shot.verb == "running" and shot.actor.is_vehicle and rng.random() < 0.75
    doing, does, did = _FORMS["driving" if drives else shot.verb]
    verb = _mostly_first(rng, doing, 0.2)
    place = _mostly_first(rng, shot.scene.phrases, 0.35)
    an = article(actor)
    simple_verb = verb.split()[0]
    patterns = (
        (24, f"{an} {actor} {verb} {place}"),
        (16, f"{an} {actor} is {verb} {place}"),
        (16, f"{actor} {verb} {place}"),
        (8, f"the {actor} is {verb} {place}"),
        (6, f"the {actor} {did} {place}"),
        (6, f"{an} {actor} {does} {place}"),
        (6, f"{article(simple_verb)} {simple_verb} {actor} {place}"),
        (4, f"{an} {actor} was {verb} {place}"),
        (4, f"{place}, {an} {actor} is {verb}"),
        (4, f"a picture of {an} {actor} {verb} {place}"),
    )
    text = rng.choices([words for _, words in patterns], [weight for weight, _ in patterns])[0]
    if rng.random() < (0.06 if time == "day" else 0.25) and len(set(shot.scene.times)) > 1:
        text = f"{text} {rng.choice(_TIMES[time])}"
    return text
