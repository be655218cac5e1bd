-- Part of scripts that read or write however many fields of a hash.
local MOST = 1000 -- at once: what `unpack` puts them on holds 8,000

-- Their values; false for what is not there.
local function read_fields(key, names)
  if #names == 0 then
    return {}
  elseif #names <= MOST then
    return redis.call('HMGET', key, unpack(names))
  end
  local values = {}
  for from = 1, #names, MOST do
    local some = redis.call('HMGET', key, unpack(names, from, math.min(from + MOST - 1, #names)))
    for n = 1, #some do
      values[from + n - 1] = some[n]
    end
  end
  return values
end

-- fields: name, value, name, value, ..
local function write_fields(key, fields)
  for from = 1, #fields, MOST do
    redis.call('HSET', key, unpack(fields, from, math.min(from + MOST - 1, #fields)))
  end
end
