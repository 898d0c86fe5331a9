return function(tools)
    local member = tools.find_member{member_name = "Mei Okafor"}
    local book = tools.find_book{title = "The Salt Road"}
    for _, copy in ipairs(tools.list_copies{book_id = book.book_id}) do -- by copy_id
        if not copy.on_loan then
            tools.lend_copy{copy_id = copy.copy_id, member_id = member.member_id, on_date = "2025-03-10", due_on = "2025-03-31"}
            return {lent = copy.copy_id}
        end
    end
    return nil
end
