"""How tasks are worded: several sentences for each check kind, several ways to
introduce and to list them. HELD marks those (about 30%) that training never shows.

Slots are those of the leaf (checks.py). A sentence is both the line of the prompt
and the check's text, so it states ties and rounding in full. Words for numbers
("one", "first three") are avoided: a prompt's numbers must occur in a check.
"""

HELD = (4, 5)  # indices held out in lists of six

SENTENCES = {
    "count": ["the number of {T} with {C} {v}", "how many {T} have {C} {v}", "number of rows of {T} where {C} is {v}",
              "the count of {T} whose {C} is {v}", "how often {C} is {v} in {T}", "the size of the group of {T} that has {C} {v}"],
    "diff": ["the number of {T} with {C} {v} minus the number with {C} {w}", "how many more {T} have {C} {v} than {C} {w} (negative if fewer)",
             "the count of {T} whose {C} is {v}, less the count whose {C} is {w}", "the lead of {C} {v} over {C} {w} in rows of {T} (may be negative)",
             "rows of {T} with {C} {v} less rows with {C} {w}", "by how many rows of {T} {C} {v} exceeds {C} {w}"],
    "same": ["the number of {T} with the same {C} as the row with {K} {k}", "how many {T} share the {C} of the row with {K} {k} (itself included)",
             "the count of {T} whose {C} equals that of {K} {k}, with the row itself", "number of {T} that have the {C} which {K} {k} has",
             "rows of {T} that agree in {C} with {K} {k}, itself included", "the size of the {C} group to which {K} {k} belongs in {T}"],
    "count2": ["the number of {T} with {C} {v} and {D} {w}", "how many {T} have both {C} {v} and {D} {w}",
               "the count of {T} whose {C} is {v} and whose {D} is {w}", "number of rows of {T} where {C} is {v} and {D} is {w}",
               "how often {C} {v} and {D} {w} occur together in {T}", "the rows of {T} that are {v} in {C} and {w} in {D}, counted"],
    "attr": ["the {C} of the row of {T} with {K} {k}", "{C} of {K} {k} in {T}", "what {C} the {T} row with {K} {k} has",
             "the value of {C} for {K} {k} in {T}", "which {C} stands in {T} for {K} {k}", "{C} as {T} gives it for {K} {k}"],
    "gap": ["the {C} of {K} {k} minus the {C} of {K} {m} in {T}", "how much higher the {C} of {K} {k} is than that of {K} {m} in {T} (negative if lower)",
            "the difference in {C} between {K} {k} and {K} {m} in {T}, in that order", "{C} of {K} {k} less {C} of {K} {m} in {T}",
            "by how much {K} {k} exceeds {K} {m} in {C} in {T}", "what remains of the {C} of {K} {k} in {T} without that of {K} {m}"],
    "sum2": ["the {C} of {K} {k} plus the {C} of {K} {m} in {T}", "the sum of {C} over {K} {k} and {K} {m} in {T}",
             "how much {C} {K} {k} and {K} {m} have together in {T}", "{C} of {K} {k} and of {K} {m} in {T}, added",
             "the combined {C} of {K} {k} and {K} {m} in {T}", "{C} in {T}, {K} {k} and {K} {m} taken together"],
    "top": ["the {L} of the row of {T} with the {way} {N}{where} (ties: first {K})", "which {L} has the {way} {N} in {T}{where} (ties: first {K})",
            "{L} of the {T} with the {way} {N}{where}, first {K} on ties", "the {L} that comes with the {way} {N} of {T}{where}; if equal, first {K}",
            "the {L} where {N} of {T} is {way}{where}, ties by {K}", "{L} of the {T} row whose {N} is {way}{where}; ties go to the first {K}"],
    "topval": ["the {way} {N} of {T}{where}", "the {way} value of {N} in {T}{where}", "what the {way} {N} in {T} is{where}", "{way} {N} over the rows of {T}{where}",
               "how {way} {N} gets in {T}{where}", "the extreme (the {way}) of {N} in {T}{where}"],
    "nth": ["the {L} at place {i} of {T} by {N}, {way} first (ties: first {K})", "which {L} is number {i} when {T} are sorted by {N}, {way} first, then by {K}",
            "{L} of row {i} of {T} in the order of {N}, {way} first, ties by {K}", "the {L} in position {i} of {T}, sorted by {N} with the {way} first, equal ones by {K}",
            "the {L} with rank {i} in {N} among {T}, {way} first, ties by {K}", "number {i} by {N} ({way} first, then {K}) among {T}: its {L}"],
    "nthval": ["the {N} at place {i} of {T} by {N}, {way} first", "which {N} is number {i} when {T} are sorted by {N}, {way} first",
               "{N} of row {i} of {T} in the order of {N}, {way} first", "the {N} in position {i} of {T}, sorted with the {way} first",
               "the {N} with rank {i} among {T}, {way} first", "number {i} of the values of {N} in {T}, {way} first"],
    "topattr": ["the {D} of the row of {T} with the {way} {N} (ties: first {K})", "which {D} the {T} row with the {way} {N} has (ties: first {K})",
                "{D} of the {T} with the {way} {N}, first {K} on ties", "the {D} that goes with the {way} {N} of {T}; if equal, first {K}",
                "the {D} found where {N} of {T} is {way}, ties by {K}", "{D} of the leader of {T} in {N} ({way} wins, ties by {K})"],
    "topsame": ["the number of {T} with the same {D} as the row with the {way} {N} (ties: first {K})",
                "how many {T} share the {D} of the row that has the {way} {N} (ties: first {K}; itself included)",
                "the count of {T} whose {D} equals that of the row with the {way} {N}, first {K} on ties",
                "number of {T} that have the {D} which the {way} {N} has; if equal, first {K}",
                "rows of {T} that agree in {D} with the {way} {N}, ties by {K}", "the size of the {D} group of the {way} {N} in {T}, ties by {K}"],
    "total": ["the total {N} of {T}{where}{rounded}", "the sum of {N} over {T}{where}{rounded}", "how much {N} all {T}{where} have together{rounded}",
              "{N} of {T}{where} added up{rounded}", "the {N} of {T}{where}, summed{rounded}", "everything in {N} of {T}{where} taken together{rounded}"],
    "mean": ["the mean {N} of {T}{where}{rounded}", "the average {N} over {T}{where}{rounded}", "what {N} the {T}{where} have on average{rounded}",
             "mean of {N} in {T}{where},{rounded}", "the {N} of {T}{where}, averaged and{rounded}", "the arithmetic mean of {N} for {T}{where}{rounded}"],
    "highest": ["the highest {N} of {T}{where}", "the largest value of {N} in {T}{where}", "what the highest {N} in {T}{where} is", "maximum of {N} over {T}{where}",
                "how high {N} gets in {T}{where}", "the upper end of {N} in {T}{where}"],
    "lowest": ["the lowest {N} of {T}{where}", "the smallest value of {N} in {T}{where}", "what the lowest {N} in {T}{where} is", "minimum of {N} over {T}{where}",
               "how low {N} gets in {T}{where}", "the lower end of {N} in {T}{where}"],
    "spread": ["the highest minus the lowest {N} of {T}{where}", "the range of {N} (highest less lowest) in {T}{where}", "how far the highest {N} in {T}{where} lies above the lowest",
               "highest {N} less lowest {N} over {T}{where}", "the span of {N} in {T}{where}", "the distance between the extremes of {N} in {T}{where}"],
    "common": ["the most common {C} in {T} (ties: first {C})", "which {C} most rows of {T} have (ties: first {C})", "{C} with the most {T}, first {C} on ties",
               "the {C} that occurs most often in {T}; if equal, the first {C}", "the largest {C} group of {T} (ties by {C})", "the leading {C} by rows of {T}, ties by {C}"],
    "commoncount": ["the number of {T} that have the most common {C}", "how many {T} are in the largest group by {C}", "the size of the largest {C} group of {T}",
                    "rows of {T} with the most frequent {C}", "how often the commonest {C} occurs in {T}", "the count behind the leading {C} of {T}"],
    "groupsn": ["the number of different {C} in {T}", "how many distinct values {C} has in {T}", "the count of different values of {C} in {T}",
                "how many kinds of {C} occur in {T}", "the number of groups by {C} in {T}", "different {C} of {T}, counted"],
    "countrange": ["the number of {T} with {N} from {lo} to {hi}", "how many {T} have {N} between {lo} and {hi}, both included",
                   "the count of {T} whose {N} is at least {lo} and at most {hi}", "number of rows of {T} with {N} in {lo} to {hi}",
                   "rows of {T} whose {N} lies within {lo} and {hi}, ends included", "how often {N} of {T} falls in the range {lo} to {hi}"],
    "rank": ["the place of {K} {k} among {T} by {N} (highest first)", "the rank of {K} {k} in {T} by {N}, highest first",
             "how many {T} have a higher {N} than {K} {k}, plus itself", "at which place {K} {k} stands when {T} are ranked by {N}, highest first",
             "the position of {K} {k} in {N} among {T} (highest on top)", "where {K} {k} ranks in {T} by {N}, the highest leading"],
    "startcount": ["the number of {T} whose {C} begins with {s}", "how many {T} have a {C} that starts with {s}", "the count of {C} in {T} with {s} at the start",
                   "number of rows of {T} with a {C} beginning with {s}", "how often {C} of {T} starts in {s}", "rows of {T} that open their {C} with {s}, counted"],
    "startfirst": ["the first {C} in alphabetical order that begins with {s} in {T}", "which {C} of {T} starting with {s} sorts first",
                   "the {C} that sorts first among those of {T} beginning with {s}", "first {C} of {T}, sorted, with {s} at the start",
                   "the alphabetically first {C} in {T} opening with {s}", "among {C} of {T} in {s}, what leads the order"],
    "longest": ["the longest {C} in {T} (ties: first {K})", "which {C} of {T} has the most characters (ties: first {K})", "{C} with the greatest length in {T}, first {K} on ties",
                "the {C} of {T} that is longest; if equal, first {K}", "the {C} in {T} with the most letters and signs, ties by {K}", "the lengthiest {C} of {T}, ties by {K}"],
    "length": ["the number of characters of the longest {C} in {T}", "how many characters the longest {C} of {T} has", "the length of the longest {C} in {T}",
               "the greatest length of a {C} in {T}", "how long {C} gets in {T}, in characters", "characters in the lengthiest {C} of {T}"],
    "alphabet": ["the {C} at place {i} of {T} in the order of {C}", "which {C} is number {i} when the {C} of {T} are sorted", "{C} number {i} of {T} in sorted order",
                 "the {C} in position {i} of {T}, sorted by {C}", "place {i} in the sorted list of {C} of {T}", "the {C} that is {i} from the start when {T} go by {C}"],
    "missing": ["the number of {T} without {C}", "how many {T} have no {C}", "the count of {T} whose {C} is missing", "number of rows of {T} with no value for {C}",
                "how often {C} is unknown in {T}", "the gaps in {C} of {T}, counted"],
    "distinct": ["the number of different {D} among {T} with {C} {v}", "how many distinct {D} the {T} with {C} {v} have", "the count of different {D} over {T} whose {C} is {v}",
                 "how many kinds of {D} occur in {T} with {C} {v}", "different {D} for {C} {v} in {T}, counted", "the variety of {D} where {C} of {T} is {v}, as a number"],
    "find": ["the {D} of the row of {T} with {C} {v} (ties: first {K})", "which {D} has {C} {v} in {T} (ties: first {K})", "{D} of {C} {v} in {T}, first {K} if several",
             "the {D} that {T} gives for {C} {v}; if several, first {K}", "{D} found in {T} under {C} {v}, first by {K}", "the {D} belonging to {C} {v} in {T}, ties by {K}"],
    "list": ["all {L} of {T} with {C} {v}, in the order of {K}", "the {L} of every row of {T} where {C} is {v}, by {K}", "a list of {L} of the {T} with {C} {v}, sorted by {K}",
             "every {L} whose {C} is {v} in {T}, in order of {K}", "the {L} found in {T} under {C} {v}, by {K}", "which {L} have {C} {v} in {T}, as a list in the order of {K}"],
    "first": ["the {L} of the first of {T} by {K} with {C} {v}", "which {L} with {C} {v} comes first in {T} by {K}", "{L} of the first row of {T} in the order of {K} where {C} is {v}",
              "the first {L} by {K} among {T} whose {C} is {v}", "the {L} that opens the {T} with {C} {v}, by {K}", "{L} at the head of {C} {v} in {T}, going by {K}"],
    "listtop": ["the {L} with the {way} {N} among the {T} with {C} {v} (ties: first {K})", "which {L} has the {way} {N} of the {T} whose {C} is {v} (ties: first {K})",
                "{L} of the {T} with {C} {v} that has the {way} {N}, first {K} on ties", "among {T} where {C} is {v}, the {L} with the {way} {N}; if equal, first {K}",
                "the {L} that is {way} in {N} in the {C} group {v} of {T}, ties by {K}", "out of {T} with {C} {v}: the {L} where {N} is {way}, ties by {K}"],
    "listsum": ["the sum of {N} over the {T} with {C} {v}", "the {N} of all {T} whose {C} is {v}, added", "how much {N} the {T} with {C} {v} have in all",
                "the {N} of {T} where {C} is {v}, taken together", "{N} summed in the {C} group {v} of {T}", "what {N} of {T} comes to for {C} {v}"],
    "joincount": ["the number of {T} whose {P} has {C} {v}", "how many {T} belong to {P} with {C} {v}", "the count of {T} of those {P} whose {C} is {v}",
                  "number of {T} that go with {P} of {C} {v}", "rows of {T} under {P} with {C} {v}", "how many {T} the {P} with {C} {v} have in all"],
    "joinattr": ["the {C} of the {P} to which {K} {k} of {T} belongs", "which {C} the {P} of {K} {k} in {T} has", "{C} in {P} for {K} {k} of {T}",
                 "the {C} that {P} gives for the {T} row with {K} {k}", "{C} of the row of {P} behind {K} {k} in {T}", "the {P} {C} that stands for {K} {k} of {T}"],
}

INTROS = ["Answer these about {T} with one JSON object:", "Look up the following in {T}:", "Find out with the tools:", "Report on {T}:", "What we need to know of {T}:",
          "Use the tools to fill in this report:", "A user wants to know:", "Fill in each field:", "Questions on {T}:", "Work these out:"]
INTROS_HELD = (7, 8, 9)
LINES = ["- {name}: {text}", "{name}: {text}", "* {name}: {text}.", "{name} is {text}."]
LINES_HELD = (3,)


def choose(r, options, held, use_held):
    allowed = [i for i in range(len(options)) if (i in held) == bool(use_held)]
    return options[r.choice(allowed)]


def sentence(r, kind, slots, use_held=False):
    return choose(r, SENTENCES[kind], HELD, use_held).format(**slots)
