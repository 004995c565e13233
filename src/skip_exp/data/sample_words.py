"""Words and sentence frames of the generated sample, for train and for validation.

The two sets share function words only, so transfer requires word meanings from pre-training.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """Vocabulary of one split.

    Frames have the fields {h} subject, {a} and {b} adjectives, {c} claimed adjective, {o} opposite
    of {a}, and {x}, {y}, {z} words of a topic.
    """

    things: tuple[str, ...]
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    topics: tuple[tuple[str, ...], ...]  # in label order
    plain: tuple[str, ...]  # states the adjectives
    negated: tuple[str, ...]  # negates them
    contrasted: tuple[str, ...]  # concedes an opposite detail first
    claims: tuple[str, ...]
    questions: tuple[str, ...]
    filler: tuple[str, ...]
    about: tuple[str, ...]  # lists topic words


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TRAIN = Words(
    things=_words("film dinner hotel concert book garden holiday lecture song cake"),
    positive=_words(
        "wonderful excellent delightful magnificent terrific outstanding charming admirable"
        " impressive fabulous pleasant stunning great captivating refreshing thrilling elegant"
        " uplifting phenomenal flawless enchanting good superlative adorable satisfying"
    ),
    negative=_words(
        "awful terrible dismal abysmal miserable disappointing dull appalling tedious hideous"
        " unpleasant inferior clumsy bad irritating frustrating shoddy grim sloppy rotten"
        " unbearable nasty repulsive laughable unsatisfying"
    ),
    topics=(
        _words("president embassy parliament treaty border refugees minister ceasefire"),
        _words("football goalkeeper stadium tournament coach athlete striker referee"),
        _words("profit shares investor merger retailer dividend bank earnings"),
        _words("software telescope internet laptop satellite algorithm database astronaut"),
        _words("doctor surgery vaccine diagnosis clinic infection patient therapy"),
        _words("guitar orchestra melody drummer choir symphony pianist album"),
        _words("oven butter recipe garlic chef soup frying pastry"),
        _words("church prayer bishop temple worship gospel monk pilgrim"),
        _words("farmer tractor wheat sheep barn harvest chicken orchard"),
        _words("teacher classroom homework pupil exam textbook campus scholarship"),
    ),
    plain=(
        "The {h} was {a} and {b}.",
        "Everyone said the {h} was {a}, even {b}.",
        "We thought the {h} {a} and {b}.",
    ),
    negated=("The {h} was not {a} at all, nor {b}.", "Nobody thought the {h} {a} or {b}."),
    contrasted=(
        "One part was {o}, but the {h} as a whole was {a} and {b}.",
        "The start was {o}; even so, everyone said the {h} was {a}.",
    ),
    claims=("The {h} was {c}.", "They all thought the {h} {c}.", "The {h} was {c} for everyone."),
    questions=("Was the {h} {c}?", "Did everyone think the {h} was {c}?"),
    filler=(
        "It lasted two hours.",
        "There were thirty of us.",
        "That was on a Tuesday.",
        "My sister was with us.",
        "It was in the north of the country.",
    ),
    about=("They spoke of {x}, {y} and {z}.", "There was much about {x}, {y} and the {z}."),
)

VALIDATION = Words(
    things=_words("movie meal hostel show novel park trip speech tune pie"),
    positive=_words(
        "superb brilliant marvellous splendid fantastic lovely exquisite enjoyable glorious"
        " amazing remarkable beautiful perfect fascinating inspiring graceful dazzling heartwarming"
        " gorgeous sublime likeable fine exceptional first-rate gratifying"
    ),
    negative=_words(
        "dreadful horrible atrocious lousy pathetic boring ghastly disgusting horrid bleak"
        " worthless wretched ugly poor mediocre annoying depressing messy lifeless painful"
        " intolerable vile revolting ridiculous inadequate"
    ),
    topics=(
        _words("diplomat sanctions election troops rebels government hostage summit"),
        _words("tennis championship batsman playoffs medal quarterback olympics sprinter"),
        _words("stocks revenue takeover mortgage economy wholesaler inflation startup"),
        _words("computer spacecraft browser smartphone robot programmer server microchip"),
        _words("hospital nurse medicine disease surgeon virus symptom tumour"),
        _words("violin singer composer concerto trumpet rhythm band opera"),
        _words("kitchen flour baking sauce stew spices cheese dessert"),
        _words("priest faith mosque scripture chapel baptism rabbi saint"),
        _words("cattle crops ploughing livestock hay pasture pigs irrigation"),
        _words("student lesson university tuition professor curriculum kindergarten grades"),
    ),
    plain=(
        "Critics judged this {h} {a} and {b}.",
        "In short, this {h} seemed {a}, truly {b}.",
        "Visitors found that {h} {a} and also {b}.",
    ),
    negated=("No critic found that {h} {a}, still less {b}.", "This {h} never seemed {a} or {b}."),
    contrasted=(
        "Its opening seemed {o}, yet overall critics judged this {h} {a} and {b}.",
        "Though some detail seemed {o}, visitors found that {h} {a}, truly {b}.",
    ),
    claims=(
        "Guests seemed to consider this {h} {c}.",
        "This {h} seemed {c}.",
        "Guests considered that {h} {c}.",
    ),
    questions=("Do people consider this {h} {c}?", "Would guests find that {h} {c}?"),
    filler=(
        "Admission costs nine pounds.",
        "Doors open shortly before noon.",
        "Parking is available nearby.",
        "Several cousins came along.",
        "Afterwards buses run until midnight.",
    ),
    about=("Yesterday's report covers {x}, {y} and {z}.", "Our topic today is {x}, {y} and {z}."),
)
