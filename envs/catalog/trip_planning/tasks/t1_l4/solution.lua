return function(tools)
    -- Some lunch, dinner and sight of a city for a hotel of this price, by the rules of day 2; nil where there are none.
    local function second_day(city, price, restaurants, attractions)
        for _, sight in ipairs(attractions) do
            local ticket = tools.get_infos_by_attraction{attraction = sight, info_keywords = {"ticket"}}.ticket
            for i = 1, #restaurants do
                for j = i + 1, #restaurants do
                    local a, b = restaurants[i], restaurants[j]
                    local fits
                    if price >= 800 then
                        fits = a.price + b.price < 350 and a.rating >= 4.0 and b.rating >= 4.0 and ticket < 120
                    elseif price >= 500 then
                        fits = (a.rating >= 4.0 or b.rating >= 4.0) and ticket < 180
                    else
                        fits = price < 200 or a.rating >= 3.2 or b.rating >= 3.2
                    end
                    if fits then return a.name, b.name, sight end
                end
            end
        end
    end

    local function plan_second(city)
        local attractions = tools.get_all_attractions_by_city{city = city}
        local restaurants = {}
        for i, name in ipairs(tools.get_all_restaurants_by_city{city = city}) do
            restaurants[i] = tools.get_infos_by_restaurant{restaurant = name, info_keywords = {"price", "rating"}}
            restaurants[i].name = name
        end
        for _, hotel in ipairs(tools.get_all_hotels_by_city{city = city}) do
            local price = tools.get_infos_by_hotel{hotel = hotel, info_keywords = {"price"}}.price
            local lunch, dinner, sight = second_day(city, price, restaurants, attractions)
            if lunch then
                return {time = "2025-10-02", city = city, hotel = hotel, afternoon_restaurant = lunch,
                    afternoon_attraction = sight, evening_restaurant = dinner}
            end
        end
    end

    local function plan_free(city, date)
        local hotels = tools.get_all_hotels_by_city{city = city}
        local restaurants = tools.get_all_restaurants_by_city{city = city}
        local attractions = tools.get_all_attractions_by_city{city = city}
        if #hotels < 1 or #restaurants < 2 or #attractions < 1 then return nil end
        return {time = date, city = city, hotel = hotels[1], afternoon_restaurant = restaurants[1],
            afternoon_attraction = attractions[1], evening_restaurant = restaurants[2]}
    end

    local function dry(city, date)
        return tools.get_weather_by_city_date{city = city, date = date}.sky ~= "rain"
    end
    local function reached(from, to)
        for _, ride in ipairs(tools.get_inter_city_transport{from_city = from, to_city = to}) do
            if ride.vehicle == "train" and ride.minutes <= 240 then return true end
        end
        return false
    end

    if not dry("Hangzhou", "2025-10-01") then return nil end
    local first = plan_free("Hangzhou", "2025-10-01")
    if not first then return nil end
    local cities = tools.get_all_cities{}
    for _, city in ipairs(cities) do
        if city ~= "Hangzhou" and reached("Hangzhou", city) and dry(city, "2025-10-02") then
            local second = plan_second(city)
            for _, last in ipairs(second and cities or {}) do
                if last ~= "Hangzhou" and last ~= city and reached(city, last) and dry(last, "2025-10-03") then
                    local third = plan_free(last, "2025-10-03")
                    if third then return {first, second, third} end
                end
            end
        end
    end
    return nil
end
