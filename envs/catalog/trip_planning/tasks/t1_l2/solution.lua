return function(tools)
    local dates = {"2025-10-01", "2025-10-02", "2025-10-03"}
    local cities = {"Hangzhou"}
    for _, city in ipairs(tools.get_all_cities{}) do
        if city ~= "Hangzhou" then cities[#cities + 1] = city end
    end

    local days = {}
    for _, city in ipairs(cities) do
        local hotels = tools.get_all_hotels_by_city{city = city}
        local restaurants = tools.get_all_restaurants_by_city{city = city}
        local attractions = tools.get_all_attractions_by_city{city = city}
        if #hotels >= 1 and #restaurants >= 2 and #attractions >= 1 then
            days[#days + 1] = {time = dates[#days + 1], city = city, hotel = hotels[1], afternoon_restaurant = restaurants[1],
                afternoon_attraction = attractions[1], evening_restaurant = restaurants[2]}
        elseif city == "Hangzhou" then
            return nil
        end
        if #days == #dates then return days end
    end
    return nil
end
