return function(tools)
    local city = "Hangzhou"
    local restaurants = tools.get_all_restaurants_by_city{city = city}
    local attractions = tools.get_all_attractions_by_city{city = city}
    if #restaurants < 2 or #attractions < 1 then return nil end
    for _, hotel in ipairs(tools.get_all_hotels_by_city{city = city}) do
        if tools.get_infos_by_hotel{hotel = hotel, info_keywords = {"price"}}.price < 500 then
            return {{time = "2025-10-01", city = city, hotel = hotel, afternoon_restaurant = restaurants[1],
                afternoon_attraction = attractions[1], evening_restaurant = restaurants[2]}}
        end
    end
    return nil
end
