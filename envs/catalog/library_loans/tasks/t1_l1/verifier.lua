local function member_id(world)
    return world:value("SELECT member_id FROM members WHERE member_name = 'Mei Okafor'")
end

-- The rows that lending the book to her has added (any copy of it), claimed.
local function lent(world, changes)
    local of_book = {}
    for _, row in ipairs(changes:inserted("loans",
        {member_id = member_id(world), lent_on = "2025-03-10", due_on = "2025-03-31"})) do
        local title = world:value("SELECT title FROM books JOIN copies USING (book_id) WHERE copy_id = ?", row.copy_id)
        if title == "The Salt Road" then of_book[#of_book + 1] = row end
    end
    return of_book
end

check{ name = "lent_once", text = "Lend the member 'Mei Okafor' a copy of 'The Salt Road' on 2025-03-10, due on 2025-03-31.",
    run = function(world, answer, changes)
        local rows = lent(world, changes)
        return #rows == 1
            and world:value("SELECT count(*) FROM loans WHERE loan_id = ? AND returned_on IS NULL", rows[1].loan_id) == 1
    end }

-- What is lent on the day itself does not count as taken: the world is seen as the rollout left it.
check{ name = "lowest_free_copy",
    text = "Of the copies of the book that are not on loan take the one with the lowest copy_id.",
    run = function(world, answer, changes)
        local row = lent(world, changes)[1]
        return not row or row.copy_id == world:value([[SELECT min(copy_id) FROM copies JOIN books USING (book_id)
            WHERE title = 'The Salt Road' AND copy_id NOT IN
            (SELECT copy_id FROM loans WHERE returned_on IS NULL AND lent_on <> '2025-03-10')]])
    end }

check{ name = "names_copy", text = "Submit that copy_id as `lent`", run = function(world, answer, changes)
    local row = lent(world, changes)[1]
    return not row or answer.lent == row.copy_id
end }
