"""How tasks are worded: a dozen sentences for each check kind, several ways to
introduce and to list them. HELD marks those (a third) that training never shows.

Slots are those of the leaf (checks.py). A sentence is both the line of the prompt
and the check's text, so it states ties and rounding in full. Words for numbers
("one", "first three") are avoided: a prompt's numbers must occur in a check.
[a|b] is a choice. A solver also meets sentences that no author writes: reworded()
swaps phrases for others of the same sense and drops small words.
"""
import re

HELD = (4, 5, 10, 11)  # indices held out in lists of twelve: the last third of SENTENCES and of MORE

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

MORE = {
"count": ["[tally|count up|add up] the {T} [where|for which] {C} is {v}", "[in how many|for how many] {T} is {C} [equal to|given as] {v}", "how [large|numerous] the [set|subset] of {T} with {C} {v} is",
          "{T} [that carry|showing|marked with] {C} {v}: how many", "what the number of {T} [comes to|is] for {C} {v}", "[occurrences|appearances] of {v} as {C} in {T}"],
"diff": ["[subtract|take] the {T} with {C} {w} from those with {C} {v}", "number of {T} [at|under] {C} {v} [reduced by|minus] the number [at|under] {C} {w}", "{C} {v} [against|versus] {C} {w} in {T}: count of the former minus the latter",
         "how far the count of {T} for {C} {v} [exceeds|is ahead of] that for {C} {w} (below zero if behind)", "the [surplus|margin] of {T} with {C} {v} compared to {C} {w}", "{T}: rows of {C} {v} without the number of {C} {w}"],
"same": ["how many {T} [match|equal] {K} {k} in {C}, [itself|this row] included", "find the {C} of {K} {k}; how many {T} have it", "[size|number] of the {T} [with|having] whatever {C} {K} {k} has",
         "{T} whose {C} is [just that|the same as that] of {K} {k}, counted", "the [companions|fellows] of {K} {k} by {C} in {T} and itself, counted", "in how many {T} the {C} of {K} {k} [appears|stands]"],
"count2": ["{T} [that satisfy|with] {C} = {v} and {D} = {w}: how many", "among {T} with {C} {v}, how many [also have|are at] {D} {w}", "the [number|count] of {T} [meeting|fulfilling] both: {C} {v}, {D} {w}",
           "how many rows of {T} [combine|join] {C} {v} with {D} {w}", "{T} that are at once {v} ({C}) and {w} ({D}): their number", "the overlap of {C} {v} and {D} {w} in {T}, in rows"],
"attr": ["[look up|read off|give] the {C} of {K} {k} in {T}", "what is the {C} of {K} {k} in {T}", "for {K} {k} of {T}: [its|the] {C}", "the {C} [listed|recorded|noted] in {T} for {K} {k}",
         "{K} {k} has which {C} according to {T}", "the [entry|content] under {C} of {K} {k}, table {T}"],
"gap": ["[subtract|take] the {C} of {K} {m} from that of {K} {k} in {T}", "{C} in {T}: {K} {k} minus {K} {m}", "how far [above|over] {K} {m} the {C} of {K} {k} lies in {T} (below zero if under)",
        "{K} {k} against {K} {m} in {T}: [former|its] {C} minus the latter", "the [lead|margin] in {C} that {K} {k} has over {K} {m} in {T}", "the {C} of {T}: start from {K} {k}, deduct {K} {m}"],
"sum2": ["[add|sum up] the {C} of {K} {k} and the {C} of {K} {m} in {T}", "{C} in {T}: {K} {k} plus {K} {m}", "what the {C} of {K} {k} and {K} {m} [comes to|amounts to] in {T}",
         "the [joint|total] {C} of {K} {k} and {K} {m} in {T}", "{K} {k} and {K} {m} of {T}: their {C} in total", "the {C} figures of {K} {k} and {K} {m} in {T}, put together"],
"top": ["[find|name] the {L} of the {T} that [is|stands] {way} [in|by] {N}{where} (ties: first {K})", "sort {T} by {N}, {way} first{where}: the {L} on top (ties: first {K})", "{L} [holding|with] the {way} {N}{where} in {T}, ties by {K}",
        "the {way} {N} of {T}{where} [belongs|goes] to which {L} (ties: first {K})", "whose {N} is {way} in {T}{where}: its {L}, first {K} on ties", "the {L} in the lead of {T} when the {way} {N} wins{where}; ties by {K}"],
"topval": ["[find|give] the {way} {N} [found|recorded] in {T}{where}", "{T}{where}: {way} {N}", "which value of {N} is the {way} in {T}{where}", "the {way} [number|figure] under {N} in {T}{where}",
           "the {N} of {T} at its {way}{where}", "of all {N} in {T}{where}, the {way}"],
"nth": ["order {T} by {N}, {way} first: the {L} [at|on] place {i} (ties: first {K})", "[take|find] the {L} that [holds|takes] place {i} by {N} in {T}, {way} first, ties by {K}", "place {i} of {T} by {N} ({way} first, then {K}): which {L}",
        "{T} ranked by {N} with the {way} on top: {L} number {i}, ties by {K}", "the {L} that comes as number {i} of {T} going by {N}, {way} first, ties by {K}", "counting {T} from the {way} {N}: the {L} at {i}, first {K} on ties"],
"nthval": ["order {T} by {N}, {way} first: the {N} [at|on] place {i}", "[take|find] the {N} that [holds|takes] place {i} in {T}, {way} first", "place {i} of {T} by {N} ({way} first): which {N}",
           "{T} ranked by {N} with the {way} on top: {N} number {i}", "the {N} that comes as number {i} of {T}, {way} first", "counting {T} from the {way} {N}: the value at {i}"],
"topattr": ["[find|take] the {T} with the {way} {N}; its {D} (ties: first {K})", "for the {T} that [is|stands] {way} in {N}: the {D}, first {K} on ties", "what {D} [goes|comes] with the {way} {N} in {T} (ties: first {K})",
            "{D} of the row of {T} [ranked first|on top] when the {way} {N} leads, ties by {K}", "the {way} {N} of {T} comes along with which {D}; ties by {K}", "the {D} under which {T} reach the {way} {N}, ties by {K}"],
"topsame": ["[find|take] the {D} of the {T} with the {way} {N} (ties: first {K}); how many have it", "how many {T} [match|equal] the row of {way} {N} in {D} (ties: first {K}), itself included",
            "the [size|number] of the {T} with whatever {D} the {way} {N} has, first {K} on ties", "in how many {T} the {D} of the {way} {N} [appears|stands], ties by {K}",
            "companions by {D} of the {way} {N} in {T} and itself, counted, ties by {K}", "{T} with the {D} of the leader in {N} ({way}), ties by {K}: how many"],
"total": ["[add up|sum up] the {N} of {T}{where}{rounded}", "{T}{where}: total {N}{rounded}", "what the {N} of all {T}{where} [amounts|comes] to{rounded}", "the [overall|whole] {N} of {T}{where}{rounded}",
          "the grand total under {N} in {T}{where}{rounded}", "all {N} figures of {T}{where} put together{rounded}"],
"mean": ["[average|work out the mean of] {N} over {T}{where}{rounded}", "{T}{where}: [mean|average] {N}{rounded}", "the {N} that {T}{where} have [on average|in the mean]{rounded}", "the [typical|average] {N} of {T}{where} as a mean,{rounded}",
         "the {N} a row of {T}{where} has on average{rounded}", "sum of {N} by number of rows in {T}{where}{rounded}"],
"highest": ["[find|give] the [highest|largest|greatest] {N} in {T}{where}", "{T}{where}: [highest|maximal] {N}", "the [maximum|peak] that {N} [reaches|has] in {T}{where}", "which {N} is the [greatest|largest] in {T}{where}",
            "the top of the range of {N} in {T}{where}", "the {N} that no {T}{where} exceed"],
"lowest": ["[find|give] the [lowest|smallest|least] {N} in {T}{where}", "{T}{where}: [lowest|minimal] {N}", "the minimum that {N} [reaches|has] in {T}{where}", "which {N} is the [least|smallest] in {T}{where}",
           "the bottom of the range of {N} in {T}{where}", "the {N} that no {T}{where} fall below"],
"spread": ["[subtract|take] the lowest {N} of {T}{where} from the highest", "{T}{where}: highest {N} minus lowest", "how [wide|large] the range of {N} in {T}{where} is", "the [gap|difference] between highest and lowest {N} of {T}{where}",
           "how far apart the greatest and the smallest {N} of {T}{where} are", "maximum less minimum of {N} in {T}{where}"],
"common": ["[find|name] the {C} that [most|the greatest number of] {T} have (ties: first {C})", "{T}: most [frequent|common] {C} (ties: first {C})", "the {C} [appearing|occurring] in the most rows of {T}, first {C} on ties",
           "group {T} by {C}: the {C} of the largest group, ties by {C}", "the {C} that {T} have most of all, ties by {C}", "the modal {C} of {T} (if equal, first {C})"],
"commoncount": ["how many {T} have the {C} that is most [common|frequent]", "group {T} by {C}: rows of the largest group", "the [number|count] of {T} with the most [frequent|common] {C}", "in how many {T} the [leading|most common] {C} [appears|stands]",
                "rows that the modal {C} has in {T}", "how large the biggest class by {C} of {T} is"],
"groupsn": ["how many [different|distinct] {C} [there are|occur] in {T}", "group {T} by {C}: the number of groups", "{T}: number of [distinct|different] {C}", "the [variety|range] of {C} in {T} as a number of values",
            "how many {C} {T} tell apart", "the size of the set of {C} in {T}"],
"countrange": ["{T} with {N} [at or above|from] {lo} and [at or below|up to] {hi}: how many", "in how many {T} {N} [lies|is] between {lo} and {hi}, ends included", "[tally|count up] the {T} with {N} not below {lo} and not above {hi}",
               "the number of {T} with {lo} <= {N} <= {hi}", "the {T} that stay within {lo} and {hi} in {N}, counted", "how many {T} come to a {N} of {lo} or more but no more than {hi}"],
"rank": ["rank {T} by {N}, highest first: the place of {K} {k}", "{K} {k} [holds|takes] which place in {T} by {N} (highest first)", "the number of {T} above {K} {k} in {N}, plus itself", "{T}: [rank|place] of {K} {k} in {N}, highest on top",
         "how far up {K} {k} is in {T} by {N}, the highest being at the start", "the standing of {K} {k} by {N} within {T}, highest first"],
"startcount": ["{T} with a {C} [beginning|starting] with {s}: how many", "[tally|count up] the {C} of {T} that [begin|start] with {s}", "in how many {T} the {C} [has|shows] {s} in front", "how many {C} in {T} have the prefix {s}",
               "the {T} with {s} leading their {C}, counted", "how many {T} go by a {C} in {s}"],
"startfirst": ["take the {C} of {T} [beginning|starting] with {s} and sort them: which is first", "the first {C} by alphabet among {T} with prefix {s}", "of all {C} in {T} that [begin|start] with {s}, the first in order",
               "which {C} with {s} in front [leads|heads] the sorted list of {T}", "alphabetically, what {C} of {T} opens the part under {s}", "the start of the {s} section of {C} in {T}"],
"longest": ["[find|name] the {C} of {T} with the [most|greatest number of] characters (ties: first {K})", "which {C} is longest in {T}, first {K} on ties", "{T}: the longest {C}, ties by {K}", "the {C} of {T} that [takes|needs] most characters (ties: first {K})",
            "sort {T} by length of {C}: the longest, ties by {K}", "the most extended {C} among {T}; ties by {K}"],
"length": ["how many characters are in the {C} of {T} that is longest", "{T}: length of the longest {C}", "the [greatest|maximal] number of characters of a {C} in {T}", "count the characters of the longest {C} in {T}",
           "the length that no {C} of {T} exceeds", "the extent in characters of the longest {C} among {T}"],
"alphabet": ["sort the {C} of {T}: which is [at place|number] {i}", "[find|name] the {C} [at|on] place {i} of the sorted {C} of {T}", "in alphabetical order, {C} number {i} of {T}", "{T} by {C}: the {C} at place {i}",
             "the {C} reached at {i} when going through {T} in order of {C}", "number {i} of the alphabet of {C} in {T}"],
"missing": ["how many {T} [lack|miss] {C}", "[tally|count up] the {T} where {C} is [empty|missing|absent]", "{T} with {C} [unknown|left blank]: how many", "in how many {T} {C} is not [given|known]",
            "the blanks under {C} in {T}, counted", "for how many {T} nothing stands at {C}"],
"distinct": ["how many [different|distinct] {D} [there are|occur] among {T} with {C} {v}", "take the {T} with {C} {v}: number of [different|distinct] {D}", "the [number|count] of {D} that [occur|appear] with {C} {v} in {T}, each counted a single time",
             "{T} whose {C} is {v}: [distinct|different] {D}, counted", "how many {D} the group {v} of {C} in {T} tells apart", "the set of {D} found with {C} {v} in {T}, its size"],
"find": ["[look up|find] {C} {v} in {T}: its {D} (ties: first {K})", "what {D} [goes|comes] with {C} {v} in {T} (ties: first {K})", "for the {T} [named|known by] {C} {v}: the {D}, first {K} if several", "the {D} [listed|recorded] for {C} {v} in {T}, ties by {K}",
         "{C} {v} of {T} has which {D}; if several, first {K}", "the {D} next to {C} {v} in {T} (first by {K})"],
"list": ["[give|name] all {L} of {T} [having|with] {C} {v}, by {K}", "{T} with {C} {v}: their {L}, in order of {K}", "the {L} that [occur|appear] with {C} {v} in {T}, sorted by {K}", "[collect|gather] the {L} of the {T} whose {C} is {v}, in the order of {K}",
         "the complete {L} of group {v} of {C} in {T}, by {K}", "each {L} with {C} {v} in {T}, listed by {K}"],
"first": ["take the {T} with {C} {v} by {K}: the {L} of the first", "{T} with {C} {v}: the first {L} in the order of {K}", "which {L} [leads|heads] the {T} having {C} {v}, going by {K}", "the {L} of the {T} with {C} {v} that has the first {K}",
          "the {L} at the start of group {v} of {C} in {T}, by {K}", "the earliest by {K} of {T} with {C} {v}: its {L}"],
"listtop": ["take the {T} with {C} {v}: the {L} of the {way} {N} (ties: first {K})", "{T} with {C} {v}: which {L} is {way} in {N}, ties by {K}", "[find|name] the {L} with the {way} {N} where {C} is {v} in {T} (ties: first {K})",
            "within {C} {v} of {T}, the {way} {N} [belongs|goes] to which {L} (ties: first {K})", "the {L} that leads the {C} {v} part of {T} when the {way} {N} wins, ties by {K}", "restricted to {C} {v}: {L} of the {T} at the {way} {N}, ties by {K}"],
"listsum": ["[add up|sum up] the {N} of the {T} with {C} {v}", "{T} with {C} {v}: total {N}", "take the {T} with {C} {v}: their {N} in [total|sum]", "what the {N} of {T} with {C} {v} [amounts|comes] to",
            "the overall {N} within {C} {v} of {T}", "all {N} figures under {C} {v} in {T}, put together"],
"joincount": ["{T} [belonging|going] to {P} with {C} {v}: how many", "[tally|count up] the {T} whose {P} [has|shows] {C} {v}", "in how many {T} the {P} behind them has {C} {v}", "find the {P} with {C} {v}; how many {T} [belong to|go with] them",
              "the {T} that depend on {P} of {C} {v}, counted", "how many {T} hang on those {P} with {C} {v}"],
"joinattr": ["[find|look up] the {P} of {K} {k} in {T}: its {C}", "{K} {k} of {T} [belongs|goes] to a {P}: the {C} of it", "what {C} the {P} has that {K} {k} of {T} [belongs|refers] to", "for {K} {k} in {T}: the {C} of its {P}",
             "by way of {T} {K} {k}, the {C} in {P}", "the {C} that {K} {k} of {T} gets through {P}"],
}

INTROS = ["Answer these about {T} with one JSON object:", "Look up the following in {T}:", "Find out with the tools:", "Report on {T}:", "What we need to know of {T}:",
          "Use the tools to fill in this report:", "A user wants to know:", "Fill in each field:", "Questions on {T}:", "Work these out:",
          "Please tell from {T}:", "The following is asked:", "Give these fields:", "For a note on {T} we want:", "Read {T} with the tools and say:", "To be found out about {T}:"]
INTROS_HELD = (7, 8, 9, 14, 15)
LINES = ["- {name}: {text}", "{name}: {text}", "* {name}: {text}.", "{name} is {text}.", "{name} = {text}", "- {text} ({name})"]
LINES_HELD = (3, 5)

# Phrases of one sense; the last of each row is held out of training.
SENSES = [
    ["the number of", "the count of", "the total number of", "the tally of", "the quantity of"],
    ["how many", "what number of", "how large a number of", "just how many"],
    ["number of", "count of", "amount of"], ["counted", "in number", "as a count", "tallied"],
    ["highest", "greatest", "largest", "maximal", "top", "uppermost"], ["lowest", "smallest", "least", "minimal", "bottom", "slightest"],
    ["minus", "less", "reduced by", "diminished by"], ["plus", "and also", "increased by", "together with"],
    ["with", "having", "that have", "showing"], ["whose", "where the", "for which the", "of which the"],
    ["starts with", "begins with", "opens with", "has the prefix", "sets out with"], ["starting with", "beginning with", "opening with", "prefixed by"],
    ["different", "distinct", "unique", "differing"], ["mean", "average", "arithmetic mean"], ["on average", "in the mean", "by average"],
    ["total", "sum", "sum total", "overall sum", "aggregate"], ["most common", "most frequent", "commonest", "modal", "most usual"],
    ["missing", "absent", "not given", "unknown", "lacking"], ["without", "lacking", "with no", "that miss", "short of"],
    ["(ties: first {K})", "(on ties the first {K})", "(if equal: first {K})", "; break ties by {K}", "; ties go by {K}"],
    ["ties by {K}", "ties: first {K}", "on ties the first {K}", "if equal by {K}"],
    ["in the order of", "sorted by", "ordered by", "arranged by"], ["at place", "in position", "at number", "at rank", "in slot"],
    ["how much higher", "how far above", "by how much larger", "how much more"], ["the same", "an equal", "the very same", "an identical"],
    ["itself included", "with itself", "the row too", "counting itself"], ["between", "in the range", "within", "inside"],
    ["{way} first", "from the {way} on", "beginning with the {way}", "the {way} leading"], ["rows of", "entries of", "records of", "lines of"],
    ["longest", "lengthiest", "longest by characters"], ["which", "what", "name which"], ["belongs to", "goes with", "is part of"],
    ["rounded to 2 decimals", "to 2 decimals", "with 2 decimals", "at 2 decimals"], ["among", "within", "out of", "in the midst of"],
]
SMALL = set("the of a an that in with is are its those for to at by from has have do does be as it this".split())


def choose(r, options, held, use_held):
    allowed = [i for i in range(len(options)) if (i in held) == bool(use_held)]
    return options[r.choice(allowed)]


def expand(r, template):
    return re.sub(r"\[([^]]*)\]", lambda m: r.choice(m.group(1).split("|")), template)


def reworded(r, template, use_held=False, swap=0.5, drop=0.0):
    """template in other words: phrases of the same sense, small words left out."""
    rows = [row for row in SENSES if any(p in template for p in row)]
    r.shuffle(rows)
    for row in rows[:3]:
        old = max((p for p in row if re.search(r"(?<![\w{])%s(?![\w}])" % re.escape(p), template)), key=len, default=None)
        if old and r.random() < swap:
            new = row[-1] if use_held else r.choice(row[:-1])
            template = re.sub(r"(?<![\w{])%s(?![\w}])" % re.escape(old), lambda m: new, template, count=1)
    words = [w for w in template.split(" ") if not (w in SMALL and r.random() < drop)]
    return " ".join(words) if words else template


def sentence(r, kind, slots, use_held=False, solver=False):
    """A sentence for a leaf; solver: also in words that only a solver meets."""
    template = expand(r, choose(r, SENTENCES[kind] + MORE[kind], HELD, use_held))
    if solver:
        template = reworded(r, template, use_held, drop=r.choice((0, 0, 0.15, 0.4)))
    return template.format(**slots)
