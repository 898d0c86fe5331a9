"""Words that no one has seen: names, codes, dates and texts for pseudo tables.

Half of what the model must copy are strings that are in no list: so words are
made from syllables, from letter chains learned on a small seed list, from blends
and from random letters (a model trained on dictionary words only cannot copy).
"""
import re

SEED = """hotel cabin lodge room guest booking flight airport train ticket seat route bus driver truck cargo parcel depot harbor
vessel crew voyage dock crane pallet shelf warehouse item order invoice client vendor supplier product brand store outlet menu
dish recipe chef kitchen farm field crop tractor barn horse cattle sheep orchard apple pear grape wine barrel cellar brewery
bakery school teacher pupil course exam campus library book author museum exhibit artist painting gallery concert band singer
album song venue theater actor movie scene studio camera lens clinic doctor nurse patient ward drug dose trial sample sensor
device router server cable node cluster disk backup agent project task sprint team member badge office meeting event speaker
league match player coach stadium trophy race runner bike wheel gear car engine garage mechanic pump station charger battery
panel turbine grid meter plant reactor boiler pipe valve well mine drill quarry stone bridge tunnel road lane signal park tree
trail ranger tent camp river lake dam boat fish market fruit spice tea coffee tool hammer lamp carpet window lock bank account
loan card payment bond stock fund policy claim lawyer court case archive letter stamp courier satellite rocket orbit planet
star telescope rover pilot hangar island beach reef coral whale otter wolf bear deer eagle nest kennel toy game puzzle club
fabric loom factory robot species genus flower bird insect mammal language country region currency script subdivision protocol
service package header file format media city county province state district election party senator vote census household
survey crime prison school hospital earthquake volcano storm rainfall glacier isotope element mineral compound enzyme protein
gene cell tumor rat mouse leaf seed soil plot harvest yield barley wheat maize potato cotton trawler catch salmon trout""".split()
CATEGORY = """city region color type kind grade brand status category zone area district material style size genre season mode
level_name origin owner shape theme sector branch language format platform climate quality shift channel method finish pattern
habitat unit_name source label side direction phase texture flavor group_name country sex treatment site block variety diet party
family scope section priority arch suite proto continent state role stage ward_type outcome species_name race smoker""".split()
NUMBER = """price cost weight rating score seats capacity length width height depth speed power age year stock amount quantity
distance duration hours minutes fee salary budget profit points votes visits views pages rooms beds floors voltage mileage
calories sugar protein strength tax rent deposit income debt members units port number_of_sites population density yield_kg
mass_g temp_c pressure humidity rain wind dose_mg concentration rate ratio count_total deaths births cases n_obs wt hp disp
qsec elevation latitude longitude magnitude gdp area_km2 percent share life_exp installed_size bytes lines""".split()
NAMECOL = """name title label model product_name full_name common_name station site_name species driver_name team country_name
language_name package file_name town street club_name dish_name song player_name official_name tz service_name description
comment note summary reference keywords""".split()
CODECOL = "code id_code symbol abbreviation alpha_2 alpha_3 sku tag isbn iata short_code key_code number_code ident".split()
VALUE = """north south east west red blue green yellow black white gold silver amber small medium large huge tiny short long
steel wood glass paper cotton wool silk leather plastic open closed active paused pending done new old modern classic basic
premium deluxe standard local remote urban rural coastal alpine desert forest summer winter spring autumn morning noon evening
night fast slow light heavy hard soft hot cold warm cool wet dry sweet sour salty bitter mild fresh frozen left right upper
lower inner outer front rear public private shared single double triple senior junior expert novice alpha beta gamma delta
male female yes no control treated placebo low high mid none optional required important extra tcp udp living extinct""".split()
SUFFIX = "name code id no type 2 3 total min max sub first last old new full short per_year kg pct".split()
RESERVED = set("""and or not if then else elseif end for in do local function return nil true false while repeat until break goto
select from where order by group limit index table values set add all alter as case check column create default delete desc asc
distinct drop exists having into is join key like null on primary to union unique update using with class def del except finally
global import lambda pass raise try yield int char float double long short void static struct switch const auto register signed
unsigned volatile extern enum typedef union sizeof continue between begin commit natural left right inner outer cross row rows
range over window current match action after before abort trigger view temp temp_ each end escape explain fail filter first last
plan no nothing of off offset query recursive references reindex release rename replace restrict rollback vacuum virtual without
async await assert nonlocal inline restrict reset step state close verify collate database date time cast constraint ignore
partition exclude groups others ties do always generated instead isnull notnull initially deferred immediate except intersect
foreign full indexed pragma savepoint transaction analyze attach detach conflict cascade cache materialized returning within
character""".split())
_ONSET = "b c d f g h j k l m n p r s t v w z br cr dr fr gr tr bl cl fl gl pl sl st sk sp th sh ch qu".split()
_NUCLEUS = "a e i o u a e i o ai ea ou oa ee".split()
_CODA = ["", "", "", "n", "r", "l", "s", "t", "m", "d", "k", "nd", "rt", "ck", "st", "x"]
_PARTS = [p for w in SEED + CATEGORY + NUMBER + VALUE for p in w.split("_")]
_TRI, _BI = {}, {}
for _w in _PARTS:
    _p = "^^" + _w + "$"
    for _i in range(2, len(_p)):
        _TRI.setdefault(_p[_i - 2:_i], []).append(_p[_i])
    for _i in range(1, len(_p) - 1):
        _BI.setdefault(_p[_i], []).append(_p[_i + 1])
_ACCENT = dict(zip("aeiounscz", ["áàäâãåā", "éèêëę", "íîïı", "óöôøõ", "úüûů", "ñń", "šşś", "çč", "žż"]))
_SCRIPTS = [(0x0430, 0x044f), (0x03b1, 0x03c9), (0x4e00, 0x4fff), (0x0621, 0x064a), (0x30a1, 0x30f0), (0xac00, 0xad00)]
_LETTERS = "abcdefghijklmnopqrstuvwxyzaeioueiotnrsl"


def _chain(r, table, order, top):
    for _ in range(20):
        state, out = "^" * order if order == 2 else r.choice("bcdfghklmnprstvw"), ""
        if order == 1:
            out = state
        while len(out) <= top:
            c = r.choice(table.get(state) or ["$"])
            if c == "$":
                break
            out += c
            state = (state + c)[-order:]
        if 2 < len(out):
            return out
    return "lumen"


def word(r):
    """One lower-case pseudo-word."""
    u = r.random()
    if u < 0.25:
        return "".join(r.choice(_ONSET) + r.choice(_NUCLEUS) + r.choice(_CODA) for _ in range(r.choice((1, 2, 2, 2, 3))))
    if u < 0.55:
        return _chain(r, _TRI, 2, 11)
    if u < 0.72:
        return _chain(r, _BI, 1, 9)
    if u < 0.86:
        a, b = r.choice(_PARTS), r.choice(_PARTS)
        return a[:r.randint(2, max(2, len(a)))] + b[-r.randint(2, 4):]
    if u < 0.94:
        return r.choice(_PARTS)
    return "".join(r.choice(_LETTERS) for _ in range(r.randint(3, 7)))


def accented(r, w):
    return "".join(r.choice(_ACCENT[c]) if c in _ACCENT and r.random() < 0.3 else c for c in w)


def proper(r, foreign=0.1):
    """A name of one to three words, now and then with accents, particles or brackets."""
    u = r.random()
    n = 1 if u < 0.5 else 2 if u < 0.85 else 3
    ws = [word(r) for _ in range(n)]
    if r.random() < foreign:
        ws = [accented(r, w) for w in ws]
    ws = [w.capitalize() if r.random() < 0.94 else w.upper() if len(w) < 5 else w for w in ws]
    u = r.random()
    if u < 0.04:
        return ws[0] + ", " + " ".join(ws[1:] or [word(r).capitalize()])
    if u < 0.08:
        return " ".join(ws) + " (" + word(r).capitalize() + ")"
    if u < 0.12:
        return " ".join(ws) + " " + str(r.randint(1, 999))
    if u < 0.15:
        return ws[0] + "-" + (ws[-1] if n > 1 else word(r).capitalize())
    if u < 0.16:
        return ws[0][:1].upper() + "'" + ws[0].capitalize()
    if u < 0.165:
        lo, hi = r.choice(_SCRIPTS)
        return "".join(chr(r.randint(lo, hi)) for _ in range(r.randint(2, 6)))
    return " ".join(ws)


def sentence(r):
    ws = [word(r) if r.random() < 0.6 else r.choice(_PARTS) for _ in range(r.randint(4, 14))]
    s = " ".join(ws)
    return s[0].upper() + s[1:] + (r.choice([".", "", "", " (" + word(r) + ")"]))


def title(r):
    """The title of a data set, and its words: "Do Birds Sing in the Harbor? (4 Months)". A word may stand in it twice."""
    words = [word(r) if r.random() < 0.6 else r.choice(SEED) for _ in range(r.randint(2, 8))]
    if r.random() < 0.25:
        words.insert(r.randint(1, len(words)), r.choice(words))
    parts = [w.capitalize() if r.random() < 0.6 else w for w in words]
    for _ in range(r.choice((0, 1, 1, 2, 3))):
        small = r.choice(("of", "in", "the", "and", "from", "by", "on", "for", "UK", "US", str(r.randint(1850, 2024))))
        parts.insert(r.randint(1, len(parts)), small)
    tail = r.choice(("", "", "", "?", ".", " (%d Months)" % r.randint(2, 12), ", %d-%d" % (r.randint(1900, 1960), r.randint(1961, 2024))))
    return " ".join(parts) + tail, words


def code_maker(r):
    """A function that makes codes of one shape ("AB", "xk-12", "4/tcp", "Abc/Def_gh")."""
    up, lo, dg = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "0123456789"
    u = r.randrange(11)
    pick = lambda s, n: "".join(r.choice(s) for _ in range(n))
    if u == 0:
        n = r.choice((2, 3, 3, 4)); return lambda: pick(up, n)
    if u == 1:
        n = r.choice((2, 3, 3, 4)); return lambda: pick(lo, n)
    if u == 2:
        a, b = r.choice((1, 2)), r.choice((2, 3, 4)); return lambda: pick(up, a) + pick(dg, b)
    if u == 3:
        a, b, s = r.choice((2, 3)), r.choice((2, 3)), r.choice("-_/."); return lambda: pick(up, a) + s + pick(dg + up if b == 3 else dg, b)
    if u == 4:
        z = r.choice((3, 4)); return lambda: pick(dg, z).zfill(z) if r.random() < 0.9 else "0" + pick(dg, z - 1)
    if u == 5:
        p = [word(r).capitalize() for _ in range(r.randint(3, 8))]
        return lambda: r.choice(p) + "/" + word(r).capitalize() + ("_" + word(r).capitalize() if r.random() < 0.2 else "")
    if u == 6:
        p = [word(r) for _ in range(r.randint(3, 6))]; return lambda: r.choice(p) + "/" + (word(r) if r.random() < 0.7 else "x-" + word(r) + "+" + word(r)[:4])
    if u == 7:
        return lambda: word(r) + ("-" + word(r) if r.random() < 0.5 else "") + (pick(dg, 1) if r.random() < 0.3 else "")
    if u == 8:
        return lambda: "%d.%d.%d" % (r.randint(0, 12), r.randint(0, 30), r.randint(0, 20)) + ("-%d" % r.randint(1, 9) if r.random() < 0.6 else "") + ("+" + pick(lo, 3) + pick(dg, 1) if r.random() < 0.3 else "")
    if u == 9:
        pre = word(r); return lambda: pre + "_" + pick(dg, r.choice((1, 2, 3)))
    return lambda: "%s%04d%s%05d" % (r.choice("+-"), r.randint(0, 8959), r.choice("+-"), r.randint(0, 17959))


def stutter(r):
    """A name in which the same stands twice, or words without a seam: c_3333, tata_ta, cloudseedings. Copying loses count there."""
    u, w = r.random(), word(r)
    if u < 0.4:
        return w[:r.randint(1, 6)] + r.choice(("", "_")) + r.choice("0123456789") * r.randint(2, 4) + r.choice(("", "", str(r.randint(0, 9))))
    if u < 0.6:
        return w[:3] * 2 + r.choice(("", "_" + w[:3], w[3:]))
    return "".join(r.choice((word(r), r.choice(_PARTS))) for _ in range(r.choice((2, 2, 3)))) + r.choice(("", "", "4", "83", "_ts", "_df", "_tbl_df"))


def ident(r, base, used, limit=24):
    """A column or table name: from base, pseudo, or both; unique in used."""
    near = sorted(w for w in used if 2 < len(w) < 16)  # names that repeat each other: alpha_2 and alpha_3, region and sub_region
    for _ in range(100):
        u = r.random()
        if u < 0.1 and near:
            w, part = r.choice(near), r.choice((word(r)[:6], r.choice(SUFFIX), r.choice(SUFFIX)))
            w = r.choice((w + "_" + part, part + "_" + w, re.sub(r"\d+$", lambda m: str(int(m.group(0)) + 1), w) if w[-1:].isdigit() else w.split("_")[0] + "_" + part))
        elif u < 0.36:
            w = r.choice(base)
        elif u < 0.42:
            w = stutter(r)
        elif u < 0.7:
            w = word(r)
        elif u < 0.85:
            w = (r.choice(base) if r.random() < 0.5 else word(r)) + "_" + word(r)
        elif u < 0.9:
            w = r.choice(base)[:r.randint(2, 4)]
        elif u < 0.95:
            w = r.choice(("x", "v", "var", "q", "c", "m")) + r.choice(("", "_")) + str(r.randint(1, 30))
        else:
            w = r.choice(base) + "_" + str(r.randint(1, 2024))
        w = w.lower()
        if w[:1].isdigit():
            w = "c_" + w
        if w in RESERVED:
            w += "_"
        if w not in used and 1 <= len(w) <= limit and w.isascii() and w != "row_id":
            used.add(w)
            return w
    return "col_%d" % len(used)
