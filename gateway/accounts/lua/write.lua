-- Writes all that was gathered. Behind endings.lua and whatever gathers.
do
  -- Which buckets change, and what runs.
  local names, known = {}, {}
  for i = 1, #endings, 2 do
    local took, used = endings[i], endings[i + 1]
    local many, runs, first = took[PLAN + 5], took[PLAN + 6], PLAN + NAMES
    local shape = first + many + runs + took[PLAN + 7] + 1
    for n = 1, many + runs do
      local name = took[first + n]
      if not known[name] then
        local unit = n <= many and took[shape]
        if not unit or (used[unit] and used[unit] ~= took[UNITS + unit]) then
          known[name] = 0
          names[#names + 1] = name
        end
      end
      shape = shape + BUCKET
    end
  end
  for n, value in ipairs(read_fields(BUCKETS, names)) do
    known[names[n]] = (value or 0) + 0
  end
  -- Buckets move from what was reserved to what was used. Given back is at most what the bucket would still have to
  -- refill of what this reservation left it with.
  for i = 1, #endings, 2 do
    local took, used = endings[i], endings[i + 1]
    local many, runs, first = took[PLAN + 5], took[PLAN + 6], PLAN + NAMES
    local shape = first + many + runs + took[PLAN + 7]
    local ticks = shape + many * BUCKET + runs * RUNNING + took[PLAN + 8] * LIMIT
    for n = 1, many do
      local unit = took[shape + 1]
      local should, did = used[unit], took[UNITS + unit]
      if should and should ~= did then
        local name = took[first + n]
        local full = max(known[name] / PARTS, tick)
        local more = (should - did) * took[shape + 2]
        if more < 0 then
          full = full - max(0, min(-more, took[ticks + n] - tick))
        elseif took[shape + 4] == 1 then -- a shadow counts to the brim
          full = max(full, min(full + more, tick + took[shape + 3]))
        else
          full = full + more
        end
        known[name] = full * PARTS
      end
      shape = shape + BUCKET
    end
    for n = first + many + 1, first + many + runs do
      known[took[n]] = known[took[n]] - 1
    end
  end
  local fields = {}
  for n, name in ipairs(names) do
    fields[2 * n - 1], fields[2 * n] = name, max(0, floor(known[name] + 0.5))
  end
  write_fields(BUCKETS, fields)
end
do
  local names, sums = {}, {}
  for _, days in ipairs(days_charged) do
    local day, month, total = windows_of(days)
    for subject, nano in pairs(charges[days]) do
      for w = 1, 3 do
        local name = (w == 1 and day or w == 2 and month or total) .. subject
        if not sums[name] then
          names[#names + 1] = name
        end
        sums[name] = (sums[name] or 0) + nano
      end
    end
  end
  local fields = {}
  for n, value in ipairs(read_fields(SPEND, names)) do
    fields[2 * n - 1], fields[2 * n] = names[n], (value or 0) + sums[names[n]]
  end
  write_fields(SPEND, fields)
end
if #gone > 0 then
  call('DEL', unpack(gone))
end
if #unleased > 0 then
  call('ZREM', LEASES, unpack(unleased))
end
