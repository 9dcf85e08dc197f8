"""The built-in corpus: news-like English, generated, of any size, and the same for the same seed.

A document has a topic, a cast of coined names, and sentences drawn from patterns. The names of
validation and test grow from stems that training never uses, so that only context finds them.
"""

import re
from collections.abc import Iterator
from functools import cache
from itertools import count, islice, product
from random import Random
from typing import NamedTuple
from zlib import crc32

from nerc.data.tags import CONLL_TYPES

SPLITS = ("train", "validation", "test", "llm", "llm-missing")

# How hard the corpus is; TYPICAL_ENDINGS does most.
AMBIGUOUS = 0.05  # share of prose in which a name's type shows in its document only, if at all
PATTERN_SKEW = 1.6  # 1: all patterns equally often; above: few common ones and a tail of rare ones
TYPICAL_ENDINGS = 0.3  # share of coined words with an ending typical of their kind (-son, -burg)
SHORT_NAMES = 0.8  # share of later mentions that are short: surname alone, firm without its Corp
SHARED_NAMES = 0.35  # share of clubs, firms, ... called after a place or person of the document

# What brings lengths and class balance near CoNLL-2003's.
TOPICS = "sport sport sport politics politics business business crime disaster culture".split()
TABLE_DOCUMENTS = 0.38  # share of documents that are mostly short lines: results, prices, weather
TABLE_LINES = 0.9  # share of such lines in their bodies
TABLE_HEADS = 0.34  # share of these that are headings, without a name
TABLE_CAST = 4  # how many times more names they know
CAPITAL_HEADLINES = 0.8  # the other documents have headlines Like This
DATELINES = 0.85  # share of documents that name place and date under the headline
BYLINES = 0.3  # share of documents with their writer's name on a line of its own
BODY_LENGTHS = (5, 16)  # sentences, uniform

# --- Words of text -------------------------------------------------------------------------------
# Rules, as "name: pattern | pattern". In a pattern $person is a name of that kind, <when> another
# rule, <clause> a pattern of the document's topic, [x] optional, {x|y} a choice; the rest is words.
# In frames and topics common patterns stand first.

GRAMMAR = """
day: Monday | Tuesday | Wednesday | Thursday | Friday | Saturday | Sunday
month: January | February | March | April | May | June | July | August | September | October |
    November | December
mon: Jan | Feb | Aug | Sept | Oct | Nov | Dec
nth: first | second | third | fourth | fifth | sixth
few: two | three | four | five | six | seven | eight | nine | ten | a dozen
when: on <day> | on <day> | late on <day> | last week | in <month> | at the weekend | this week |
    early on <day> | earlier this year | at <clock> GMT | on <month> <dom> | last <month> | on
    <day> night | before dawn on <day>
where: in $city | near $city | in $country | in the $demonym {capital|north|south} | in the
    $demonym city of $city | at $venue | outside $city , $country | on the border with $country |
    not far from here | at an undisclosed place
title: President | Prime Minister | Foreign Minister | Senator | Mr | Mrs | Dr | General | Judge |
    Sir | Chancellor | Interior Minister | Bishop | Captain
office: president | prime minister | foreign minister | finance minister | ambassador | mayor
official: <title> $person | $person | $demonym <office> $person | the $demonym <office> | $country
    's <office> $person | the <office>
boss: chief executive $person | $firm chairman $person | $person , head of $firm , | $person of
    $firm | analyst $person
player: $person | $demonym {striker|captain|champion|teenager|qualifier} $person | $club
    {captain|coach|goalkeeper|midfielder} $person | $person of $country | {former|world|defending}
    champion $person | <nth> seed $person
artist: $person | {director|singer|novelist|actress|conductor} $person | the $demonym
    {painter|poet|actor} $person
source: police | officials | witnesses | a spokesman | a $firm spokeswoman | $body | sources close
    to the talks | state radio | the $paper | diplomats | $party | <title> $person | $person |
    analysts | doctors | people who were there | $person , a $demonym lawyer ,
said: said | said <when> | told reporters | told a news conference | told the $paper | confirmed
    <when>
issue: fishing rights | farm prices | the budget | a new airport | pensions | border controls | the
    release of prisoners | water | human rights | the price of bread | trade
money: $ <num> million | <num> million crowns | $ <num> billion | <thousands> pounds
move: rose | fell | slipped | climbed | jumped | dropped | edged up | eased
goods: steel | coffee | wheat | natural gas | software | cars | timber | copper | shoes | sugar
win: beat | defeated | overcame | thrashed | edged | outplayed
round: final | second round | semifinal | quarter-final | opening match | third round
crash: a bus | a train | a light aircraft | a ferry | a lorry | an army helicopter
storm: heavy rain | a storm | floods | an earthquake | a landslide | snow | high winds
deed: murder | fraud | armed robbery | smuggling heroin | kidnapping | arson | tax evasion
show: a new film | a concert | an exhibition | a play | an opera | a first novel
slogan: No More Lies | Jobs And Bread | Time For Change | Never Again | Stop The War | One Man One
    Vote
reaction: no one was hurt | talks would go on next week | more details were to follow | the cause
    was not yet known | the decision was final | it was too early to say more about the future |
    there was nothing new in the report | nobody had expected it | the matter was closed | $person
    had not been told | the news came as a surprise in $city | it would take at least <few> months
    to put things right | $body would look into the matter | life in $country would never be the
    same
aside: after similar news from $country | in spite of all the warnings | for the <nth> time this
    year | in a move that took most people by surprise | in the latest sign that things were going
    from bad to worse | to the horror of many $people | in what some saw as a turning point | for
    reasons that were not explained | despite earlier promises to the contrary | after weeks of
    rumours and half-truths
lead: in $city , | <day> 's papers say | at the same time | later | in a separate development , |
    meanwhile | <few> years ago | as darkness fell on $city , | on <day> , | to the surprise of
    many $people , | for the <nth> day running | according to $body , | after a long day behind
    closed doors , | in the first sign of a change of mood ,
quote: This is a good day for all of us | We will not give up | I have nothing to hide | It was the
    worst moment of my life | We need more time and more money | Nobody knows what happens next |
    We came to $city to work | $person must go | $country will never forget this | People like
    $person do not change | God was with us | I do not trust $body | We are all $people now | The
    {PM|TV|CEO|GDP} figures were wrong

frame: <clause> <when> . | <source> said <when> that <clause> <aside> and that <reaction> . |
    <clause> , <source> <said> , and <reaction> . | <clause> <aside> , but <reaction> . | <lead>
    <clause> <aside> . | <source> <said> that <clause> . | " <quote> , " $person {said|told
    reporters <when>|told the $paper} . | <clause> . | <reaction> . | <clause> <aside> , <source>
    said . | <clause> while <clause> , <source> <said> . | <clause> <where> <when> <aside> ,
    <source> <said> . | " <quote> , " said <title> $person , {a friend|an adviser|a neighbour} of
    $person . | <lead> <clause> because <clause> , a report {by $body|in the $paper} said . |
    <source> said <reaction> and <reaction> . | It was not clear why <clause> , and <reaction> . |
    <clause> after <clause> . | He said <clause> and <reaction> . | <clause> <when> when <clause> ,
    <source> <said> . | Asked about $person , <source> said only : " <quote> . " | They carried a
    banner that read " <slogan> " . | - <clause> . | " <slogan> , " said posters all over $city ,
    where <clause> <when> .
ambiguous: $any was not available for comment . | <clause> , $any said . | It has been a bad week
    for $any . | $any declined to say why <clause> . | Asked about $any , <source> said <reaction>
    . | $any has lost a lot of money since <month> . | <clause> , and $any knew it . | The rest was
    up to $any , <source> <said> .
dateline: $city <date>
byline: $person | -- $city Newsroom , <num> <num> <num>

politics: <official> arrived in $city for talks with <official> | ministers failed to agree on
    <issue> | $country and $country {signed|rejected} a treaty on <issue> | the $demonym government
    raised taxes on fuel and tobacco | <official> accused $country of breaking the $treaty |
    parliament voted by <num> to <num> against changes to the law on <issue> | thousands of $people
    marched through $city in protest at plans for <issue> | $party called for new elections in
    $country | <official> met <official> {at $venue|in $city} to discuss <issue> | the opposition
    walked out of the chamber in a dispute over <issue> | $person resigned as <office> of $country
    after <few> months in office | $country recalled its ambassador from $city | $body urged
    $country to free <few> jailed $demonym journalists | voters stayed at home in {large|small}
    numbers because of the rain | $person won <thousands> votes and $person only <thousands> |
    troops {pulled out of|moved into|shelled} $city {in <month>|after <few> days of fighting} | the
    $treaty came into force | the cabinet met for <few> hours and decided nothing | <few> members
    of $party crossed the floor to join $party | $person , who led $party for <few> years , died in
    $city at the age of <age> | relations between $city and $city had cooled since the $treaty |
    the $paper published a secret letter from $person to $person | $people went to the polls to
    choose a successor to $person | peace envoy $person flew from $city to $city and on to $city |
    rebels took <few> villages along $area | the president called Section <num> of the bill a
    mistake
politics-headline: $demonym <office> {quits|in $city for talks|to visit $country} | $person
    {wins|loses|calls for} vote {in $country|on <issue>} | $country , $country {sign|near|reject}
    deal on <issue> | $party {attacks|backs} $person over <issue> | press digest - $country - <mon>
    <dom> | <num> hurt as police and students clash in $city | $people vote in key poll |
    government rejects call for inquiry
politics-head: Results by district : | For the record : | Seats Won Lost | Turnout <num> percent |
    Other stories on <month> <dom> :
politics-line: $person ( $party ) <num> | - $person {to visit|leaves for|speaks in} $city . |
    <clock> $city - <official> meets $person . | $party <num> <num> <num> | {President|Prime
    Minister|Defence|Justice|Health} : $person

business: shares {in|of} $firm <move> <num> percent to <price> | traders said demand for <goods>
    was weak | $firm {said it would buy|agreed to buy|sold} $firm for <money> | the $demonym
    {crown|currency|economy} <move> <num> percent against the dollar | $firm opened a <goods> plant
    in $city and hired <thousands> workers | inflation <move> to <num> percent in <month> from
    <num> percent in <month> | <boss> forecast higher profits from <goods> sales in $country |
    $bank {cut|raised} its key interest rate by half a point | $firm named $person chief executive
    in place of $person | prices of <goods> <move> as buyers waited for GDP figures | exports of
    <goods> from $country to $country <move> by <num> percent | $firm lost <money> in the first
    half | markets were closed for a holiday | $body fined $firm <money> for fixing the price of
    <goods> | $person bought <num> percent of $firm from $person | Class A shares closed higher in
    thin trade | $country borrowed <money> from $bank to pay for <goods> | the
    {board|factory|owners} of $firm rejected a bid by $firm | a tender for <thousands> tonnes of
    $demonym <goods> closed without bids | the $craft , a small car made by $firm , sold well in
    $country | a strike at $venue stopped shipments of <goods> | $firm , founded by $person in
    <year> , makes <goods> in $city | $firm cut jobs in $city , where it had built the $craft since
    <year>
business-headline: $firm {shares up|to cut jobs|sees higher profit} | $firm in talks to buy $firm -
    $paper | $demonym {stocks end higher|crown firm|bank cuts rates} | $firm <num> <month> quarter
    | <goods> prices slip on weak demand | market talk - <goods> | $person to head $firm | $bank
    sees $country growth at <num> pct
business-head: Closing prices on <day> : | Volume <thousands> shares | <goods> <price> <price> |
    Net <num> vs <num> | Shr {profit|loss} <price> vs <price> | ( All figures in millions )
business-line: $firm <price> {up|down} <price> | $firm <price> <price> + <num> | $city
    {Gold|Spot|Close} <price> | {Dollar|Crown|Gold|Oil} / $demonym crown <price>

sport: <player> <win> <player> <set> <set> in the <round> of the $event | the referee stopped play
    after <num> minutes | $club <win> $club <score> <when> | $club drew <draw> with $club in $city
    | <player> scored <few> times for $club against $club | <few> players were booked in a dull
    second half | <player> won the $event in $city | $club signed $demonym {international|defender}
    $person from $club for <money> | $country <win> $country <score> in the <round> of the $event |
    heavy rain delayed the start by <few> hours | $club coach $person was sent off | <player> broke
    the {world|course} record in a time of <time> | $person ( $country ) beat $person ( $country )
    <set> <set> | the home side hit the post twice and lost | $club lost at home to $club and
    stayed bottom of the table | fans of $club fought with police outside $venue | $person ,
    injured in a match against $club , missed the $event | the $demonym team lost <score> to
    $country | $person took <few> wickets as $country reached <num> for <few> | <player> pulled out
    of the $event because of a back injury | $league banned <player> for <few> matches | $country
    named $person of $club and $person of $club in a squad for the $event | $person 's goal gave
    $club a <score> win over $club | <player> led the $event by <few> strokes after a round of
    <num>
sport-headline: soccer - $demonym first division {results|summaries|standings} | soccer - $club
    {beat|sink|hold} $club | tennis - $person {wins|through|out} in $city | golf - scores at $event
    | cricket - $country <num> for <few> v $country | $person sends $club top | cycling - leading
    placings in $event | soccer - results of weekend matches
sport-head: Results of matches on <day> : | Attendance : <thousands> | {Division|Group|Round}
    {One|Two} | Standings After <day> 's Games | Played Won Drawn Lost Points | Men 's singles ,
    <nth> round | Add {men|women} 's <nth> round
sport-line: $club <digit> $club <digit> | $club <num> <num> <digit> <digit> <num> <num> <num> |
    <rank> $person ( $club ) <time> | $person ( $country ) beat <rank> - $person ( $country ) <set>
    <set> | $club AT $club | $club - $person ( <minute> ) , $person ( <minute> ) | At $city : $club
    <num> and <record> , $club <num> | $person $country <num> <num> <num> | $country <digit>
    $country <digit> ( halftime <score> ) | $person b $person <num> | <num> $person ( $club )

crime: police in $city arrested <few> people on suspicion of <deed> | <few> men robbed a bank and
    fled in a stolen car | a court in $city jailed $person for <few> years for <deed> | $person ,
    <age> , was found dead in a hotel {in $city|near $area} | gunmen shot dead <few> soldiers
    <where> | nobody claimed responsibility for the attack | <crash> carrying $demonym tourists
    crashed near $city | $person was charged with the <deed> of $person | <few> $people were held
    in $country on charges of <deed> | the driver was drunk | a bomb exploded outside the offices
    of $firm in $city | $person , a former $firm manager , admitted <deed> | customs officers found
    <num> kilos of cocaine on <crash> | DNA tests showed that the man was not guilty | the victims
    , all $people , came from $city | $person escaped from a prison near $area | $country asked
    $country to hand over $person , wanted for <deed> | a letter signed " A Friend " was sent to a
    newspaper | $body offered <money> for the capture of $person | the $craft , a $demonym ship ,
    was seized off $city with guns on board
crime-headline: $person jailed for <deed> | <few> held in $city over <deed> | police hunt gang
    after raid | bomb {kills|hurts} <few> in $city | $demonym court frees $person | bus crash kills
    <num> in $country
crime-head: Other cases : | Names of the dead : | Verdicts on <day>
crime-line: $city - <few> {dead|held|hurt} . | $person , <num> , $demonym ,
    {driver|missing|released} . | {Wanted|Missing|Released} : $person , $city | Case <num> :
    $person v $firm

disaster: <storm> killed at least <num> people <where> | more than <thousands> people fled their
    homes | <storm> hit the $demonym coast and cut power to <thousands> homes |
    {roads|schools|airports} were closed by <storm> | $body sent <num> tonnes of food and blankets
    to $country | people slept in cars and tents in spite of the cold | <num> people were missing
    after the $craft sank off $country | smoke was seen over $area | the drought ruined half of the
    wheat crop | $person , who was on holiday in $city , said trees fell on cars | doctors at a
    hospital in $city treated <num> people for burns | volcano experts warned that lava could reach
    $city | a strong earthquake shook $area | <title> $person visited $city and promised <money>
    for victims | the $craft , carrying <num> $people , ran aground near $area | the {worst|first}
    hurricane of the season moved towards $country | $firm insured the $craft for <money> | $person
    , <age> , a fisherman from $city , saw the $craft go down
disaster-headline: <num> dead after <storm> in $country | <num> missing after $craft sinks | quake
    shakes $city | $demonym weather - rain and snow | thousands flee as storm nears
disaster-head: Outlook : {cloudy|Dry|Rain Later|windy} | Temperatures at <clock> GMT | High Low Sky
    | State of roads on <day> :
disaster-line: $city <num> <num> {cloudy|sunny|rain|snow|Fair|Fog} | $city <digit> <digit>
    {Rain|Snow|Clear} | $area : {open|closed|slow traffic} | $country <num> dead , <num> missing |
    $craft ( $country ) <num> aboard

culture: <artist> opened <show> in $city | critics hated <show> | <artist> won the $event for "
    $work " | " $work " , <show> by $person , opens in $city | thousands of fans heard <artist>
    sing in $city | the band cancelled its tour because the singer had lost her voice | $body
    bought a painting by $person for <money> | the $demonym government banned " $work " | $person
    plays $person in " $work " | tickets cost <num> crowns | <artist> died at home in $city ,
    $country , aged <age> | the $event opened with a $demonym film about war | the prize is worth
    <thousands> pounds a year | $firm will publish " $work " in <month> | the $paper called " $work
    " a masterpiece | $people queued for hours outside $venue | $person , born in $city in <year> ,
    grew up in $country | the {choir|orchestra} of $body played in $city | $demonym was the
    language of the court
culture-headline: $person wins $event | $demonym film takes top prize | $person , <age> , dies in
    $city | " $work " opens in $city | museum finds lost painting
culture-head: On stage in <month> : | Doors open <clock> | Last week 's place in brackets | Winners
    of the <nth> night :
culture-line: <rank> " $work " - $person | <rank> $person , {piano|violin|voice|cello} ( $body ) |
    Best {Film|Actor|Actress|Song} : " $work " | $city , $venue , <month> <dom> : $person | Best
    {Film|Actor|Actress|Song} : $person
"""

NUMBERS = {
    "digit": range(7),
    "num": range(2, 100),
    "thousands": [f"{i},000" for i in range(2, 100)],
    "year": range(1931, 2000),
    "date": [f"1996-{i:02}-{j:02}" for i in range(1, 13) for j in range(1, 29)],
    "rank": [f"{i}." for i in range(1, 31)],
    "minute": [f"{i}th" for i in range(24, 90) if i % 10 > 3],
    "dom": range(1, 29),
    "age": range(41, 96),
    "score": [f"{i}-{j}" for i in range(1, 6) for j in range(i)],
    "draw": [f"{i}-{i}" for i in range(5)],
    "record": [f"{i}-{j}" for i in range(10, 99) for j in range(10)],
    "set": "6-0 6-1 6-2 6-3 6-4 7-5 7-6 4-6 3-6".split(),
    "price": [f"{i}.{j:02}" for i in range(1, 90) for j in range(0, 100, 25)],
    "time": [f"{i}:{j:02}.{3 * j + i:02}" for i in range(1, 6) for j in range(1, 30)],
    "clock": [f"{i:02}{j}" for i in range(24) for j in ("00", "15", "30", "45")],
}

# --- Words of names ------------------------------------------------------------------------------
# Kinds of names, as "kind type number-in-a-document: form | form"; a form is "[weight*]full" or
# "full / short". Words in capitals are coined; the others are ordinary, and all splits share them.

KINDS = """
person PER 5: 9*GIVEN SURNAME / SURNAME | GIVEN van der SURNAME / van der SURNAME
    | GIVEN de SURNAME / de SURNAME | GIVEN bin SURNAME / bin SURNAME | SURNAME
city LOC 5: 10*PLACE | New PLACE | Port PLACE | PLACE City | San PLACE
country LOC 4: 9*COUNTRY | North COUNTRY | COUNTRY Islands
area LOC 2: PLACE | Lake PLACE | Mount PLACE | PLACE River | PLACE Bay | Gulf of PLACE
venue LOC 2: SURNAME Stadium | PLACE Park | PLACE Airport | SURNAME Hall | PLACE Square
demonym MISC 4: DEMONYM
people MISC 4: PEOPLE
event MISC 2: PLACE Open | YEAR PLACE Cup / PLACE Cup | DEMONYM Grand Prix | SURNAME Prize
    | DEMONYM Open | YEAR SURNAME Trophy / SURNAME Trophy | PLACE Festival
treaty MISC 1: Treaty of PLACE | PLACE Accord | SURNAME Plan | PLACE Convention
work MISC 2: The Road to PLACE | PLACE | The SURNAME Letters | My Year in PLACE | SURNAME and I
    | SURNAME 's Last Song | A PLACE Winter | SURNAME YEAR
craft MISC 1: SURNAME Star | PLACE | Queen of PLACE | PLACE Express
club ORG 8: 9*PLACE | PLACE United / PLACE | FC PLACE / PLACE | PLACE City | Dynamo PLACE
    | PLACE Rovers / PLACE | PLACE Hawks / PLACE | ACRONYM PLACE / PLACE
firm ORG 3: SURNAME | SURNAME Corp / SURNAME | SURNAME Inc / SURNAME | SURNAME & Sons / SURNAME
    | PLACE Motors / PLACE | PLACE AG / PLACE | PLACE Steel | DEMONYM Airlines | ACRONYM
body ORG 3: 2*ACRONYM | University of PLACE | PLACE University | PLACE Hospital | SURNAME Watch
    | PLACE Institute of Technology / PLACE Institute
party ORG 2: 2*ACRONYM | DEMONYM Labour | DEMONYM Unity | Forward COUNTRY | Free COUNTRY
league ORG 1: ACRONYM | DEMONYM Football Union | DEMONYM Athletics
bank ORG 1: Bank of COUNTRY | PLACE Bank | ACRONYM
paper ORG 2: PLACE Herald | PLACE Times | DEMONYM News Agency | New PLACE Post
"""
COINED = frozenset("GIVEN SURNAME PLACE COUNTRY DEMONYM PEOPLE ACRONYM YEAR".split())
ANY = ("person", "firm", "club", "city")  # what $any may be

# A coined word is a stem (onset, vowel, coda) and an ending: four letters at least.
ONSETS = "b br d dr f g gr h k kl kr l m n p pl r s st t th tr v w z".split()
VOWELS = "a e i o u ei".split()
CODAS = (
    "lt nd rk rl rm rv st sk mb lm lv nz lin vas mel tor nik dal cor wen bel ris lan dov".split()
)
NEUTRAL = ["", *"a o en er el in ar is us e an on i ek em as et or".split()]
TYPICAL = {
    "GIVEN": "a o ie us an el".split(),
    "SURNAME": "son ov sen man ini ez ski".split(),
    "PLACE": "burg ville ton grad stad mouth ford".split(),
}
NATIONS = [  # endings of a country, its adjective and its people
    dict(zip(("COUNTRY", "DEMONYM", "PEOPLE"), endings.split(), strict=True))
    for endings in ("ia ian ians", "land ish ish", "o ese ese", "stan i is", "ar ari aris")
]
CONSONANTS = "BCDFGHJKLMNPRSTVZ"  # of acronyms
OWNERS = ("train",) * 6 + ("validation", "test")  # how the stems are shared out

# --- Labels of an LLM ----------------------------------------------------------------------------
# Fitted to the 2,037 training sentences of CoNLL-2003 that Llama-3.1-405B has labelled; against
# gold: F1 PER 0.753, LOC 0.599, ORG 0.316, MISC 0.047. It wrote the tags before the words, lost
# count on the way, and sprinkled tags.

# The share of the training sentences that have such labels, by length: three lengths to an entry.
LLM_COVERAGE = (0.21, 0.21, 0.19, 0.21, 0.19, 0.14, 0.1, 0.05, 0.035, 0.014, 0.004)
LLM_SPURIOUS = 0.33  # spurious entities per word outside names, once lost
LLM_SPURIOUS_TYPES = (10, 18, 20, 52)  # PER, ORG, LOC, MISC: percent
LLM_SPURIOUS_GROWS = 0.27  # chance of one word more
LLM_ORPHANS = 0.18  # share of entities that begin with I-, once lost: 18 % of sentences have one


class Noise(NamedTuple):
    """How a source of cheap labels errs, beside the types that it muddles."""

    lost_at_start: float  # spurious entities per word outside names: 0.065 at the start, ...
    loses_count: float  # (at each word) ... 0.17 after ten words, 0.24 after twenty
    misses: float  # share of names that stay without a label


NOISES = {
    "llm": Noise(lost_at_start=0.23, loses_count=0.07, misses=0.02),
    # The other way round, as dictionaries and rules err: nothing spurious, and half is not found.
    "llm-missing": Noise(lost_at_start=0.0, loses_count=0.0, misses=0.5),
}
LLM_SWALLOWS = 0.05  # share of names that take the next word in
LLM_CUTS = {"PER": 0.05, "ORG": 0.7, "LOC": 0.1, "MISC": 0.6}  # of several words: cut in two
LLM_READS = {  # the type given to a name that was found: PER, ORG, LOC, MISC in percent
    "person": (96, 1, 1, 2),
    "city country": (1, 4, 94, 1),
    "area venue": (0, 10, 88, 2),
    "demonym people": (4, 16, 71, 9),
    "event treaty work craft": (12, 42, 30, 16),
    "club": (3, 21, 73, 3),
    "firm": (10, 62, 23, 5),
    "body party league bank paper": (3, 75, 15, 7),
}

# --- The tables, read ----------------------------------------------------------------------------

Percent = tuple[int, ...]
Nodes = list[tuple[int, object]]  # a pattern: operations and what they work on
WORDS, NAME, CHOICE, CLAUSE = range(4)
_TOKEN = re.compile(r"[\[\]{}|]|[^\s\[\]{}|]+")


def _entries(table: str) -> Iterator[tuple[str, str]]:
    """Heads and bodies of a table; indented lines go on with the one before."""
    for line in table.replace("\n    ", " ").split("\n"):
        head, colon, body = line.partition(": ")
        if colon:
            yield head, body


@cache
def _grammar() -> dict[str, list[Nodes]]:
    """The patterns of every rule."""
    rules = {name: [[(WORDS, [str(number)])] for number in some] for name, some in NUMBERS.items()}
    rules |= {name: [] for name, _ in _entries(GRAMMAR)}
    for name, body in _entries(GRAMMAR):
        rules[name] += _parse(iter(_TOKEN.findall(body)), rules)
    return rules


def _parse(tokens: Iterator[str], rules: dict[str, list[Nodes]]) -> list[Nodes]:
    """Read alternatives up to the closing bracket. The rules they refer to may be filled later."""
    patterns: list[Nodes] = [[]]
    for token in tokens:
        if token in ("]", "}"):
            break
        if token == "|":
            patterns.append([])
        elif token == "[":
            patterns[-1].append((CHOICE, [[], *_parse(tokens, rules)]))
        elif token == "{":
            patterns[-1].append((CHOICE, _parse(tokens, rules)))
        elif token == "<clause>":
            patterns[-1].append((CLAUSE, None))
        elif token[0] == "<":
            patterns[-1].append((CHOICE, rules[token[1:-1]]))
        elif token[0] == "$" and len(token) > 1:
            patterns[-1].append((NAME, token[1:]))
        elif patterns[-1] and patterns[-1][-1][0] == WORDS:
            patterns[-1][-1][1].append(token)
        else:
            patterns[-1].append((WORDS, [token]))
    return patterns


class _Kind(NamedTuple):
    type: str
    cast: int  # how many names of the kind a document knows
    forms: list[tuple[list[str], list[str]]]  # full and short, as often as the weight says


@cache
def _kinds() -> dict[str, _Kind]:
    kinds = {}
    for head, body in _entries(KINDS):
        name, type_, cast = head.split()
        forms = []
        for text in body.split(" | "):
            weight, _, form = text.rpartition("*")
            full, _, short = form.partition(" / ")
            forms += [(full.split(), (short or full).split())] * int(weight or 1)
        kinds[name] = _Kind(type_, int(cast), forms)
    return kinds


def owner(word: str) -> str:
    """The split that may use a coined word: its first four letters (those of its stem) decide."""
    return OWNERS[crc32(word[:4].lower().encode()) % len(OWNERS)]


@cache
def _stems(split: str) -> list[str]:
    stems = ("".join(parts).capitalize() for parts in product(ONSETS, VOWELS, CODAS))
    return [stem for stem in stems if owner(stem) == split and not _looks_ordinary(stem)]


@cache
def _acronyms(split: str) -> list[str]:
    words = map("".join, product(CONSONANTS, repeat=3))
    return [word for word in words if owner(word) == split and not _looks_ordinary(word)]


def _looks_ordinary(word: str) -> bool:
    return word[:4].lower() in _ordinary()


@cache
def _ordinary() -> frozenset[str]:
    """The first four letters of every word that is not coined."""
    words = set(re.findall(r"[A-Za-z]+", GRAMMAR + KINDS)) - COINED
    return frozenset(word[:4].lower() for word in words)


# --- Documents -----------------------------------------------------------------------------------

Mention = tuple[int, int, str]  # first word, word after the last, kind
Sentence = tuple[list[str], list[Mention]]
_SMALL = frozenset("a an and as at by for from in of on or over the to 's van der de bin".split())


class _Name:
    """A name of a document: told in full at first, mostly in short later."""

    def __init__(self, full: list[str], short: list[str]):
        self.full = full
        self.short = short
        self.is_known = False


class _Document:
    """Writes the sentences of one document."""

    def __init__(self, split: str, seed: int, number: int):
        self.random = Random(f"{seed} {split} {number}").random
        self.grammar = _grammar()
        self.stems = _stems(split)
        self.acronyms = _acronyms(split)
        self.topic = self.pick(TOPICS)
        self.is_table = self.random() < TABLE_DOCUMENTS
        self.nations = [self.pick(self.stems) for _ in range(8)]
        factor = TABLE_CAST if self.is_table else 1
        self.cast = {kind: [None] * factor * cast for kind, (_, cast, _) in _kinds().items()}
        self.to_share: dict[str, list[str]] = {"SURNAME": [], "PLACE": []}
        self.turn = 0  # where in the cast the next name is taken from

    def pick(self, choices):
        return choices[int(len(choices) * self.random())]

    def pick_common(self, choices):
        """Pick one of choices, of which the first are the most common."""
        return choices[int(len(choices) * self.random() ** PATTERN_SKEW)]

    def sentences(self) -> Iterator[Sentence]:
        """Write the document from headline to end."""
        rules = self.grammar
        words, mentions = self.line(self.pick(rules[f"{self.topic}-headline"]), in_short=True)
        in_capitals = self.random() < CAPITAL_HEADLINES
        yield _in_capitals(words) if in_capitals else _in_title_case(words), mentions
        if self.random() < DATELINES:
            words, mentions = self.line(rules["dateline"][0])
            yield _in_capitals(words), mentions
        if self.random() < BYLINES:
            yield self.line(self.pick(rules["byline"]))
        rows = [self.pick(rules[f"{self.topic}-line"]) for _ in range(2)]
        shortest, longest = BODY_LENGTHS
        for _ in range(shortest + int((longest - shortest + 1) * self.random())):
            if self.is_table and self.random() < TABLE_LINES:
                is_head = self.random() < TABLE_HEADS
                yield self.line(self.pick(rules[f"{self.topic}-head"] if is_head else rows))
            elif self.random() < AMBIGUOUS:
                yield self.line(self.pick(rules["ambiguous"]))
            else:
                yield self.line(self.pick_common(rules["frame"]))

    def line(self, pattern: Nodes, *, in_short: bool = False) -> Sentence:
        """Write a sentence of the pattern, with all names in their short form if in_short."""
        self.words: list[str] = []
        self.mentions: list[Mention] = []
        self.in_short = in_short
        if not self.is_table:
            self.turn = int(120 * self.random())
        self.write(pattern)
        first = 1 if self.words[0] == "-" else 0
        self.words[first] = _capitalise(self.words[first])
        return self.words, self.mentions

    def write(self, pattern: Nodes) -> None:
        for operation, operand in pattern:
            if operation == WORDS:
                self.words += operand
            elif operation == CHOICE:
                self.write(operand[int(len(operand) * self.random())])
            elif operation == NAME:
                self.mention(operand)
            else:
                self.write(self.pick_common(self.grammar[self.topic]))

    def mention(self, kind: str) -> None:
        in_short = self.in_short or kind == "any"
        if kind == "any":
            kind = self.pick(ANY)
        names = self.cast[kind]
        self.turn += 1  # so that no sentence says "Molen beat Molen"
        i = self.turn % len(names)
        name = names[i] = names[i] or self.name(kind, i)
        if in_short or (name.is_known and self.random() < SHORT_NAMES):
            words = name.short
        else:
            words, name.is_known = name.full, True
        start = len(self.words)
        self.words += words
        self.mentions.append((start, len(self.words), kind))

    def name(self, kind: str, i: int) -> _Name:
        """Make the i-th name of a kind."""
        full, short = self.pick(_kinds()[kind].forms)
        coined = {part: self.coin(part, kind, i) for part in full if part in COINED}
        return _Name(
            [coined.get(part, part) for part in full], [coined.get(part, part) for part in short]
        )

    def coin(self, part: str, kind: str, i: int) -> str:
        """Make the word for a part, such as SURNAME, of the i-th name of a kind."""
        if part == "YEAR":
            return str(self.pick(NUMBERS["year"]))
        if part == "ACRONYM":
            return self.pick(self.acronyms)
        if part in NATIONS[0]:
            stem = self.nations[i % len(self.nations)]
            return stem + NATIONS[crc32(stem.encode()) // len(OWNERS) % len(NATIONS)][part]
        lends = kind in ("person", "city")
        if not lends and self.to_share[part] and self.random() < SHARED_NAMES:
            return self.to_share[part].pop()
        endings = TYPICAL[part] if self.random() < TYPICAL_ENDINGS else NEUTRAL
        word = self.pick(self.stems) + self.pick(endings)
        if lends and part != "GIVEN":
            self.to_share[part].append(word)
        return word


def _in_capitals(words: list[str]) -> list[str]:
    return [word.upper() for word in words]


def _in_title_case(words: list[str]) -> list[str]:
    return [word if word in _SMALL else _capitalise(word) for word in words]


def _capitalise(word: str) -> str:
    return word[0].upper() + word[1:]


# --- The corpus ----------------------------------------------------------------------------------


def generate(split: str, size: int, seed: int = 0) -> Iterator[tuple[list[str], list[str], int]]:
    """Yield words, IOB2 tags and document number of the sentences of a split, one by one.

    train, validation and test have exactly size sentences, and a longer corpus begins with the
    shorter one. llm has those of the first size sentences of train that have LLM labels (about one
    in seven, seldom long ones), with these labels instead: many are wrong, some not valid IOB2.
    llm-missing has about as many, in which names lack a label instead (see NOISES).
    """
    if split not in SPLITS:
        raise ValueError(f"the sample corpus has no split {split!r}, only {', '.join(SPLITS)}")
    if size < 1:
        raise ValueError(f"a sample corpus has at least 1 sentence, not {size}")
    if split in NOISES:
        return _llm_labelled(size, seed, NOISES[split])
    return _gold_labelled(split, size, seed)


def _gold_labelled(split: str, size: int, seed: int) -> Iterator[tuple[list[str], list[str], int]]:
    kinds = _kinds()
    for (words, mentions), document in _numbered_sentences(split, size, seed):
        tags = ["O"] * len(words)
        for start, end, kind in mentions:
            tags[start:end] = _tags(kinds[kind].type, end - start)
        yield words, tags, document


def _llm_labelled(size: int, seed: int, noise: Noise) -> Iterator[tuple[list[str], list[str], int]]:
    current, random = None, None
    for (words, mentions), document in _numbered_sentences("train", size, seed):
        if document != current:
            current, random = document, Random(f"{seed} llm {document}")
        if random.random() < LLM_COVERAGE[min(len(words) // 3, len(LLM_COVERAGE) - 1)]:
            yield words, _llm_tags(len(words), mentions, noise, random), document


def _numbered_sentences(split: str, size: int, seed: int) -> Iterator[tuple[Sentence, int]]:
    endless = (
        (sentence, number)
        for number in count()
        for sentence in _Document(split, seed, number).sentences()
    )
    return islice(endless, size)


def _llm_tags(num_words: int, mentions: list[Mention], noise: Noise, random: Random) -> list[str]:
    """Label as the LLM did: nearly every name found, types muddled, and ever more sprinkled."""
    tags = ["O"] * num_words
    is_lost = random.random() < noise.lost_at_start
    position = 0
    for start, end, kind in [*mentions, (num_words, num_words, "")]:
        while position < start:
            is_lost = is_lost or random.random() < noise.loses_count
            position += _sprinkle(tags, position, start, random) if is_lost else 1
        if kind:
            misses = random.random() < noise.misses
            position = end if misses else _read_name(tags, start, end, kind, is_lost, random)
    return tags


def _sprinkle(tags: list[str], start: int, limit: int, random: Random) -> int:
    """Perhaps write a spurious entity at start; return how many words are dealt with."""
    if random.random() >= LLM_SPURIOUS:
        return 1
    end = start + 1
    while end < limit and random.random() < LLM_SPURIOUS_GROWS:
        end += 1
    _mark(tags, start, end, LLM_SPURIOUS_TYPES, True, random)
    return end - start


def _read_name(
    tags: list[str], start: int, end: int, kind: str, is_lost: bool, random: Random
) -> int:
    """Write what the LLM makes of a name; return the word to go on with."""
    reads = _llm_reads()[kind]
    cuts = LLM_CUTS[_kinds()[kind].type]
    cut = start + int((end - start) * random.random()) if random.random() < cuts else start
    if end < len(tags) and random.random() < LLM_SWALLOWS:
        end += 1
    if cut > start:
        _mark(tags, start, cut, reads, is_lost, random)
    _mark(tags, cut, end, reads, is_lost, random)
    return end


def _mark(
    tags: list[str], start: int, end: int, percent: Percent, is_lost: bool, random: Random
) -> None:
    (type_,) = random.choices(CONLL_TYPES, percent)
    is_orphan = is_lost and random.random() < LLM_ORPHANS
    tags[start:end] = _tags(type_, end - start)
    if is_orphan:
        tags[start] = f"I-{type_}"


def _tags(type_: str, num_words: int) -> list[str]:
    return [f"B-{type_}", *[f"I-{type_}"] * (num_words - 1)]


@cache
def _llm_reads() -> dict[str, Percent]:
    return {kind: percent for kinds, percent in LLM_READS.items() for kind in kinds.split()}
