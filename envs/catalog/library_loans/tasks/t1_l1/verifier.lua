local function member_id(world)
    return world:value("SELECT member_id FROM members WHERE member_name = 'Mei Okafor'")
end

-- The rows that lending to her has added, all claimed: lent_once wants one, and of that book.
local function lent(world, changes)
    return changes:inserted("loans",
        {member_id = member_id(world), lent_on = "2025-03-10", due_on = "2025-03-31", returned_on = null})
end

check{ name = "lent_once", text = "Lend the member 'Mei Okafor' a copy of 'The Salt Road' on 2025-03-10, due on 2025-03-31.",
    run = function(world, answer, changes)
        local rows = lent(world, changes)
        return #rows == 1 and world:value(
            "SELECT title FROM books JOIN copies USING (book_id) WHERE copy_id = ?", rows[1].copy_id) == "The Salt Road"
    end }

-- What is lent on the day itself does not count as taken: the world is seen as the rollout left it.
check{ name = "lowest_free_copy",
    text = "Of the copies of the book that are not on loan take the one with the lowest copy_id.",
    run = function(world, answer, changes)
        local row = lent(world, changes)[1]
        if not row then return true end
        return row.copy_id == world:value([[SELECT min(copy_id) FROM copies JOIN books USING (book_id)
            WHERE title = 'The Salt Road' AND copy_id NOT IN
            (SELECT copy_id FROM loans WHERE returned_on IS NULL AND lent_on <> '2025-03-10')]])
    end }

check{ name = "names_copy", text = "Submit that copy_id as `lent`", run = function(world, answer, changes)
    local row = lent(world, changes)[1]
    return not row or answer.lent == row.copy_id
end }
