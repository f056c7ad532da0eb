-- Sixteen requests in one write.
local requests

function init(args)
    requests = string.rep(wrk.format(), 16)
end

function request()
    return requests
end
