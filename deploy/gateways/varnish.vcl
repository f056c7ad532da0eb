# Varnish 7. Start it with larger limits, because a header may have only 8 KiB by default:
#
#     varnishd -a :8000 -f /etc/varnish/subjobs.vcl -p http_req_hdr_len=64k -p http_req_size=96k \
#         -p workspace_client=256k -p workspace_backend=256k

vcl 4.1;

backend subjobs {
    .host = "127.0.0.1";
    .port = "8080";
    .connect_timeout = 2s;
    # The server answers within 10 s, and keeps idle connections for 75 s.
    .first_byte_timeout = 15s;
}

sub vcl_recv {
    # Nothing is cached, because a count is exact at the time of the request. Returning here also skips the built-in rules,
    # which convert Host to lower case (signatures cover it) and pipe unknown methods.
    return (pass);
}

sub vcl_backend_fetch {
    # `wait` answers within 55 s.
    if (bereq.url ~ "^/subjobs/") {
        set bereq.first_byte_timeout = 60s;
    }
}
