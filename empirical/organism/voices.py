"""The voices that speak the corpus: espeak-ng accents crossed with its speaker variants.

Some accents and some variants are set aside. A model is trained on neither, so its errors on them say how far
it has learnt words rather than the sound of its teachers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

VoiceGroup = Literal["trained", "unseen_accent", "unseen_variant"]


@dataclass(frozen=True, slots=True)
class Voice:
    """One way of speaking.

    Attributes:
        accent: espeak-ng voice name, for example "en-gb-scotland".
        variant: espeak-ng variant name, for example "f2"; it sets timbre and base pitch.
        words_per_minute: speaking rate, words per minute.
        pitch: espeak-ng pitch setting, 0 to 99.
    """

    accent: str
    variant: str
    words_per_minute: int
    pitch: int

    @property
    def name(self) -> str:
        """The voice as espeak-ng writes it, accent and variant."""
        return f"{self.accent}+{self.variant}"


@dataclass(frozen=True, slots=True)
class VoiceSet:
    """Voices for training and voices set aside.

    Attributes:
        accents: accents trained on.
        variants: variants trained on.
        unseen_accents: accents never trained on.
        unseen_variants: variants never trained on.
        words_per_minute: lowest and highest speaking rate, both included.
        pitch: lowest and highest pitch setting, both included.
    """

    accents: tuple[str, ...]
    variants: tuple[str, ...]
    unseen_accents: tuple[str, ...]
    unseen_variants: tuple[str, ...]
    words_per_minute: tuple[int, int] = (170, 215)
    pitch: tuple[int, int] = (30, 70)

    def draw(self, group: VoiceGroup, rng: np.random.Generator) -> Voice:
        """Draw a voice of the group; an unseen accent comes with a trained variant, and the reverse."""
        accents = self.unseen_accents if group == "unseen_accent" else self.accents
        variants = self.unseen_variants if group == "unseen_variant" else self.variants
        return Voice(
            accent=accents[int(rng.integers(len(accents)))],
            variant=variants[int(rng.integers(len(variants)))],
            words_per_minute=int(rng.integers(self.words_per_minute[0], self.words_per_minute[1] + 1)),
            pitch=int(rng.integers(self.pitch[0], self.pitch[1] + 1)),
        )


ESPEAK_ENGLISH = VoiceSet(
    accents=("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd"),
    variants=(
        *("adam", "Alex", "Alicia", "Andrea", "Andy", "Annie", "aunty", "belinda", "benjamin", "boris"),
        *("caleb", "david", "Denis", "Diogo", "ed", "edward", "Gene", "grandma", "Henrique", "Hugo"),
        *("iven", "iven3", "Jacky", "john", "kaukovalta", "Lee", "marcelo", "Mario", "max", "Michael"),
        *("miguel", "Mr", "Nguyen", "pablo", "pedro", "quincy", "robert", "steph", "travis", "victor"),
        *("f1", "f2", "f4", "f5", "m1", "m2", "m4", "m5", "m6", "m8"),
    ),
    unseen_accents=("en-029", "en-us-nyc"),
    unseen_variants=("f3", "m3", "m7", "linda", "paul", "shelby", "norbert", "zac"),
)
"""espeak-ng 1.51: six accents by fifty variants for training; Caribbean and New York accents and eight variants kept
out. Whispering, croaking and robot variants are left out of both: they are effects, not speakers."""
