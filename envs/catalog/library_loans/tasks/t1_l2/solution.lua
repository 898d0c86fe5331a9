return function(tools)
    local today = "2025-03-10"
    local member = tools.find_member{member_name = "Mei Okafor"}
    local returned = {}
    for _, loan in ipairs(tools.list_member_loans{member_id = member.member_id}) do
        if loan.due_on < today then
            tools.return_copy{loan_id = loan.loan_id, on_date = today}
            returned[#returned + 1] = loan.copy_id
        end
    end
    table.sort(returned)

    local book = tools.find_book{title = "The Salt Road"}
    for _, copy in ipairs(tools.list_copies{book_id = book.book_id}) do -- by copy_id
        if not copy.on_loan then
            tools.lend_copy{copy_id = copy.copy_id, member_id = member.member_id, on_date = today, due_on = "2025-03-31"}
            return {returned = returned, lent = copy.copy_id}
        end
    end
    return nil
end
